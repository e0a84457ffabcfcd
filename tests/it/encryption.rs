//! Encrypted backups. The judges are age's own command, zstd, the store's files, and pg_dump of both sides.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::postgres::{Scratch, Server};
use crate::support::site::{Said, Site, postgres_sections};
use crate::support::stack;

/// A value that no file of a store may hold in the clear.
const TOKEN: &str = "4111-1111-1111-1111";

struct Ground {
    source: Scratch,
    ledger: Scratch,
    keys: tempfile::TempDir,
    store: tempfile::TempDir,
    site: Site,
}

impl Ground {
    fn new() -> Self {
        let (source, ledger) = (Scratch::new("sealed"), Scratch::new("ledger"));
        source.psql(&format!(
            "CREATE TABLE cards (id int PRIMARY KEY, t text NOT NULL); \
             INSERT INTO cards SELECT i, '{TOKEN} ' || md5(i::text) FROM generate_series(1, 9000) i; \
             CREATE TABLE empty (a int)"
        ));
        let (keys, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let site = site(&source, &ledger, store.path(), &[]);
        site.run(&["ledger", "init"]).expect(0);
        Self { source, ledger, keys, store, site }
    }

    /// A new key pair: the file of the secret key, and the public one.
    fn key(&self, name: &str) -> (PathBuf, String) {
        let file = self.keys.path().join(name);
        let said = self.site.run(&["backup", "keygen", "--output", file.to_str().unwrap()]).expect(0);
        (file, said.out.trim().to_owned())
    }

    /// Makes a backup for these recipients; its report.
    fn backup(&self, recipients: &[&str], renew: bool) -> Value {
        let policy = format!(
            "range_size: 64kb\nencryption: {{recipients: [{}], renew: {renew}}}\n",
            recipients.iter().map(|key| format!("'{key}'")).collect::<Vec<_>>().join(", ")
        );
        let site = site(&self.source, &self.ledger, self.store.path(), &[]).policy("backup", &policy);
        let done = site.run(&["once", "backup", "--json", "-q"]).expect(0).json();
        done["runs"][0]["report"].clone()
    }

    /// Restores a backup with these secret keys.
    fn restore(&self, id: &Value, keys: &[&Path], target: &Scratch) -> Said {
        let site = site(&self.source, &self.ledger, self.store.path(), keys);
        site.run(&["backup", "restore", id.as_str().unwrap(), "--into", &target.name, "-q"])
    }

    fn restores_equal(&self, report: &Value, keys: &[&Path]) {
        let target = Scratch::new("opened");
        self.restore(&report["id"], keys, &target).expect(0);
        assert_eq!(target.dump(), self.source.dump());
    }

    fn chunks(&self) -> Vec<PathBuf> {
        let mut all = Vec::new();
        for folder in std::fs::read_dir(self.store.path().join("chunks")).unwrap() {
            all.extend(std::fs::read_dir(folder.unwrap().path()).unwrap().map(|file| file.unwrap().path()));
        }
        all
    }
}

fn site(source: &Scratch, ledger: &Scratch, store: &Path, keys: &[&Path]) -> Site {
    site_with(source, ledger, store, keys, "")
}

fn site_with(source: &Scratch, ledger: &Scratch, store: &Path, keys: &[&Path], more: &str) -> Site {
    let keys: Vec<String> = keys.iter().map(|key| format!("{{file: '{}'}}", key.display())).collect();
    let store = format!("store: {{directory: '{}', identities: [{}]}}\n", store.display(), keys.join(", "));
    Site::new(&format!("{}{store}{more}", postgres_sections(ledger, &source.name)))
        .policy("backup", "range_size: 64kb\n")
}

/// What `age -d | zstd -d` makes of a file.
fn opened(file: &Path, key: &Path) -> Vec<u8> {
    let mut age = Command::new(stack().get("AGE"));
    let mut age = age.args(["-d", "-i"]).arg(key).arg(file).stdout(Stdio::piped()).spawn().unwrap();
    let zstd = Command::new("zstd").arg("-dc").stdin(age.stdout.take().unwrap()).output().unwrap();
    assert!(age.wait().unwrap().success() && zstd.status.success(), "{}", file.display());
    zstd.stdout
}

/// Whether the file is a list of places of the manifest's first table.
fn is_list(manifest: &[u8], file: &Path) -> bool {
    let manifest: Value = serde_json::from_slice(manifest).unwrap();
    let places = manifest["databases"][0]["tables"][0]["tracking"]["places"].as_array().unwrap().clone();
    let name = file.file_name().unwrap().to_str().unwrap();
    places.iter().any(|list| name.starts_with(list["id"].as_str().unwrap()))
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn what_is_stored_opens_with_the_key_and_shows_nothing_without() {
    let ground = Ground::new();
    let (key, recipient) = ground.key("ours");
    let report = ground.backup(&[&recipient], false);
    let chunks = ground.chunks();
    assert!(chunks.len() > 5, "{chunks:?}");
    let manifest = ground.store.path().join(format!("backups/{}/manifest.json", report["id"].as_str().unwrap()));
    let manifest = std::fs::read(manifest).unwrap();
    let mut rows = 0;
    for file in &chunks {
        let stored = std::fs::read(file).unwrap();
        assert!(stored.starts_with(b"age-encryption.org/v1\n") && !contains(&stored, TOKEN), "{}", file.display());
        // The places of rows are for sexton alone.
        if !is_list(&manifest, file) {
            rows += opened(file, &key).windows(TOKEN.len()).filter(|window| *window == TOKEN.as_bytes()).count();
        }
    }
    assert_eq!(rows, 9_000);
    assert!(contains(&manifest, &recipient) && !contains(&manifest, TOKEN));
    ground.restores_equal(&report, &[&key]);

    // Nobody else, and nothing is begun that could not be ended.
    let (stranger, _) = ground.key("stranger");
    for keys in [&[][..], &[stranger.as_path()]] {
        let target = Scratch::new("shut");
        let said = ground.restore(&report["id"], keys, &target).expect(4);
        assert!(
            said.err.contains("of which no identity is configured") && said.err.contains("store.identities"),
            "{said:?}"
        );
        assert_eq!(target.psql("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"), "0");
        let site = site(&ground.source, &ground.ledger, ground.store.path(), keys);
        let said = site.run(&["backup", "verify", "-q"]).expect(4);
        assert!(
            said.out.contains("0 bad") && said.err.contains(" chunks: it is encrypted for the recipients"),
            "{said:?}"
        );
    }
    site(&ground.source, &ground.ledger, ground.store.path(), &[&key]).run(&["backup", "verify", "-q"]).expect(0);
}

#[test]
fn recipients_change_and_each_backup_opens_with_the_keys_it_was_made_for() {
    let ground = Ground::new();
    let ((old_key, old), (new_key, new)) = (ground.key("old"), ground.key("new"));
    let first = ground.backup(&[&old], false);
    let before = ground.source.dump();
    // Rows of the same size, for which no page has room left.
    ground.source.psql("INSERT INTO cards SELECT i, t FROM cards, generate_series(9001, 9900) i WHERE id = 1");
    // What is stored already stays as it is.
    let second = ground.backup(&[&new], false);
    assert!(second["new_chunks"].as_u64() > Some(0) && second["reused_chunks"].as_u64() > Some(5), "{second}");
    ground.restores_equal(&second, &[&old_key, &new_key]);
    ground.restore(&second["id"], &[&new_key], &Scratch::new("shut")).expect(4);
    // Everything anew; the first backup is what it was.
    let third = ground.backup(&[&new], true);
    assert!(third["reused_chunks"].as_u64() <= second["new_chunks"].as_u64(), "{third}");
    ground.restores_equal(&third, &[&new_key]);
    let target = Scratch::new("first");
    ground.restore(&first["id"], &[&old_key], &target).expect(0);
    assert_eq!(target.dump(), before);
    let again = ground.backup(&[&new], true);
    assert_eq!(again["new_chunks"], 0, "{again}");
}

#[test]
fn what_was_stored_in_the_clear_is_not_used_again_for_an_encrypted_backup_nor_the_other_way_round() {
    let ground = Ground::new();
    let (key, recipient) = ground.key("ours");
    let clear = ground.backup(&[], false);
    let sealed = ground.backup(&[&recipient], false);
    assert_eq!((&sealed["reused_chunks"], &sealed["new_chunks"]), (&0.into(), &clear["new_chunks"]));
    let later = ground.backup(&[], false);
    assert_eq!(later["new_chunks"], 0);
    for (report, keys) in [(&clear, &[][..]), (&later, &[]), (&sealed, &[key.as_path()])] {
        ground.restores_equal(report, keys);
    }
}

#[test]
fn a_secret_key_is_never_shown_overwritten_or_taken_for_a_public_one() {
    use std::os::unix::fs::PermissionsExt;
    let ground = Ground::new();
    let (file, recipient) = ground.key("ours");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&file).unwrap();
    let secret = text.lines().find(|line| line.starts_with("AGE-SECRET-KEY-1")).unwrap();
    assert!(text.contains(&format!("# public key: {recipient}")));
    let said = ground.site.run(&["backup", "keygen", "--output", file.to_str().unwrap()]).expect(64);
    assert!(said.err.contains("File exists") && said.err.contains("no key is ever overwritten"), "{}", said.err);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);

    let shown = |said: &Said| said.out.contains(&secret[20..40]) || said.err.contains(&secret[20..40]);
    let policy = |key: &str| format!("encryption: {{recipients: ['{key}']}}\n");
    let site =
        |key: &str| site(&ground.source, &ground.ledger, ground.store.path(), &[&file]).policy("backup", &policy(key));
    let said = site(secret).run(&["once", "backup", "--dry-run"]).expect(78);
    assert!(said.err.contains("this is a secret key"), "{}", said.err);
    assert!(!shown(&said), "{}", said.err);
    for args in [&["once", "backup", "-vv"][..], &["doctor", "-vv"], &["backup", "show", "--json"]] {
        assert!(!shown(&site(&recipient).run(args)));
    }
    let said = ground.site.run(&["once", "backup", "--dry-run"]).expect(2);
    assert!(!shown(&said));
    let misplaced = self::site(&ground.source, &ground.ledger, ground.store.path(), &[])
        .policy("backup", &format!("encryption: {{{secret}: x}}\n"));
    let said = misplaced.run(&["once", "backup", "--dry-run"]).expect(78);
    assert!(said.err.contains("unknown key `AGE-SECRET-KEY-***") && !shown(&said), "{}", said.err);
    let wrong = self::site(&ground.source, &ground.ledger, ground.store.path(), &[Path::new("/dev/null")]);
    let said = wrong.run(&["backup", "list"]).expect(78);
    assert!(said.err.contains("no identity in it") || said.err.contains("empty"), "{}", said.err);
}

/// A list of rows' hashes that a backup without encryption has stored is named by no encrypted one.
#[test]
fn encryption_that_was_off_for_once_leaves_nothing_readable_in_use() {
    let ground = Ground::new();
    let (_, recipient) = ground.key("ours");
    let sealed = |report: &Value| {
        let manifest = ground.store.path().join(format!("backups/{}/manifest.json", report["id"].as_str().unwrap()));
        let manifest: Value = serde_json::from_slice(&std::fs::read(manifest).unwrap()).unwrap();
        let tables = manifest["databases"][0]["tables"].as_array().unwrap().clone();
        let places =
            tables.iter().flat_map(|table| table["tracking"]["places"].as_array().cloned().unwrap_or_default());
        let all: Vec<bool> = places.map(|list| list["sealed"].is_string()).collect();
        assert!(!all.is_empty(), "{manifest}");
        (all.iter().all(|sealed| *sealed), all.iter().any(|sealed| *sealed))
    };
    assert_eq!(sealed(&ground.backup(&[&recipient], false)), (true, true));
    let dry = site(&ground.source, &ground.ledger, ground.store.path(), &[]).policy("backup", "range_size: 64kb\n");
    let told = dry.run(&["once", "backup", "--dry-run"]).expect(2);
    assert!(told.out.contains("is encrypted and this one will not be"), "{}", told.out);
    assert_eq!(sealed(&ground.backup(&[], false)), (false, false));
    assert_eq!(sealed(&ground.backup(&[&recipient], false)), (true, true));
}

/// The script in docs/backup-format.md, with nothing of sexton's.
#[test]
fn the_script_of_the_documentation_reads_a_table_without_sexton() {
    let docs = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/backup-format.md")).unwrap();
    let script = docs.split("```bash\n").find(|block| block.contains("# table.sh ")).unwrap();
    let (script, _) = script.split_once("```").unwrap();
    let ground = Ground::new();
    let file = ground.keys.path().join("table.sh");
    std::fs::write(&file, script).unwrap();
    let (key, recipient) = ground.key("ours");
    let age = Path::new(stack().get("AGE")).parent().unwrap();
    let path = format!("{}:{}:{}", age.display(), stack().get("PG17_BIN"), std::env::var("PATH").unwrap());
    let rows = "SELECT * FROM cards ORDER BY id";
    for recipients in [&[][..], &[recipient.as_str()]] {
        ground.backup(recipients, false);
        ground.source.psql("DELETE FROM cards WHERE id % 7 = 3; UPDATE cards SET t = t || '!' WHERE id % 11 = 5");
        let report = ground.backup(recipients, false);
        let manifest = ground.store.path().join(format!("backups/{}/manifest.json", report["id"].as_str().unwrap()));
        let manifest: Value = serde_json::from_slice(&std::fs::read(manifest).unwrap()).unwrap();
        let gone = &manifest["databases"][0]["tables"][0]["tracking"]["gone"];
        assert_eq!((gone.is_object(), gone["sealed"].is_string()), (true, !recipients.is_empty()), "{gone}");
        let target = Scratch::new("by_hand");
        target.psql(manifest["databases"][0]["pre_data"].as_str().unwrap());
        let psql = target.server.tool("psql", &target.name);
        let mut bash = Command::new("bash");
        bash.arg(&file).arg(ground.store.path()).arg(report["id"].as_str().unwrap());
        bash.args([&ground.source.name, "cards"]).arg(&key);
        bash.envs(psql.get_envs().filter_map(|(name, value)| Some((name, value?))));
        bash.env("PGDATABASE", &target.name).env("PATH", &path);
        let output = bash.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(contains(target.psql("SELECT t FROM cards LIMIT 1").as_bytes(), TOKEN));
        assert_eq!(target.psql(rows), ground.source.psql(rows));
    }
}

/// What else reads a store: each with the key, and each without says that it could not tell.
#[test]
fn check_cat_compare_and_drill_open_what_is_encrypted_and_prune_needs_no_key() {
    let ground = Ground::new();
    let ((old_key, old), (key, recipient)) = (ground.key("old"), ground.key("ours"));
    ground.backup(&[&old], false);
    ground.backup(&[&recipient], true);
    let site = |keys: &[&Path]| {
        let scratch = Server::Pg17.settings();
        let scratch = format!(
            "scratch: {{host: {}, port: {}, user: {}, password: {{env: IT_SCRATCH}}}}\n",
            scratch.host, scratch.port, scratch.user
        );
        site_with(&ground.source, &ground.ledger, ground.store.path(), keys, &scratch)
            .policy("backup", "keep: {last: 1}\ngrace: 1h\n")
            .env("IT_SCRATCH", stack().get("PG17_PASSWORD"))
    };
    for (keys, exit) in [(&[][..], 4), (&[key.as_path()], 0)] {
        let site = site(keys);
        // The older backup is for another key.
        let check = site.run(&["backup", "check", "-q"]).expect(4);
        assert!(check.err.contains("of which no identity is configured"), "{}", check.err);
        let cat = site.run(&["backup", "cat", "cards", "--format", "csv", "-q"]).expect(exit);
        assert_eq!(cat.out.lines().count(), if exit == 0 { 9_000 } else { 0 });
        let drill = site.run(&["once", "drill", "-q"]).expect(exit);
        assert_eq!(drill.out.contains("drill: changed"), exit == 0, "{drill:?}");
    }
    site(&[&old_key, &key]).run(&["backup", "check", "-q"]).expect(0);
    // However small the share is.
    let least = site(&[&old_key, &key]).run(&["backup", "check", "--sample", "0.0001%", "-q"]).expect(0);
    assert!(least.out.contains("1 read and good"), "{}", least.out);
    ground.source.psql("UPDATE cards SET t = 'other' WHERE id = 77");
    let found = site(&[&key]).run(&["backup", "compare", "--database", &ground.source.name, "-q"]).expect(3);
    assert!((found.out + &found.err).contains("id=77"));

    // What goes is the older backup; its chunks wait for the grace period.
    let before = ground.chunks().len();
    site(&[]).run(&["once", "prune", "-q"]).expect(0);
    let stats = site(&[]).run(&["backup", "stats", "--json"]).expect(0).json();
    assert_eq!((stats["backups"].as_array().unwrap().len(), ground.chunks().len()), (1, before));
    // Both have the same lists, for sexton's own key.
    let id = stats["backups"][0]["id"].as_str().unwrap();
    let manifest = std::fs::read(ground.store.path().join(format!("backups/{id}/manifest.json"))).unwrap();
    let lists = ground.chunks().iter().filter(|file| is_list(&manifest, file)).count();
    assert_eq!(stats["orphaned_chunks"].as_u64().unwrap() as usize, (before - lists) / 2);
    site(&[&key]).run(&["backup", "verify", "-q"]).expect(0);
}
