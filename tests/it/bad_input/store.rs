//! The store of the backups: no bucket, wrong keys, no room.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{CLOSED, Case, GOOD, Table, with};
use crate::support::postgres::Scratch;
use crate::support::site::{Site, postgres_sections};
use crate::support::{stack, suffix};

fn s3(name: &'static str, endpoint: &str, secret: &str) -> Case {
    let config = format!(
        "{GOOD}store:\n  s3:\n    bucket: it-no-such-bucket\n    endpoint: {endpoint}\n    path_style: true\n    \
         credentials: {{access_key: {{env: STACK_S3_ACCESS_KEY}}, secret_key: {{env: {secret}}}}}\n"
    );
    Case::new(name, Site::new(&config), "backup list").hide(stack().get("S3_ENDPOINT"), "S3")
}

fn directory(name: &'static str, path: &str) -> Case {
    Case::new(name, Site::new(&format!("{GOOD}store: {{directory: '{path}'}}\n")), "backup list")
}

#[test]
fn access() {
    let endpoint = stack().get("S3_ENDPOINT");
    let wrong_key = s3("S3 access key unknown", endpoint, "IT_SECRET");
    let config = std::fs::read_to_string(wrong_key.site.path().join("sexton.yaml")).unwrap();
    std::fs::write(wrong_key.site.path().join("sexton.yaml"), with(&config, "STACK_S3_ACCESS_KEY", "IT_SECRET"))
        .unwrap();
    Table::default()
        .case(s3("S3 bucket missing", endpoint, "STACK_S3_SECRET_KEY").says(1, "\
error: the bucket of s3://it-no-such-bucket does not exist
  hint: create the bucket, or correct its name and region in the configuration"))
        .case(s3("S3 secret key wrong", endpoint, "IT_SECRET").says(1, "\
error: s3://it-no-such-bucket denies access (listing `backups/`): SignatureDoesNotMatch: The request signature we calculated does not match the signature you provided. Check your key and signing method.
  hint: check the access key and its secret, and allow s3:ListBucket, GetObject, PutObject, DeleteObject and AbortMultipartUpload on the bucket"))
        .case(wrong_key.says(1, "\
error: s3://it-no-such-bucket denies access (listing `backups/`): XAdminUserNotFound: No user exists with the provided access key ID.
  hint: check the access key and its secret, and allow s3:ListBucket, GetObject, PutObject, DeleteObject and AbortMultipartUpload on the bucket"))
        .case(s3("S3 down", &format!("http://{CLOSED}"), "STACK_S3_SECRET_KEY").says(1, "\
error: s3://it-no-such-bucket at http://127.0.0.1:1 cannot be reached: Connection refused
  hint: check the endpoint's address, its TLS and the network policies"))
        .case(s3("S3 host unknown", "http://s3.invalid", "STACK_S3_SECRET_KEY").says(1, "\
error: s3://it-no-such-bucket at http://s3.invalid cannot be reached: failed to lookup address information: Name or service not known
  hint: check the endpoint's address, its TLS and the network policies"))
        .case(s3("not S3", stack().get("OPENSEARCH_URL"), "STACK_S3_SECRET_KEY").hide(stack().get("OPENSEARCH_URL"), "OPENSEARCH").says(1, "\
error: s3://it-no-such-bucket at OPENSEARCH, listing `backups/`: the answer, HTTP status 400, is not one of S3's
  hint: check bucket, region and endpoint, and that the endpoint is one of S3's"))
        .case(directory("directory on a disk that is not mounted", "no-such-disk/backups").says(1, "\
error: no-such-disk/backups, listing `backups/`: there is no folder no-such-disk; make it, or mount its disk
  hint: check that the path is a folder on a disk that works"))
        .case(directory("directory empty", "").says(78, "\
error: sexton.yaml:9:8: `directory` is empty
  hint: write the path of a folder"))
        .case(directory("directory is a file", "sexton.yaml").says(1, "\
error: sexton.yaml, listing `backups/`: Not a directory
  hint: check that the path is a folder on a disk that works"))
        .check();
}

/// A site with a database worth a few megabytes, and its ledger.
fn site(data: &Scratch, ledger: &Scratch, path: &Path) -> Site {
    let config = format!("{}store: {{directory: '{}'}}\n", postgres_sections(ledger, &data.name), path.display());
    let site = Site::new(&config).policy("backup", "{}");
    site.run(&["ledger", "init"]).expect(0);
    site
}

#[test]
fn directories() {
    let (data, ledger) = (Scratch::new("data"), Scratch::new("ledger"));
    data.psql("CREATE TABLE t AS SELECT gen_random_uuid() AS a, gen_random_uuid() AS b FROM generate_series(1, 60000)");
    let locked = tempfile::tempdir().unwrap();
    std::fs::set_permissions(locked.path(), std::os::unix::fs::PermissionsExt::from_mode(0o555)).unwrap();
    let path = locked.path().join("backups");
    let mut table = Table::default().case(
        Case::new("directory not writable", site(&data, &ledger, &path), "once backup")
            .without_root()
            .hide(locked.path().display().to_string(), "LOCKED")
            .prints("backup: failed")
            .says(
                1,
                "\
error: LOCKED/backups denies access (checking that it can be written to): Permission denied
  hint: give the user that runs sexton write access to the directory",
            ),
    );
    let small = Tmpfs::mount();
    match &small {
        Some(small) => {
            let case = Case::new("disk full", site(&data, &ledger, &small.0), "once backup");
            table = table.case(case.hide(small.0.display().to_string(), "FULL").prints("backup: failed").says(
                1,
                "\
error: FULL is full (storing `chunks/CHUNK`)
  hint: free space or raise the quota, then run the backup again",
            ));
        }
        None => println!("SKIPPED: disk full (this user may not mount a small file system)"),
    }
    table.check();
}

/// A file system of one megabyte, unmounted when dropped.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn mount() -> Option<Self> {
        let path = std::env::temp_dir().join(format!("it-tmpfs-{}", suffix()));
        std::fs::create_dir(&path).unwrap();
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(&path).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(path));
        }
        std::fs::remove_dir(&path).unwrap();
        None
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).output();
        let _ = std::fs::remove_dir(&self.0);
    }
}
