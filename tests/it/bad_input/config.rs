//! sexton.yaml: the YAML itself, keys and values, and what they say against each other.

use super::{Case, GOOD, Table, with};
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
        .case(Case::new("file missing", Site::new(GOOD), "doctor -c other.yaml").says(
            78,
            "\
error: other.yaml: cannot be read: there is no such file
  hint: create it, or name another one with --config or SEXTON_CONFIG",
        ))
        .case(Case { site: elsewhere.site.env("SEXTON_CONFIG", "gone.yaml"), ..elsewhere }.says(
            78,
            "\
error: gone.yaml: cannot be read: there is no such file
  hint: create it, or name another one with --config or SEXTON_CONFIG",
        ))
        .case(Case::new("file is a folder", folder, "doctor -c conf").says(
            78,
            "\
error: conf: cannot be read: it is a folder
  hint: name the file in it",
        ))
        .case(Case::new("file unreadable", unreadable, "doctor").without_root().says(
            78,
            "\
error: sexton.yaml: cannot be read: permission denied
  hint: let the user that runs sexton read the file and enter its folders",
        ))
        .case(text("file empty", "").says(
            78,
            "\
error: sexton.yaml: is empty
  hint: fill it in; `{}` alone takes every default, where there are defaults",
        ))
        .case(text("file of comments only", "# nothing yet\n").says(
            78,
            "\
error: sexton.yaml: is empty
  hint: fill it in; `{}` alone takes every default, where there are defaults",
        ))
        .case(text("file binary", [0x7f, 0x45, 0x4c, 0x46, 0xff, 0xfe, 0x00]).says(
            78,
            "\
error: sexton.yaml: cannot be read: it is not text in UTF-8
  hint: save it as UTF-8",
        ))
        .case(text("file in UTF-16", [0xff, 0xfe, b'a', 0, b':', 0, b' ', 0, b'1', 0]).says(
            78,
            "\
error: sexton.yaml: cannot be read: it is not text in UTF-8
  hint: save it as UTF-8",
        ))
        .case(text("file with control characters", "postgres:\n  host: \u{1}\n").says(
            78,
            "\
error: sexton.yaml:2:9: this is not YAML: unexpected character: `\\u{1}'
  hint: check indentation, quotes and brackets here and in the line above",
        ))
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
        .case(changed("syntax error", "{main: temporal}", "{main: temporal").says(
            78,
            "\
error: sexton.yaml:7:7: this is not YAML: while parsing a flow mapping, did not find expected ',' or '}'
  hint: check indentation, quotes and brackets here and in the line above",
        ))
        .case(changed("quote not closed", "user: sexton", "user: 'sexton").says(
            78,
            "\
error: sexton.yaml:4:9: this is not YAML: unclosed quote
  hint: check indentation, quotes and brackets here and in the line above",
        ))
        .case(changed("tab", "  port: 1", "\tport: 1").says(
            78,
            "\
error: sexton.yaml:2:9: a tab where only spaces may be
  hint: indent with spaces",
        ))
        .case(changed("wrong indentation", "  port: 1", "    port: 1").says(
            78,
            "\
error: sexton.yaml:3:9: this is not YAML: mapping values are not allowed in this context
  hint: check indentation, quotes and brackets here and in the line above",
        ))
        .case(changed("duplicate key", "  port: 1", "  host: db\n  port: 1").says(
            78,
            "\
error: sexton.yaml:3:3: the key `host` is there twice
  hint: keep one of the two; which one counts would be a guess",
        ))
        .case(added("duplicate section", "ledger: {database: other}\n").says(
            78,
            "\
error: sexton.yaml:9:1: the key `ledger` is there twice
  hint: keep one of the two; which one counts would be a guess",
        ))
        .case(added("two documents", "---\nledger: {database: other}\n").says(
            78,
            "\
error: sexton.yaml:10:1: a second document begins here
  hint: keep one document per file; remove the `---`",
        ))
        .case(text("a list", "- postgres\n- ledger\n").says(
            78,
            "\
error: sexton.yaml:1:1: a section with keys is expected here
  hint: write its keys below it, or `{key: value}`",
        ))
        .case(text("a text", "hello\n").says(
            78,
            "\
error: sexton.yaml:1:1: a section with keys is expected here
  hint: write its keys below it, or `{key: value}`",
        ))
        .case(text("nested too deep, in brackets", deep).says(
            78,
            "\
error: sexton.yaml:1:11: a section with keys is expected here
  hint: write its keys below it, or `{key: value}`",
        ))
        .case(text("nested too deep, by indentation", deep_maps).says(
            78,
            "\
error: sexton.yaml:1:1: unknown key `a`
  hint: known here: temporal, postgres, replica, scratch, target, kubernetes, search, store, ledger, policies, migrations, http, webhooks",
        ))
        .case(text("aliases of aliases", aliases).says(
            78,
            "\
error: sexton.yaml:1:1: unknown key `a`
  hint: known here: temporal, postgres, replica, scratch, target, kubernetes, search, store, ledger, policies, migrations, http, webhooks",
        ))
        .check();
}

#[test]
fn keys_and_types() {
    Table::default()
        .case(changed("unknown key", "  port: 1", "  prot: 1").says(
            78,
            "\
error: sexton.yaml:3:3: unknown key `prot`
  hint: did you mean `port`?",
        ))
        .case(changed("unknown section", "ledger:", "leger:").says(
            78,
            "\
error: sexton.yaml:7:1: unknown key `leger`
  hint: did you mean `ledger`?",
        ))
        .case(added("unknown key without a likely one", "kafka: {}\n").says(
            78,
            "\
error: sexton.yaml:9:1: unknown key `kafka`
  hint: known here: temporal, postgres, replica, scratch, target, kubernetes, search, store, ledger, policies, migrations, http, webhooks",
        ))
        .case(changed("key missing", "  user: sexton\n", "").says(
            78,
            "\
error: sexton.yaml:5:3: `user` is missing
  hint: add `user:`",
        ))
        .case(text("section missing", "postgres: {host: x, user: y, databases: {main: z}}\n").says(
            78,
            "\
error: sexton.yaml:1:1: `ledger` is missing
  hint: add `ledger:`",
        ))
        .case(changed("databases missing", "  databases: {main: temporal}\n", "").says(
            78,
            "\
error: sexton.yaml:1:1: postgres: Temporal's databases are not named
  hint: add `databases: {main: temporal}` under `postgres:`",
        ))
        .case(changed("text for a number", "port: 1", "port: five").says(
            78,
            "\
error: sexton.yaml:3:9: a whole number from 0 to 65535 is expected here
  hint: write it without quotes and without a unit",
        ))
        .case(changed("list for a text", "host: 127.0.0.1", "host: [a, b]").says(
            78,
            "\
error: sexton.yaml:2:9: one value is expected here
  hint: write a single text or number",
        ))
        .case(changed("text for a section", "{main: temporal}", "temporal").says(
            78,
            "\
error: sexton.yaml:6:14: a section with keys is expected here
  hint: write its keys below it, or `{key: value}`",
        ))
        .case(changed("empty value", "host: 127.0.0.1", "host:").says(
            78,
            "\
error: sexton.yaml:2:7: a value is missing here
  hint: write one after the colon, or remove the key",
        ))
        .case(changed("negative", "port: 1", "port: -1").says(
            78,
            "\
error: sexton.yaml:3:9: a whole number from 0 to 65535 is expected here
  hint: write it without quotes and without a unit",
        ))
        .case(changed("port too large", "port: 1", "port: 70000").says(
            78,
            "\
error: sexton.yaml:3:9: a whole number from 0 to 65535 is expected here
  hint: write it without quotes and without a unit",
        ))
        .case(changed("overflow", "port: 1", "port: 99999999999999999999999").says(
            78,
            "\
error: sexton.yaml:3:9: a whole number from 0 to 65535 is expected here
  hint: write it without quotes and without a unit",
        ))
        .case(changed("duration without a unit", "port: 1", "connect_timeout: 10").says(
            78,
            "\
error: sexton.yaml:3:20: `10` is not a duration
  hint: write a whole number and a unit (ms, s, m, h, d), such as `30d` or `12h`",
        ))
        .case(changed("duration of an unknown unit", "port: 1", "connect_timeout: 2w").says(
            78,
            "\
error: sexton.yaml:3:20: `2w` is not a duration
  hint: write a whole number and a unit (ms, s, m, h, d), such as `30d` or `12h`",
        ))
        .case(changed("duration negative", "port: 1", "connect_timeout: -5s").says(
            78,
            "\
error: sexton.yaml:3:20: `-5s` is not a duration
  hint: write a whole number and a unit (ms, s, m, h, d), such as `30d` or `12h`",
        ))
        .case(changed("duration zero", "port: 1", "connect_timeout: 0s").says(
            78,
            "\
error: sexton.yaml:3:3: `postgres.connect_timeout` is zero: nothing would ever be in time
  hint: write a duration such as `10s`, or leave the key out",
        ))
        .case(changed("duration overflows", "port: 1", "connect_timeout: 99999999999999999999d").says(
            78,
            "\
error: sexton.yaml:3:20: `99999999999999999999d` is too large
  hint: a duration is a thousand years at most, a size 16 million terabytes",
        ))
        .case(changed("TLS mode unknown", "port: 1", "tls: {mode: verify_full}").says(
            78,
            "\
error: sexton.yaml:3:15: `verify_full` is not known here
  hint: did you mean `verify-full`?",
        ))
        .check();
}

#[test]
fn values() {
    let plain = "temporal: {address: 'localhost:7233', api_key: {env: IT_SECRET}}\n";
    let both =
        "search: {url: 'https://s:9200', basic: {user: u, password: {env: IT_SECRET}}, api_key: {env: IT_SECRET}}\n";
    Table::default()
        .case(changed("key file's content inline", "port: 1", "tls: {ca: '-----BEGIN CERTIFICATE-----'}").says(78, "\
error: sexton.yaml:3:13: here stands a file's content instead of its path
  hint: put it into a file and write the file's path"))
        .case(added("S3 endpoint without a scheme", "store: {s3: {bucket: b, endpoint: 'minio:9000'}}\n").says(78, "\
error: sexton.yaml:9:35: this is not an http or https address
  hint: write for example `https://s3.example.com`"))
        .case(added("url with credentials and a wrong port", &format!("search: {{url: 'https://u:{}@s:920000'}}\n", super::SECRET)).says(78, "\
error: sexton.yaml:9:15: this is not an http or https address: invalid port number
  hint: write for example `http://elasticsearch:9200`"))
        .case(changed("host empty", "host: 127.0.0.1", "host: ''").says(78, "\
error: sexton.yaml:2:3: `postgres.host` is empty
  hint: write the host"))
        .case(changed("database name empty", "{main: temporal}", "{main: ''}").says(78, "\
error: sexton.yaml:6:3: postgres.databases.main: is not the name of a database
  hint: PostgreSQL's names have 1 to 63 bytes"))
        .case(changed("ledger is Temporal's database", "database: sexton", "database: temporal").says(78, "\
error: sexton.yaml:8:3: ledger.database: is one of Temporal's databases; the ledger needs its own, which outlives a restore of theirs
  hint: write `database: sexton` and run `sexton ledger init`"))
        .case(changed("visibility is main", "{main: temporal}", "{main: temporal, visibility: temporal}").says(78, "\
error: sexton.yaml:6:3: postgres.databases.visibility: is the same database as `main`
  hint: leave it out when visibility is in a search engine"))
        .case(added("replica with databases", "replica: {host: r, user: u, databases: {main: t}}\n").says(78, "\
error: sexton.yaml:9:40: a standby has the databases of its primary
  hint: remove it: those of `postgres:` are read"))
        .case(added("scratch with databases", "scratch: {host: s, user: u, databases: {main: t}}\n").says(78, "\
error: sexton.yaml:9:40: the scratch server has no databases of Temporal's
  hint: remove it: sexton makes its own databases there"))
        .case(changed("bin_dir is no folder", "port: 1", "bin_dir: nowhere").says(78, "\
error: sexton.yaml:3:12: nowhere is not a folder
  hint: name the folder that holds pg_dump, or leave it out"))
        .case(changed("CA file missing", "port: 1", "tls: {mode: verify-full, ca: gone.pem}").says(78, "\
error: sexton.yaml:3:32: gone.pem cannot be read: No such file or directory
  hint: check the path and that the user that runs sexton may read it"))
        .case(changed("client certificate without a key", "port: 1", "tls: {certificate: sexton.yaml}").says(78, "\
error: sexton.yaml:3:22: a client certificate needs both `certificate` and `key`
  hint: add the other one"))
        .case(added("Temporal's address with a scheme", "temporal: {address: 'http://localhost:7233'}\n").says(78, "\
error: sexton.yaml:9:21: `http://localhost:7233` is not host:port
  hint: write the frontend's address without a scheme, for example `temporal-frontend.temporal:7233`; TLS is turned on with `tls: {}`"))
        .case(added("Temporal's address without a port", "temporal: {address: localhost}\n").says(78, "\
error: sexton.yaml:9:21: `localhost` is not host:port
  hint: write the frontend's address without a scheme, for example `temporal-frontend.temporal:7233`; TLS is turned on with `tls: {}`"))
        .case(added("API key without TLS", plain).says(78, "\
error: sexton.yaml:9:48: an API key would travel unencrypted
  hint: turn TLS on with `tls: {}`"))
        .case(added("url that is none", "search: {url: elasticsearch}\n").says(78, "\
error: sexton.yaml:9:15: this is not an http or https address
  hint: write for example `http://elasticsearch:9200`"))
        .case(added("url of another protocol", "search: {url: 'ftp://s:9200'}\n").says(78, "\
error: sexton.yaml:9:15: this is not an http or https address
  hint: write for example `http://elasticsearch:9200`"))
        .case(added("url without a scheme", "search: {url: 'localhost:9200'}\n").says(78, "\
error: sexton.yaml:9:15: this is not an http or https address
  hint: write for example `http://elasticsearch:9200`"))
        .case(added("url with credentials", &format!("search: {{url: 'https://u:{}@s:9200'}}\n", super::SECRET)).says(78, "\
error: sexton.yaml:9:15: this address holds a login
  hint: take it out and write `basic: {user: …, password: {env: NAME}}`"))
        .case(added("password and API key", both).says(78, "\
error: sexton.yaml:9:88: `basic` and `api_key` exclude each other
  hint: keep one of them"))
        .case(added("S3 and directory", "store: {s3: {bucket: b}, directory: d}\n").says(78, "\
error: sexton.yaml:9:8: a store is either `s3` or `directory`
  hint: write one of `s3: {bucket: …}` and `directory: PATH`"))
        .case(added("store of neither kind", "store: {}\n").says(78, "\
error: sexton.yaml:9:8: a store is either `s3` or `directory`
  hint: write one of `s3: {bucket: …}` and `directory: PATH`"))
        .case(added("store of an unknown kind", "store: {gcs: {bucket: b}}\n").says(78, "\
error: sexton.yaml:9:9: unknown key `gcs`
  hint: known here: s3, directory, identities"))
        .case(added("recipes folder missing", "migrations: {recipes: nowhere}\n").says(78, "\
error: sexton.yaml:9:1: migrations.recipes: nowhere is not a folder
  hint: name an existing folder"))
        .check();
}
