//! The image's Containerfile, as far as one can judge it without a builder: its stages, the shell of its commands, what it
//! must agree on with the manifests, and the one command that is more than a line, run here.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::{at, render, templates};

/// The instructions, continued lines joined, as keyword and rest.
fn instructions() -> Vec<(String, String)> {
    let text = std::fs::read_to_string("Containerfile").unwrap();
    let lines: String = text.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
    let joined = lines.replace("\\\n", "");
    let split = joined.lines().filter_map(|line| line.split_once(' '));
    split.map(|(keyword, rest)| (keyword.to_owned(), rest.trim().to_owned())).collect()
}

/// The rest of every instruction of one kind.
fn all(keyword: &str) -> Vec<String> {
    instructions().into_iter().filter(|(of, _)| of == keyword).map(|(_, rest)| rest).collect()
}

#[test]
fn every_stage_builds_on_one_that_is_there() {
    let known = ["ARG", "FROM", "WORKDIR", "COPY", "RUN", "USER", "ENTRYPOINT"];
    let mut stages: Vec<String> = Vec::new();
    let mut copies = 0;
    for (keyword, rest) in instructions() {
        assert!(known.contains(&keyword.as_str()), "{keyword}");
        let there = |image: &str| stages.iter().any(|stage| stage == image) || image.contains(['/', ':']);
        if keyword == "FROM" {
            let (image, stage) = rest.split_once(" AS ").expect("every stage has a name");
            assert!(there(image), "{image}");
            stages.push(stage.to_owned());
        } else if let Some(from) = rest.strip_prefix("--from=") {
            copies += 1;
            assert!(there(from.split(' ').next().unwrap()), "{from}");
        }
    }
    assert_eq!((stages.last().map(String::as_str), copies), (Some("sexton"), 3), "the last stage is what is built");
}

#[test]
fn the_image_fits_the_pods() {
    let documents = render("k8s/overlays/daemon");
    let pod = *templates(&documents).values().next().unwrap();
    let security = at(pod, "/spec/securityContext");
    assert_eq!(all("USER"), [format!("{}:{}", security["runAsUser"], security["runAsGroup"])]);
    assert_eq!(all("ENTRYPOINT"), ["[\"/usr/local/bin/sexton\"]"]);
    assert!(all("COPY").iter().any(|copy| copy.ends_with("/release/sexton /usr/local/bin/sexton")));
    let toolchain = std::fs::read_to_string("rust-toolchain.toml").unwrap();
    let version = toolchain.split('"').nth(1).unwrap();
    assert!(all("FROM")[0].starts_with(&format!("docker.io/library/rust:{version}-")), "not Rust {version}");
}

#[test]
fn the_commands_are_shell() {
    let commands = all("RUN");
    assert_eq!(commands.len(), 4);
    for command in commands {
        let output = Command::new("sh").args(["-n", "-c", &command]).output().unwrap();
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// The stack's PostgreSQL 15 is where the image's would be.
#[test]
fn pg_dump_is_taken_with_all_it_loads() {
    let folder = TempDir::new().unwrap();
    let here = folder.path().display().to_string();
    let take = all("RUN").into_iter().find(|command| command.contains("ldd ")).unwrap();
    let take = take.replace("15 16 17", "15").replace("/image/", &format!("{here}/image/"));
    let take = take.replace("/tmp/libraries", &format!("{here}/libraries"));
    let output = Command::new("sh").args(["-c", &take]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let image = folder.path().join("image");
    let libraries = image.join("usr/local/lib/postgresql");
    let program = image.join("usr/lib/postgresql/15/bin/pg_dump");
    let loaded = Command::new("ldd").arg(&program).env("LD_LIBRARY_PATH", &libraries).output().unwrap();
    let loaded = String::from_utf8(loaded.stdout).unwrap();
    let paths = loaded.lines().filter_map(|line| line.split(" => ").nth(1)?.split(' ').next());
    // What remains is the C library's.
    let base = ["libc.so.6", "libresolv.so.2", "libm.so.6", "libpthread.so.0", "libdl.so.2"];
    let mut own = 0;
    for path in paths.map(Path::new) {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(path.starts_with(&libraries) || base.contains(&name), "{}", path.display());
        own += usize::from(path.starts_with(&libraries));
    }
    assert!(own > 5, "{loaded}");
    let version = Command::new(&program).arg("--version").env("LD_LIBRARY_PATH", &libraries).output().unwrap();
    assert!(String::from_utf8_lossy(&version.stdout).starts_with("pg_dump (PostgreSQL) 15."));
}
