//! What sexton says when something is wrong: broken files, policies, recipes, command lines and situations, each with
//! the whole message and the exit code that the real binary gives. A case is data; [`Table::check`] runs them all and
//! names those that say something else.
//!
//! The snippet of a file below a message is left out of the texts here (the place is in the first line), and so are
//! log lines. `SITE` stands for the folder of the test, other capitals for what differs from run to run.

mod command_line;
mod config;
mod doctor;
mod http;
mod index;
mod ledger;
mod policies;
mod postgres;
mod recipes;
mod restore;
mod search;
mod secrets;
mod store;
mod temporal;
mod webhooks;

use crate::support::site::{Said, Site};
use crate::support::stack;

/// The value of the variable `IT_SECRET` that every case has; it must never be seen.
pub(super) const SECRET: &str = "never-to-be-shown-7391";
/// An address where nothing listens.
pub(super) const CLOSED: &str = "127.0.0.1:1";

/// A configuration that is right, for servers that are not there: who tries to connect before everything was read
/// gives another message and another exit code than the case expects.
pub(super) const GOOD: &str = "\
postgres:
  host: 127.0.0.1
  port: 1
  user: sexton
  password: {env: IT_SECRET}
  databases: {main: temporal}
ledger:
  database: sexton
";

/// One broken thing and what is said about it.
pub(super) struct Case {
    name: &'static str,
    site: Site,
    args: String,
    code: i32,
    says: &'static str,
    prints: Vec<&'static str>,
    hide: Vec<(String, &'static str)>,
    hint: bool,
    ordinary_user: bool,
}

impl Case {
    /// A case in this site.
    pub(super) fn new(name: &'static str, site: Site, args: impl Into<String>) -> Self {
        let (args, site) = (args.into(), site.env("IT_SECRET", SECRET));
        let (prints, hide) = (Vec::new(), Vec::new());
        Self { name, site, args, code: 0, says: "", prints, hide, hint: true, ordinary_user: false }
    }

    /// The exit code, and all that is on standard error.
    pub(super) fn says(mut self, code: i32, text: &'static str) -> Self {
        (self.code, self.says) = (code, text);
        self
    }

    /// A text that stands on standard output, which is empty otherwise.
    pub(super) fn prints(mut self, text: &'static str) -> Self {
        self.prints.push(text);
        self
    }

    /// What differs from run to run, and what is written for it here.
    pub(super) fn hide(mut self, text: impl Into<String>, name: &'static str) -> Self {
        self.hide.push((text.into(), name));
        self
    }

    /// Nothing is wrong, so nothing is to be done.
    pub(super) fn without_hint(mut self) -> Self {
        self.hint = false;
        self
    }

    /// Run by a user who may not read everything, even when the tests are run by root.
    pub(super) fn without_root(mut self) -> Self {
        self.ordinary_user = true;
        self
    }

    /// What is wrong with the answer; empty when nothing is.
    fn complaints(&self) -> Vec<String> {
        let args: Vec<&str> = self.args.split_whitespace().collect();
        let said = if self.ordinary_user { self.site.run_as_ordinary_user(&args) } else { self.site.run(&args) };
        let mut wrong = Vec::new();
        let shown = self.shown(&said.err);
        let out = self.shown(&said.out);
        if said.code != self.code {
            wrong.push(format!("exit code {}, not {}", said.code, self.code));
        }
        if shown != self.says {
            wrong.push(format!("it says\n<<{shown}>>\nand not\n<<{}>>", self.says));
        }
        for text in &self.prints {
            if !out.contains(text) {
                wrong.push(format!("it does not print `{text}`"));
            }
        }
        if self.prints.is_empty() && !out.is_empty() {
            wrong.push("it prints something although there is nothing to print".into());
        }
        wrong.extend(self.never(&said));
        if !wrong.is_empty() && !out.is_empty() {
            wrong.push(format!("standard output:\n{out}"));
        }
        wrong
    }

    /// What no message may be like.
    fn never(&self, said: &Said) -> Vec<String> {
        let all = format!("{}{}", said.out, said.err);
        let mut wrong = Vec::new();
        for (name, secret) in secrets_of_the_stack() {
            if all.contains(&secret) {
                wrong.push(format!("it shows the secret {name}"));
            }
        }
        // Debug output of Rust's types, and what a panic leaves behind.
        for word in ["panicked", "RUST_BACKTRACE", "Some(", "Err(", "Error {", "Os {", "Kind:", " kind: "] {
            if all.contains(word) {
                wrong.push(format!("`{word}` is no word for people"));
            }
        }
        if self.hint && said.code != 64 && !all.contains("hint: ") && !all.contains("\"hint\": ") {
            wrong.push("it has no hint".into());
        }
        wrong
    }

    fn shown(&self, text: &str) -> String {
        let mut text = text.replace(&self.site.path().display().to_string(), "SITE");
        for (name, port) in [("PG15", "PG15_PORT"), ("PG17", "PG17_PORT")] {
            text = text.replace(&format!("127.0.0.1:{}", stack().get(port)), name);
        }
        for (value, name) in &self.hide {
            text = text.replace(value, name);
        }
        let lines = text.lines().filter(|line| !is_log(line) && !is_snippet(line)).map(without_chunk);
        let lines: Vec<String> = lines.collect();
        lines.join("\n").trim_end().to_owned()
    }
}

/// The line without the names of chunks, which differ with the store's key: 64 hexadecimal digits.
fn without_chunk(line: &str) -> String {
    let parts = line.split_inclusive(|c: char| !c.is_ascii_alphanumeric());
    let parts = parts.map(|part| {
        let word = part.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        let is_name = word.len() == 64 && word.chars().all(|c| c.is_ascii_hexdigit());
        if is_name { part.replace(word, "CHUNK") } else { part.to_owned() }
    });
    let line: String = parts.collect();
    // The folder it lies in is named after its beginning.
    match line.split_once("`chunks/").and_then(|(before, after)| Some((before, after.split_once('/')?.1))) {
        Some((before, after)) => format!("{before}`chunks/{after}"),
        None => line,
    }
}

fn is_log(line: &str) -> bool {
    line.starts_with("{\"timestamp\"")
}

/// `   ╭─[sexton.yaml:3:1]`, ` 3 │ hots: x`, `   ·  ──`, `   ╰────`.
fn is_snippet(line: &str) -> bool {
    let rest = line.trim_start().trim_start_matches(|c: char| c.is_ascii_digit()).trim_start();
    line.starts_with(' ') && rest.starts_with(['╭', '│', '·', '╰'])
}

/// Every password and key of the stack, and the test's own.
fn secrets_of_the_stack() -> Vec<(String, String)> {
    let secret = |name: &String| name.starts_with("STACK_") && (name.contains("PASSWORD") || name.contains("SECRET"));
    let stack = std::env::vars().filter(|(name, value)| secret(name) && value.len() > 7);
    stack.chain([("IT_SECRET".to_owned(), SECRET.to_owned())]).collect()
}

/// A group of cases.
#[derive(Default)]
pub(super) struct Table(Vec<Case>);

impl Table {
    pub(super) fn case(mut self, case: Case) -> Self {
        self.0.push(case);
        self
    }

    /// Runs every case.
    #[track_caller]
    pub(super) fn check(self) {
        let mut report = String::new();
        for case in &self.0 {
            let wrong = case.complaints();
            if !wrong.is_empty() {
                report.push_str(&format!("\n=== {} (sexton {})\n{}\n", case.name, case.args, wrong.join("\n")));
            }
        }
        assert!(report.is_empty(), "{report}");
    }
}

/// The text with one part of it changed, which must be there.
#[track_caller]
pub(super) fn with(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "`{from}` is not in:\n{text}");
    text.replacen(from, to, 1)
}
