//! The real binary, killed at random instants while each backup builds on the last.

use std::collections::BTreeMap;

use super::rounds;
use crate::backup::assert_equal_dumps;
use crate::kills::{Ground, Seed};
use crate::support::postgres::Scratch;

/// Rows go and come, so that there is something gone in chunks that stay.
const DAY: &str = "DELETE FROM big WHERE id % 37 = (SELECT count(*) FROM small) % 37; INSERT INTO small (t) VALUES ('day');
    INSERT INTO big SELECT (SELECT max(id) FROM big) + i, 1, md5(random()::text) FROM generate_series(1, 300) i; VACUUM big";

#[test]
fn killed_backups_that_build_on_each_other_are_whole_or_not_there() {
    let ground = Ground::new("{directory: store}");
    let whole = ground.timed(&["once", "backup", "-q"]);
    let mut random = Seed::new("backups that build on each other");
    let mut kept: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut at_kills = 0;
    kept.insert(ground.whole_backups().remove(0), ground.source.dump());
    for _ in 0..rounds(3) {
        if random.below(2) == 0 {
            ground.churn()
        } else {
            drop(ground.source.psql(DAY))
        }
        ground.kill_at(&["once", "backup", "-q"], random.part_of(whole));
        let there = ground.whole_backups();
        let new: Vec<&String> = there.iter().filter(|id| !kept.contains_key(*id)).collect();
        assert!(there.len() == kept.len() + new.len() && new.len() <= 1, "{there:?} after {:?}", kept.keys());
        if let Some(id) = new.first() {
            at_kills += 1;
            ground.restores_equal();
            kept.insert((*id).clone(), ground.source.dump());
        }
        if random.below(4) == 0 {
            ground.site.run(&["once", "backup", "-q"]).expect(0);
            ground.restores_equal();
            kept.insert(ground.whole_backups().remove(0), ground.source.dump());
        }
    }
    ground.source.psql(DAY);
    ground.site.run(&["once", "backup", "-q"]).expect(0);
    ground.restores_equal();
    println!("{} backups, {at_kills} of them by runs that were killed", kept.len() + 1);
    ground.site.run(&["backup", "check"]).expect(0);
    for _ in 0..2 {
        let place = usize::try_from(random.below(kept.len() as u64)).unwrap();
        let (id, dump) = kept.iter().nth(place).unwrap();
        let target = Scratch::new("restored");
        ground.site.run(&["backup", "restore", id, "--into", &target.name]).expect(0);
        assert_equal_dumps(dump, &target.dump());
    }
}
