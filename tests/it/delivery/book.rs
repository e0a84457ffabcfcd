//! The book of docs/: every page is in it, mdBook makes it, and no link of it leads nowhere.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{done, program};

/// Every file below a folder with this ending.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, ending));
        } else if path.extension().is_some_and(|e| e == ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn every_page_is_in_the_summary_once() {
    let summary = fs::read_to_string("docs/SUMMARY.md").unwrap();
    let named: Vec<&str> = summary.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect();
    let there: BTreeSet<String> = files(Path::new("docs"), "md")
        .iter()
        .map(|path| path.strip_prefix("docs").unwrap().display().to_string())
        .filter(|page| page != "SUMMARY.md")
        .collect();
    let missing: Vec<&String> = there.iter().filter(|page| !named.contains(&page.as_str())).collect();
    assert!(missing.is_empty(), "add these to docs/SUMMARY.md: {missing:?}");
    let gone: Vec<&&str> = named.iter().filter(|page| !there.contains(**page)).collect();
    assert!(gone.is_empty(), "docs/SUMMARY.md names pages that are not there: {gone:?}");
    assert_eq!(named.len(), there.len(), "a page is named twice");
}

/// Builds the book; with the address of a repository links to files that are not in it lead there.
fn built(repository: Option<&str>) -> TempDir {
    let folder = TempDir::new().unwrap();
    let mut mdbook = program("MDBOOK");
    mdbook.arg("build").arg("--dest-dir").arg(folder.path());
    if let Some(repository) = repository {
        mdbook.env("MDBOOK_OUTPUT__HTML__GIT_REPOSITORY_URL", repository);
    }
    done(&mdbook.output().unwrap());
    folder
}

/// The values of an attribute on a page, quotes as HTML has them.
fn values<'a>(page: &'a str, attribute: &str) -> Vec<&'a str> {
    page.split(&format!(" {attribute}=\"")).skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

#[test]
fn no_link_of_the_book_leads_nowhere() {
    for repository in [None, Some("https://git.example/sexton")] {
        let book = built(repository);
        let (mut seen, mut out, mut wrong) = (0, 0, Vec::new());
        // `print.html` is all pages in one, and `toc.html` the frame of the contents.
        let own = |path: &PathBuf| {
            !["print.html", "toc.html", "404.html"].contains(&path.file_name().unwrap().to_str().unwrap())
        };
        for path in files(book.path(), "html").into_iter().filter(own) {
            let page = fs::read_to_string(&path).unwrap();
            let main = page.split("<main>").nth(1).and_then(|rest| rest.split("</main>").next()).unwrap();
            for link in values(main, "href") {
                if link.starts_with("https://git.example/sexton/blob/main/") {
                    let file = link.trim_start_matches("https://git.example/sexton/blob/main/");
                    out += 1;
                    if !Path::new(file.split('#').next().unwrap()).exists() {
                        wrong.push(format!("{}: {link}", path.display()));
                    }
                }
                if link.contains("://") || link.starts_with("mailto:") {
                    continue;
                }
                seen += 1;
                let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
                let target = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
                // A picture has no anchors and is no text.
                let good = match anchor {
                    "" => target.is_file(),
                    _ => fs::read_to_string(&target).is_ok_and(|there| values(&there, "id").contains(&anchor)),
                };
                if !good {
                    wrong.push(format!("{}: {link}", path.strip_prefix(book.path()).unwrap().display()));
                }
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
        assert!(seen > 100 && (out > 4) == repository.is_some(), "{seen} links, {out} to the repository");
    }
}
