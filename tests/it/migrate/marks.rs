//! Whose the databases on the target are. The judges are the target's own list and the comments there.

use super::moves::quiet;
use crate::support::postgres::Server;

#[test]
fn what_a_migration_made_is_its_own_under_another_spelling_of_the_source() {
    let ground = quiet("spelled");
    ground.site.run(&["migrate", "run", "move-database", "--until", "copy", "-q"]).expect(0);
    assert!(ground.has_target());
    let file = ground.site.path().join("sexton.yaml");
    let config = std::fs::read_to_string(&file).unwrap();
    let respelled = config.replacen("postgres: {host: 127.0.0.1,", "postgres: {host: localhost,", 1);
    assert_ne!(respelled, config);
    std::fs::write(&file, respelled).unwrap();
    ground.site.run(&["migrate", "undo", "move-database", "-q"]).expect(0);
    assert!(!ground.has_target() && ground.lets_temporal_in());
}

#[test]
fn a_database_that_is_not_its_own_any_more_is_left_and_told_of() {
    let ground = quiet("not_own");
    ground.site.run(&["migrate", "run", "move-database", "--until", "copy", "-q"]).expect(0);
    Server::Pg17.psql("postgres", &format!("COMMENT ON DATABASE {} IS 'theirs now'", ground.target));
    let undone = ground.site.run(&["migrate", "undo", "move-database", "--json", "-q"]).expect(0).json();
    assert!(ground.has_target());
    let steps = undone["runs"][0]["report"]["migrations"][0]["steps"].as_array().unwrap();
    let restore = steps.iter().find(|step| step["step"] == "restore").unwrap();
    assert_eq!(restore["found"]["left_on_target"], serde_json::json!([ground.target]), "{undone}");
}
