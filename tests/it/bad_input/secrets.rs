//! Secrets in the configuration: where they are is written, never what they are.

use super::{Case, GOOD, SECRET, Table, with};
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
        .case(password("variable not set", "{env: IT_NOT_SET}").says(
            78,
            "\
error: sexton.yaml:5:13: the environment variable IT_NOT_SET is not set
  hint: set it before sexton starts; in Kubernetes through env.valueFrom.secretKeyRef",
        ))
        .case(unset("variable empty", "").says(
            78,
            "\
error: sexton.yaml:5:13: the environment variable IT_OTHER is empty
  hint: give it the secret's value",
        ))
        .case(password("file missing", "{file: secrets/password}").says(
            78,
            "\
error: sexton.yaml:5:13: the secret file secrets/password cannot be read: No such file or directory
  hint: check the path and that the user that runs sexton may read it",
        ))
        .case(file("file empty", b"").says(
            78,
            "\
error: sexton.yaml:5:13: the secret file password is empty
  hint: write the secret into it",
        ))
        .case(file("file with a line end alone", b"\n").says(
            78,
            "\
error: sexton.yaml:5:13: the secret file password is empty
  hint: write the secret into it",
        ))
        .case(file("file not in UTF-8", b"\xff\xfe\x00").says(
            78,
            "\
error: sexton.yaml:5:13: the secret file password is not text in UTF-8
  hint: save it as UTF-8",
        ))
        .case(password("two sources", "{env: IT_SECRET, file: x}").says(
            78,
            "\
error: sexton.yaml:5:13: a secret with two sources
  hint: keep one of `env` and `file`",
        ))
        .case(password("no source", "{}").says(
            78,
            "\
error: sexton.yaml:5:13: a secret is missing here
  hint: write {env: NAME} or {file: PATH}",
        ))
        .case(password("unknown source", "{vault: x}").says(
            78,
            "\
error: sexton.yaml:5:13: a secret comes from `env` or `file` and nothing else
  hint: write {env: NAME} or {file: PATH}",
        ))
        .case(password("variable of no name", "{env: ''}").says(
            78,
            "\
error: sexton.yaml:5:19: this is not the name of an environment variable
  hint: write letters, digits and `_`, and never the secret itself",
        ))
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
        .case(password("secret as a text", SECRET).says(
            78,
            "\
error: sexton.yaml:5:13: a secret is never written here
  hint: write {env: NAME} or {file: PATH}",
        ))
        .case(password("secret as a number", "739100007391").says(
            78,
            "\
error: sexton.yaml:5:13: a secret is never written here
  hint: write {env: NAME} or {file: PATH}",
        ))
        .case(password("secret in a list", &list).says(
            78,
            "\
error: sexton.yaml:5:13: a secret is never written here
  hint: write {env: NAME} or {file: PATH}",
        ))
        .case(password("secret as a key", &map).says(
            78,
            "\
error: sexton.yaml:5:13: a secret comes from `env` or `file` and nothing else
  hint: write {env: NAME} or {file: PATH}",
        ))
        .case(password("secret below env", &value).says(
            78,
            "\
error: sexton.yaml:5:19: one value is expected here
  hint: write a single text or number",
        ))
        .case(password("secret in a quote that is not closed", &unclosed).says(
            78,
            "\
error: sexton.yaml:5:13: this is not YAML: unclosed quote
  hint: check indentation, quotes and brackets here and in the line above",
        ))
        .case(password("secret with a tag", &tagged).says(
            78,
            "\
error: sexton.yaml:5:19: a whole number, zero or more, is expected here
  hint: write it without quotes and without a unit",
        ))
        .case(password("secret as the variable's name", &format!("{{env: {SECRET}}}")).says(
            78,
            "\
error: sexton.yaml:5:19: this is not the name of an environment variable
  hint: write letters, digits and `_`, and never the secret itself",
        ))
        .case(
            Case::new(
                "secret behind a misspelled key",
                Site::new(&with(GOOD, "password: {env: IT_SECRET}", &format!("pasword: {SECRET}"))),
                "doctor",
            )
            .says(
                78,
                "\
error: sexton.yaml:5:3: unknown key `pasword`
  hint: did you mean `password`?",
            ),
        )
        .case(
            Case::new(
                "secret in the line below the mistake",
                Site::new(&with(
                    GOOD,
                    "user: sexton\n  password: {env: IT_SECRET}",
                    &format!("usr: sexton\n  password: {SECRET}"),
                )),
                "doctor",
            )
            .says(
                78,
                "\
error: sexton.yaml:4:3: unknown key `usr`
  hint: did you mean `user`?",
            ),
        )
        .case(password("dollar and name", "$IT_SECRET").says(
            78,
            "\
error: sexton.yaml:5:13: a secret is never written here
  hint: write {env: NAME} or {file: PATH}",
        ))
        .check();
}
