//! Secrets in the configuration: where they are is written, never what they are.

use super::{Case, GOOD, SECRET, TODO, Table, with};
use crate::support::site::Site;

fn password(name: &'static str, written: &str) -> Case {
    Case::new(name, Site::new(&with(GOOD, "{env: IT_SECRET}", written)), "doctor")
}

#[test]
fn references() {
    let unset = |name, value| {
        let case = password(name, "{env: IT_OTHER}");
        Case { site: case.site.env("IT_OTHER", value), ..case }
    };
    let file = |name, content: &[u8]| {
        let case = password(name, "{file: password}");
        std::fs::write(case.site.path().join("password"), content).unwrap();
        case
    };
    Table::default()
        .case(password("variable not set", "{env: IT_NOT_SET}").says(78, TODO))
        .case(unset("variable empty", "").says(78, TODO))
        .case(password("file missing", "{file: secrets/password}").says(78, TODO))
        .case(file("file empty", b"").says(78, TODO))
        .case(file("file with a line end alone", b"\n").says(78, TODO))
        .case(file("file not in UTF-8", b"\xff\xfe\x00").says(78, TODO))
        .case(password("two sources", "{env: IT_SECRET, file: x}").says(78, TODO))
        .case(password("no source", "{}").says(78, TODO))
        .case(password("unknown source", "{vault: x}").says(78, TODO))
        .case(password("variable of no name", "{env: ''}").says(78, TODO))
        .check();
}

#[test]
fn written_inline_they_are_not_repeated() {
    let list = format!("[{SECRET}]");
    let map = format!("{{{SECRET}: x}}");
    let value = format!("{{env: {{{SECRET}: x}}}}");
    let unclosed = format!("'{SECRET}");
    let tagged = format!("!!int {SECRET}");
    Table::default()
        .case(password("secret as a text", SECRET).says(78, TODO))
        .case(password("secret as a number", "739100007391").says(78, TODO))
        .case(password("secret in a list", &list).says(78, TODO))
        .case(password("secret as a key", &map).says(78, TODO))
        .case(password("secret below env", &value).says(78, TODO))
        .case(password("secret in a quote that is not closed", &unclosed).says(78, TODO))
        .case(password("secret with a tag", &tagged).says(78, TODO))
        .case(password("secret as the variable's name", &format!("{{env: {SECRET}}}")).says(78, TODO))
        .case(Case::new("secret behind a misspelled key", Site::new(&with(GOOD, "password: {env: IT_SECRET}", &format!("pasword: {SECRET}"))), "doctor").says(78, TODO))
        .case(Case::new("secret in the line above the mistake", Site::new(&with(GOOD, "{env: IT_SECRET}\n  databases", &format!("{SECRET}\n  databsaes"))), "doctor").says(78, TODO))
        .case(password("dollar and name", "$IT_SECRET").says(78, TODO))
        .check();
}
