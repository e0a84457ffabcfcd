//! The workflows of GitHub, as actionlint reads them. No runner of GitHub's was at hand: what they do there is not tested.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;
use tempfile::TempDir;

use super::{done, program, text};

const FOLDER: &str = ".github/workflows";

fn workflows() -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = fs::read_dir(FOLDER)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read_to_string(path).unwrap()))
        .collect();
    all.sort();
    all
}

#[test]
fn actionlint_has_nothing_to_say() {
    let names: Vec<String> = workflows().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["ci.yml", "deploy.yml", "image.yml", "release.yml"]);
    // Without shellcheck it would look at the commands of no step.
    assert!(std::process::Command::new("shellcheck").arg("--version").output().is_ok(), "shellcheck is needed");
    done(&program("ACTIONLINT").output().unwrap());
}

/// Without it the test above would say nothing.
#[test]
fn a_mistake_in_a_workflow_is_found() {
    let folder = TempDir::new().unwrap();
    let refused = |name: &str, from: &str, to: &str, why: &str| {
        let original = fs::read_to_string(format!("{FOLDER}/{name}")).unwrap();
        assert!(original.contains(from), "{name} has no `{from}`");
        let path = folder.path().join(name);
        fs::write(&path, original.replacen(from, to, 1)).unwrap();
        // Alone: a workflow that calls another one of the project is not among these.
        let output = program("ACTIONLINT").arg(&path).output().unwrap();
        assert!(!output.status.success() && text(&output.stdout).contains(why), "{}", text(&output.stdout));
    };
    refused("ci.yml", "timeout-minutes: 45", "timeout: 45", "unexpected key \"timeout\"");
    refused(
        "image.yml",
        "steps.build.outputs.digest",
        "steps.biuld.outputs.digest",
        "property \"biuld\" is not defined",
    );
    refused("release.yml", "version=${GITHUB_REF_NAME#v}", "version=$(echo $GITHUB_REF_NAME)", "SC2086");
}

/// An action is somebody else's code: exactly this commit of it, with the version that it is for who reads.
#[test]
fn actions_are_pinned_by_the_commit() {
    let mut seen = BTreeSet::new();
    for (name, workflow) in workflows() {
        for line in workflow.lines().filter_map(|line| line.trim_start_matches([' ', '-']).strip_prefix("uses: ")) {
            if line.starts_with("./") {
                continue;
            }
            let (action, version) = line.split_once(" # v").unwrap_or_else(|| panic!("{name}: no version: {line}"));
            let (action, commit) = action.split_once('@').unwrap();
            assert!(commit.len() == 40 && commit.bytes().all(|b| b.is_ascii_hexdigit()), "{name}: {line}");
            seen.insert((action.to_owned(), commit.to_owned(), version.to_owned()));
        }
    }
    let actions: BTreeSet<&String> = seen.iter().map(|(action, ..)| action).collect();
    assert!(actions.len() == seen.len() && seen.len() > 10, "an action is there in two versions: {seen:#?}");
}

/// What the whole workflow may is to read; a job that may more says so itself. And nothing is deployed unasked.
#[test]
fn the_rights_are_the_least_and_production_asks() {
    let mut writing = BTreeSet::new();
    for (name, workflow) in workflows() {
        let workflow: Value = serde_saphyr::from_str(&workflow).unwrap();
        assert_eq!(workflow["permissions"], serde_json::json!({"contents": "read"}), "{name}");
        for (job, spec) in workflow["jobs"].as_object().unwrap() {
            assert!(spec["uses"].is_string() || spec["timeout-minutes"].is_u64(), "{name}: {job} may last for ever");
            for (right, level) in spec["permissions"].as_object().into_iter().flatten() {
                if level == "write" {
                    writing.insert(format!("{name} {job} {right}"));
                }
            }
        }
    }
    let expected = [
        "deploy.yml image attestations",
        "deploy.yml image id-token",
        "deploy.yml image packages",
        "image.yml build packages",
        "image.yml publish attestations",
        "image.yml publish id-token",
        "image.yml publish packages",
        "release.yml image attestations",
        "release.yml image id-token",
        "release.yml image packages",
        "release.yml publish attestations",
        "release.yml publish contents",
        "release.yml publish id-token",
    ];
    assert_eq!(writing.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    let deploy = fs::read_to_string(format!("{FOLDER}/deploy.yml")).unwrap();
    let deploy: Value = serde_saphyr::from_str(&deploy).unwrap();
    let production = &deploy["jobs"]["production"];
    assert_eq!(production["environment"], "production");
    assert_eq!(production["needs"], serde_json::json!(["image", "staging"]));
    for job in ["staging", "production"] {
        assert_eq!(deploy["jobs"][job]["concurrency"]["cancel-in-progress"], false, "{job}");
    }
}
