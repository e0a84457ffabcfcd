//! What the documents say, held against the program: examples, links, defaults. Needs no engine.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use sexton::migrate::RecipeSet;
use sexton::policy::Policies;
use sexton::policy::backup::BackupPolicy;
use sexton::policy::retention::RetentionPolicy;
use sexton::policy::visibility::VisibilityPolicy;

use crate::support::site::Site;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every Markdown file of the repository, without what a build, a demo or an editor leaves there.
fn documents() -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if path.is_dir() && !name.starts_with('.') && !["target", "demo-output"].contains(&name.as_str()) {
                walk(&path, found);
            } else if name.ends_with(".md") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(root(), &mut found);
    found.sort();
    assert!(found.len() > 5, "{found:?}");
    found
}

/// A document for operators: the README and what is under docs/.
fn pages() -> Vec<PathBuf> {
    let pages =
        documents().into_iter().filter(|p| p.starts_with(root().join("docs")) || *p == root().join("README.md"));
    pages.collect()
}

/// The lines of a document apart: those outside of code, and each block of code with its language.
fn split(markdown: &str) -> (Vec<&str>, Vec<(String, String)>) {
    let (mut prose, mut blocks) = (Vec::new(), Vec::<(String, String)>::new());
    let mut inside = false;
    for line in markdown.lines() {
        match line.trim_start().strip_prefix("```") {
            Some(language) => {
                inside = !inside;
                if inside {
                    blocks.push((language.trim().to_owned(), String::new()));
                }
            }
            None if inside => {
                let block = &mut blocks.last_mut().unwrap().1;
                block.push_str(line);
                block.push('\n');
            }
            None => prose.push(line),
        }
    }
    assert!(!inside, "a block of code has no end");
    (prose, blocks)
}

/// The blocks of one language on all pages, each with the page it is on.
fn blocks(language: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for page in pages() {
        let name = page.strip_prefix(root()).unwrap().display().to_string();
        let of_language = split(&text(&page)).1.into_iter().filter(|(of, _)| of == language);
        found.extend(of_language.map(|(_, block)| (name.clone(), block)));
    }
    found
}

/// The binary loads this configuration: the job it is asked about then has no policy, which is another refusal.
fn assert_loads(what: &str, config: &str) {
    let mut site = Site::new(config).file("x.pem", "-");
    std::fs::create_dir(site.path().join("recipes")).unwrap();
    for name in config.split("{env: ").skip(1).filter_map(|rest| rest.split('}').next()) {
        // An address that is a secret is an address all the same; a token is its owner's alone.
        let is_address = name.ends_with("_URL");
        let secret =
            if is_address { "https://hooks.example.com/secret".to_owned() } else { format!("the-secret-of-{name}") };
        site = site.env(name, &secret);
    }
    let said = site.run(&["plan", "visibility"]);
    assert!(said.code == 78 && said.err.contains("`visibility` has no policy"), "{what}: {said:?}");
}

#[test]
fn every_yaml_example_is_read_by_the_real_loader() {
    let examples = blocks("yaml");
    assert!(examples.len() >= 4);
    for (page, example) in examples {
        // The first line says which file it is.
        match example.lines().next().unwrap_or_default().strip_prefix("# ") {
            Some("sexton.yaml") => assert_loads(&page, &example),
            Some(name) if name.starts_with("policies/") => {
                let folder = tempfile::tempdir().unwrap();
                std::fs::write(folder.path().join(name.trim_start_matches("policies/")), &example).unwrap();
                Policies::load(folder.path()).unwrap_or_else(|error| panic!("{page}: {}", error.render()));
            }
            Some(name) if name.starts_with("recipes/") => {
                let folder = tempfile::tempdir().unwrap();
                std::fs::write(folder.path().join(name.trim_start_matches("recipes/")), &example).unwrap();
                let set = RecipeSet::load(Some(folder.path())).unwrap_or_else(|error| panic!("{page}: {error}"));
                let own = set.iter().find(|(_, path)| path.is_some()).unwrap_or_else(|| panic!("{page}: {name}"));
                assert_eq!(name, format!("recipes/{}.yaml", own.0.name), "{page}");
            }
            _ => {
                panic!(
                    "{page}: the example does not begin with `# sexton.yaml`, `# policies/NAME.yaml` or \
                     `# recipes/NAME.yaml`:\n{example}"
                )
            }
        }
    }
}

#[test]
fn every_json_example_is_json() {
    let examples = blocks("json");
    assert!(examples.len() > 10);
    for (page, example) in examples {
        let read: Result<Value, _> = serde_json::from_str(&example);
        assert!(read.is_ok(), "{page}: {}\n{example}", read.unwrap_err());
    }
}

#[test]
fn the_shipped_policies_are_read_together() {
    let policies = Policies::load(&root().join("policies")).unwrap_or_else(|error| panic!("{}", error.render()));
    assert!(policies.retention.is_some() && policies.visibility.is_some() && policies.backup.is_some());
    assert!(!policies.schedule.jobs.is_empty());
}

#[test]
fn the_example_configuration_is_accepted_with_and_without_its_optional_parts() {
    let example = text(&root().join("sexton.example.yaml"));
    assert_loads("sexton.example.yaml", &example);
    // Of two that exclude each other, the one that is left out.
    let alternatives = ["tls: {}", "directory:", "api_key: {env: SEXTON_SEARCH_API_KEY}", "identities:"];
    let is_key = |line: &str| {
        // The first key of an entry of a list has a dash in front.
        let name = line.trim_start().trim_start_matches("- ").split(':').next().unwrap_or_default();
        line.contains(':') && !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    };
    let mut uncommented = 0;
    let lines = example.lines().map(|line| {
        let indent = line.len() - line.trim_start().len();
        match line.trim_start().strip_prefix("# ") {
            Some(rest) if is_key(rest) && !alternatives.iter().any(|no| rest.starts_with(no)) => {
                uncommented += 1;
                format!("{}{rest}\n", &line[..indent])
            }
            _ => format!("{line}\n"),
        }
    });
    let full: String = lines.collect();
    assert!(uncommented > 20, "{full}");
    // Files and folders that are there.
    let full: String = full
        .split_inclusive('\n')
        .map(|line| {
            match line
                .split_once("/etc/sexton/tls/")
                .or_else(|| line.split_once("/usr/lib/postgresql/"))
                .or_else(|| line.split_once("/usr/local/bin/"))
            {
                Some((key, _)) if key.contains("bin_dir") => format!("{key}recipes\n"),
                Some((key, _)) => format!("{key}x.pem\n"),
                None => line.to_owned(),
            }
        })
        .collect();
    assert_loads("sexton.example.yaml, uncommented", &full);
}

#[test]
fn the_configurations_of_the_manifests_are_accepted() {
    for file in ["base", "components/http", "components/mtls", "recipes/move-database"] {
        let config = text(&root().join("k8s").join(file).join("sexton.yaml"));
        // Files that are there.
        let here = config.split_inclusive('\n').map(|line| match line.split_once(": /etc/sexton/tls/") {
            Some((key, _)) => format!("{key}: x.pem\n"),
            None => line.replace("/etc/sexton/policies", "policies"),
        });
        assert_loads(file, &here.collect::<String>());
    }
}

/// GitHub's anchor of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn anchors(document: &str) -> BTreeSet<String> {
    let (prose, _) = split(document);
    prose.iter().filter(|line| line.starts_with('#')).map(|line| anchor(line.trim_start_matches('#'))).collect()
}

#[test]
fn every_relative_link_leads_somewhere() {
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for document in documents() {
        let here = text(&document);
        let (prose, _) = split(&here);
        let prose = prose.join("\n");
        let links = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.contains("://") && !link.starts_with("mailto:")) {
            seen += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { document.clone() } else { document.parent().unwrap().join(file) };
            let good = target.exists() && (anchor.is_empty() || anchors(&text(&target)).contains(anchor));
            if !good {
                wrong.push(format!("{}: {link}", document.strip_prefix(root()).unwrap().display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(seen > 20);
}

/// The rows of the first table under a heading: field and default, as written.
fn documented(page: &str, heading: &str) -> BTreeMap<String, String> {
    let section = page.split(&format!("\n## {heading}\n")).nth(1).unwrap_or_else(|| panic!("no heading {heading}"));
    let section = section.split("\n## ").next().unwrap();
    let cell = |text: &str| text.trim().to_owned();
    let rows = section.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
    let rows = rows.take_while(|line| line.starts_with('|')).filter_map(|line| {
        let mut cells = line.split('|').skip(1);
        Some((cell(cells.next()?).trim_matches('`').to_owned(), cell(cells.next()?)))
    });
    // A field of a namespace has no default of the whole policy.
    rows.filter(|(field, _)| !field.contains("NAME")).collect()
}

/// The dotted names of all fields.
fn fields(of: &Value, under: &str, found: &mut BTreeSet<String>) {
    match of.as_object().filter(|object| !object.is_empty()) {
        Some(object) => {
            for (name, value) in object {
                let name = if under.is_empty() { name.clone() } else { format!("{under}.{name}") };
                fields(value, &name, found);
            }
        }
        None => drop(found.insert(under.to_owned())),
    }
}

/// The table names exactly the fields there are, and the defaults it gives are those of the program.
fn assert_documented<P>(page: &str, heading: &str)
where
    P: Default + PartialEq + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    let documented = documented(page, heading);
    let mut there = BTreeSet::new();
    fields(&serde_json::to_value(P::default()).unwrap(), "", &mut there);
    assert_eq!(documented.keys().cloned().collect::<BTreeSet<_>>(), there, "{heading}");

    let mut policy = Map::new();
    let mut given = 0;
    for (field, default) in &documented {
        // Words instead of a value say that there is none.
        let Some(default) = default.strip_prefix('`').and_then(|default| default.split('`').next()) else { continue };
        let value: Value = serde_json::from_str(default).unwrap_or_else(|_| Value::String(default.to_owned()));
        given += 1;
        match field.split_once('.') {
            None => drop(policy.insert(field.clone(), value)),
            Some((outer, inner)) => {
                let outer = policy.entry(outer).or_insert_with(|| Value::Object(Map::new()));
                outer.as_object_mut().unwrap().insert(inner.to_owned(), value);
            }
        }
    }
    assert!(given > 3, "{documented:?}");
    let read: P = serde_json::from_value(Value::Object(policy)).unwrap_or_else(|error| panic!("{heading}: {error}"));
    assert_eq!(read, P::default(), "{heading}");
}

#[test]
fn the_documented_defaults_are_those_of_the_program() {
    let page = text(&root().join("docs/policies.md"));
    assert_documented::<RetentionPolicy>(&page, "retention.yaml");
    assert_documented::<VisibilityPolicy>(&page, "visibility.yaml");
    assert_documented::<BackupPolicy>(&page, "backup.yaml");
}

#[test]
fn the_workflows_for_n8n_hang_together_and_hold_no_secret() {
    let page = text(&root().join("docs/n8n.md"));
    for name in ["backup", "webhook"] {
        let workflow = text(&root().join(format!("docs/n8n/{name}.json")));
        assert!(!workflow.contains("Bearer") && !workflow.contains("hmacSecret"), "{name}");
        let workflow: Value = serde_json::from_str(&workflow).unwrap();
        assert_eq!(workflow["active"], false, "{name}: who imports it says when it begins");
        assert_eq!(workflow["pinData"], Value::Object(Map::new()), "{name}: answers of somebody's own");
        let nodes = workflow["nodes"].as_array().unwrap();
        let names: BTreeSet<&str> = nodes.iter().map(|node| node["name"].as_str().unwrap()).collect();
        assert_eq!(names.len(), nodes.len(), "{name}: two nodes have one name");
        let mut reached = BTreeSet::new();
        for (from, outputs) in workflow["connections"].as_object().unwrap() {
            assert!(names.contains(from.as_str()), "{name}: a connection from {from}");
            let outputs = outputs["main"].as_array().unwrap().iter().flat_map(|output| output.as_array().unwrap());
            reached.extend(outputs.map(|to| to["node"].as_str().unwrap()));
        }
        let begins = |node: &Value| {
            let of = node["type"].as_str().unwrap();
            of.ends_with("Trigger") || of.ends_with(".webhook")
        };
        let others = nodes.iter().filter(|node| !begins(node)).map(|node| node["name"].as_str().unwrap());
        let others: BTreeSet<&str> = others.collect();
        assert_eq!(reached, others, "{name}: what is not reached, or not there");
        for node in nodes {
            let said = node["name"].as_str().unwrap();
            assert!(page.contains(&format!("`{said}`")), "docs/n8n.md says nothing of the node {said}");
            for credential in node["credentials"].as_object().into_iter().flat_map(Map::values) {
                let keys: Vec<&str> = credential.as_object().unwrap().keys().map(String::as_str).collect();
                assert_eq!(keys, ["id", "name"], "{name}: {said}");
                let named = credential["name"].as_str().unwrap();
                assert!(page.contains(&format!("`{named}`")), "docs/n8n.md does not say how to make {named}");
            }
        }
    }
}
