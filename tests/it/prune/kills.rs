//! The real binary, killed at random instants of a prune: what it leaves is whole, and the next run goes on. How often
//! and from which seed is told as in the other kills.

use std::time::Instant;

use super::*;
use crate::kills::{Seed, kills};
use crate::support::s3::Bucket;
use crate::support::site::{Site, postgres_sections};
use crate::support::stack;

/// A site whose policy keeps two backups, and how to run it.
struct Ground {
    source: Scratch,
    site: Site,
    // Dropped last.
    ledger: Scratch,
}

impl Ground {
    fn new(store: &str) -> Self {
        let (source, ledger) = (Scratch::new("killed"), Scratch::new("ledger"));
        source.psql(
            "CREATE TABLE big (id bigint PRIMARY KEY, v int NOT NULL, t text NOT NULL);
             INSERT INTO big SELECT i, 0, md5(i::text) || md5((-i)::text) FROM generate_series(1, 12000) i;",
        );
        let site = Site::new(&format!("{}store: {store}\n", postgres_sections(&ledger, &source.name)))
            .policy("backup", "range_size: 64kb\nkeep: {last: 2}\ngrace: 1h\n");
        site.run(&["ledger", "init"]).expect(0);
        Self { source, site, ledger }
    }

    fn backup(&self) {
        self.source.psql("UPDATE big SET v = v + 1 WHERE id % 200 = 0");
        std::thread::sleep(Duration::from_millis(1100));
        self.site.run(&["once", "backup", "-q"]).expect(0);
    }

    fn kill_at(&self, at: Duration) {
        let mut running = self.site.start(&["once", "prune", "-q"], "killed.log");
        std::thread::sleep(at);
        running.signal("KILL");
        running.wait();
    }

    /// Every backup that is listed is whole, and the two newest are among them.
    fn assert_whole(&self) -> usize {
        let listed = self.site.run(&["backup", "list", "--json"]).expect(0).json();
        let listed = listed["backups"].as_array().unwrap();
        assert!(listed.len() >= 2 && listed.iter().all(|backup| backup["state"] == "readable"), "{listed:?}");
        self.site.run(&["backup", "check", "-q"]).expect(0);
        listed.len()
    }

    fn restores_equal(&self) {
        let target = Scratch::new("restored");
        self.site.run(&["backup", "restore", "--into", &target.name]).expect(0);
        assert_eq!(target.dump(), self.source.dump());
    }
}

#[test]
fn a_killed_prune_of_a_directory_is_taken_up_again() {
    let ground = Ground::new("{directory: store}");
    let store = ground.site.path().join("store");
    // What was freed before is due, what goes now waits, and leftovers of both are there.
    let fill = || {
        ground.backup();
        ground.site.run(&["once", "prune", "-q"]).expect(0);
        age(&store, Duration::from_secs(7200));
        ground.backup();
        ground.backup();
    };
    for _ in 0..3 {
        ground.backup();
    }
    fill();
    let clock = Instant::now();
    ground.site.run(&["once", "prune", "-q"]).expect(0);
    let whole = clock.elapsed();
    let mut seed = Seed::new("prunes");
    let mut swept = 0;
    for _ in 0..kills() {
        fill();
        let before = files(&store);
        ground.kill_at(seed.part_of(whole));
        ground.assert_whole();
        let said = ground.site.run(&["once", "prune", "--json"]).expect(0).json();
        swept += said["runs"][0]["report"]["removed"]["chunks"].as_u64().unwrap_or_default();
        assert_eq!(ground.assert_whole(), 2);
        // When all has waited for long enough, nothing is left of what went.
        for _ in 0..2 {
            age(&store, Duration::from_secs(4 * 3600));
            ground.site.run(&["once", "prune", "-q"]).expect(0);
        }
        let left = files(&store);
        let named: BTreeSet<String> = left
            .iter()
            .filter(|(name, _)| name.ends_with("/manifest.json"))
            .flat_map(|(_, text)| named_by(text))
            .collect();
        let mut expected: BTreeSet<String> = named.iter().map(|id| format!("chunks/{}/{id}", &id[..2])).collect();
        expected.extend(["prune/clock".to_owned(), "prune/marks.json".to_owned()]);
        let of_backups = |name: &&String| name.ends_with("/manifest.json") || name.ends_with("/manifest.b3");
        let manifests: BTreeSet<String> = left.keys().filter(of_backups).cloned().collect();
        assert_eq!(manifests.len(), 4);
        expected.extend(manifests);
        assert_eq!(left.keys().cloned().collect::<BTreeSet<_>>(), expected);
        for (name, bytes) in left.iter().filter(|(name, _)| !name.starts_with("prune/")) {
            assert!(before[name] == *bytes, "{name} was changed");
        }
    }
    println!("{swept} chunks were left to sweep after the kills");
    ground.restores_equal();
    assert_eq!(ground.ledger.psql("SELECT count(*) FROM runs WHERE outcome = 'running'"), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_prune_of_a_bucket_is_taken_up_again() {
    let bucket = Bucket::new().await;
    let store = format!(
        "{{s3: {{bucket: {}, prefix: kills, region: {}, endpoint: '{}', path_style: true, credentials: \
         {{access_key: {{env: STACK_S3_ACCESS_KEY}}, secret_key: {{env: STACK_S3_SECRET_KEY}}}}}}}}",
        bucket.name,
        stack().get("S3_REGION"),
        stack().get("S3_ENDPOINT")
    );
    let done = tokio::task::spawn_blocking(move || {
        let ground = Ground::new(&store);
        let mut seed = Seed::new("prunes of a bucket");
        let mut whole = Duration::from_secs(1);
        for _ in 0..kills() {
            for _ in 0..4 {
                ground.backup();
            }
            ground.kill_at(seed.part_of(whole));
            ground.assert_whole();
            let clock = Instant::now();
            ground.site.run(&["once", "prune", "-q"]).expect(0);
            whole = clock.elapsed();
            assert_eq!(ground.assert_whole(), 2);
        }
        ground.restores_equal();
    });
    let done = done.await;
    bucket.remove().await;
    done.unwrap();
}
