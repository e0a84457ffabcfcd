//! sexton.yaml: the YAML itself, keys and values, and what they say against each other.

use super::{Case, GOOD, TODO, Table, with};
use crate::support::site::Site;

/// The good configuration with a part of it changed.
fn changed(name: &'static str, from: &str, to: &str) -> Case {
    Case::new(name, Site::new(&with(GOOD, from, to)), "doctor")
}

/// The good configuration with something added.
fn added(name: &'static str, more: &str) -> Case {
    Case::new(name, Site::new(&format!("{GOOD}{more}")), "doctor")
}

/// Another text altogether.
fn text(name: &'static str, bytes: impl AsRef<[u8]>) -> Case {
    let site = Site::new("");
    std::fs::write(site.path().join("sexton.yaml"), bytes).unwrap();
    Case::new(name, site, "doctor")
}

#[test]
fn the_file() {
    let unreadable = Site::new(GOOD);
    let path = unreadable.path().join("sexton.yaml");
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
    let folder = Site::new(GOOD);
    std::fs::create_dir(folder.path().join("conf")).unwrap();
    let elsewhere = Case::new("file named by a variable is missing", Site::new(GOOD), "doctor");
    Table::default()
        .case(Case::new("file missing", Site::new(GOOD), "doctor -c other.yaml").says(78, TODO))
        .case(Case { site: elsewhere.site.env("SEXTON_CONFIG", "gone.yaml"), ..elsewhere }.says(78, TODO))
        .case(Case::new("file is a folder", folder, "doctor -c conf").says(78, TODO))
        .case(Case::new("file unreadable", unreadable, "doctor").as_ordinary_user().says(78, TODO))
        .case(text("file empty", "").says(78, TODO))
        .case(text("file of comments only", "# nothing yet\n").says(78, TODO))
        .case(text("file binary", [0x7f, 0x45, 0x4c, 0x46, 0xff, 0xfe, 0x00]).says(78, TODO))
        .case(text("file in UTF-16", [0xff, 0xfe, b'a', 0, b':', 0, b' ', 0, b'1', 0]).says(78, TODO))
        .case(text("file with control characters", "postgres:\n  host: \u{1}\n").says(78, TODO))
        .check();
}

#[test]
fn a_byte_order_mark_is_no_mistake() {
    let site = Site::new(&format!("\u{feff}{GOOD}")).env("IT_SECRET", super::SECRET);
    let said = site.run(&["doctor"]).expect(1);
    assert!(said.out.contains("PostgreSQL at 127.0.0.1:1 cannot be reached"), "{said:?}");
}

#[test]
fn yaml() {
    let deep = format!("postgres: {}{}\n", "[".repeat(100_000), "]".repeat(100_000));
    let deep_maps: String = (0..3000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    let aliases = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n\
                   d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e]\n";
    Table::default()
        .case(changed("syntax error", "{main: temporal}", "{main: temporal").says(78, TODO))
        .case(changed("quote not closed", "user: sexton", "user: 'sexton").says(78, TODO))
        .case(changed("tab", "  port: 1", "\tport: 1").says(78, TODO))
        .case(changed("wrong indentation", "  port: 1", "    port: 1").says(78, TODO))
        .case(changed("duplicate key", "  port: 1", "  host: db\n  port: 1").says(78, TODO))
        .case(added("duplicate section", "ledger: {database: other}\n").says(78, TODO))
        .case(added("two documents", "---\nledger: {database: other}\n").says(78, TODO))
        .case(text("a list", "- postgres\n- ledger\n").says(78, TODO))
        .case(text("a text", "hello\n").says(78, TODO))
        .case(text("nested too deep, in brackets", deep).says(78, TODO))
        .case(text("nested too deep, by indentation", deep_maps).says(78, TODO))
        .case(text("aliases of aliases", aliases).says(78, TODO))
        .check();
}

#[test]
fn keys_and_types() {
    Table::default()
        .case(changed("unknown key", "  port: 1", "  prot: 1").says(78, TODO))
        .case(changed("unknown section", "ledger:", "leger:").says(78, TODO))
        .case(added("unknown key without a likely one", "kafka: {}\n").says(78, TODO))
        .case(changed("key missing", "  user: sexton\n", "").says(78, TODO))
        .case(text("section missing", "postgres: {host: x, user: y, databases: {main: z}}\n").says(78, TODO))
        .case(changed("databases missing", "  databases: {main: temporal}\n", "").says(78, TODO))
        .case(changed("text for a number", "port: 1", "port: five").says(78, TODO))
        .case(changed("list for a text", "host: 127.0.0.1", "host: [a, b]").says(78, TODO))
        .case(changed("text for a section", "{main: temporal}", "temporal").says(78, TODO))
        .case(changed("empty value", "host: 127.0.0.1", "host:").says(78, TODO))
        .case(changed("negative", "port: 1", "port: -1").says(78, TODO))
        .case(changed("port too large", "port: 1", "port: 70000").says(78, TODO))
        .case(changed("overflow", "port: 1", "port: 99999999999999999999999").says(78, TODO))
        .case(changed("duration without a unit", "port: 1", "connect_timeout: 10").says(78, TODO))
        .case(changed("duration of an unknown unit", "port: 1", "connect_timeout: 2w").says(78, TODO))
        .case(changed("duration negative", "port: 1", "connect_timeout: -5s").says(78, TODO))
        .case(changed("duration zero", "port: 1", "connect_timeout: 0s").says(78, TODO))
        .case(changed("duration overflows", "port: 1", "connect_timeout: 99999999999999999999d").says(78, TODO))
        .case(changed("TLS mode unknown", "port: 1", "tls: {mode: verify_full}").says(78, TODO))
        .check();
}

#[test]
fn values() {
    let plain = "temporal: {address: 'localhost:7233', api_key: {env: IT_SECRET}}\n";
    let both = "search: {url: 'https://s:9200', basic: {user: u, password: {env: IT_SECRET}}, api_key: {env: IT_SECRET}}\n";
    Table::default()
        .case(changed("key file's content inline", "port: 1", "tls: {ca: '-----BEGIN CERTIFICATE-----'}").says(78, TODO))
        .case(added("S3 endpoint without a scheme", "store: {s3: {bucket: b, endpoint: 'minio:9000'}}\n").says(78, TODO))
        .case(added("url with credentials and a wrong port", &format!("search: {{url: 'https://u:{}@s:920000'}}\n", super::SECRET)).says(78, TODO))
        .case(changed("host empty", "host: 127.0.0.1", "host: ''").says(78, TODO))
        .case(changed("database name empty", "{main: temporal}", "{main: ''}").says(78, TODO))
        .case(changed("ledger is Temporal's database", "database: sexton", "database: temporal").says(78, TODO))
        .case(changed("visibility is main", "{main: temporal}", "{main: temporal, visibility: temporal}").says(78, TODO))
        .case(added("scratch with databases", "scratch: {host: s, user: u, databases: {main: t}}\n").says(78, TODO))
        .case(changed("bin_dir is no folder", "port: 1", "bin_dir: nowhere").says(78, TODO))
        .case(changed("CA file missing", "port: 1", "tls: {mode: verify-full, ca: gone.pem}").says(78, TODO))
        .case(changed("client certificate without a key", "port: 1", "tls: {certificate: sexton.yaml}").says(78, TODO))
        .case(added("Temporal's address with a scheme", "temporal: {address: 'http://localhost:7233'}\n").says(78, TODO))
        .case(added("Temporal's address without a port", "temporal: {address: localhost}\n").says(78, TODO))
        .case(added("API key without TLS", plain).says(78, TODO))
        .case(added("url that is none", "search: {url: elasticsearch}\n").says(78, TODO))
        .case(added("url of another protocol", "search: {url: 'ftp://s:9200'}\n").says(78, TODO))
        .case(added("url without a scheme", "search: {url: 'localhost:9200'}\n").says(78, TODO))
        .case(added("url with credentials", &format!("search: {{url: 'https://u:{}@s:9200'}}\n", super::SECRET)).says(78, TODO))
        .case(added("password and API key", both).says(78, TODO))
        .case(added("S3 and directory", "store: {s3: {bucket: b}, directory: d}\n").says(78, TODO))
        .case(added("store of neither kind", "store: {}\n").says(78, TODO))
        .case(added("store of an unknown kind", "store: {gcs: {bucket: b}}\n").says(78, TODO))
        .case(added("recipes folder missing", "migrations: {recipes: nowhere}\n").says(78, TODO))
        .check();
}
