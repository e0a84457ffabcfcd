//! Keeps secrets out of the snippets of error messages: what somebody wrote into the file in their stead is blotted
//! out, character by character, so that the columns stay.

/// What a key's name has in it when its value may be a secret; misspelled ones count.
const SECRET_WORDS: [&str; 8] = ["pass", "pasw", "pwd", "secret", "token", "key", "credential", "auth"];

/// The text as it may be shown.
pub(super) fn blot(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    // Deeper lines belong to the key of a secret at this indentation.
    let mut below: Option<usize> = None;
    for line in text.split_inclusive('\n') {
        let indent = line.len() - line.trim_start().len();
        if line.trim().is_empty() {
            out.push_str(line);
            continue;
        }
        if below.is_some_and(|depth| indent > depth) {
            if harmless(line.trim()) {
                out.push_str(line)
            } else {
                hide(line, &mut out)
            }
            continue;
        }
        below = secret_line(line, &mut out).then_some(indent);
    }
    hide_keys(&hide_logins(&out))
}

/// Copies a line, hiding what follows the key of a secret; true when it has such a key.
fn secret_line(line: &str, out: &mut String) -> bool {
    let mut found = false;
    let mut rest = line;
    while let Some(at) = rest.find(':') {
        let (before, after) = (rest.get(..at).unwrap_or_default(), rest.get(at..).unwrap_or_default());
        out.push_str(before);
        let key = before.trim_end_matches(['"', '\'', ' ']);
        let key = key.rsplit(|c: char| !c.is_alphanumeric() && c != '_' && c != '-').next().unwrap_or_default();
        let key = key.to_lowercase();
        if SECRET_WORDS.iter().any(|word| key.contains(word)) {
            found = true;
            let value = after.strip_prefix(':').unwrap_or(after);
            let end = if harmless(value.trim()) { Some(value.len()) } else { reference(value) };
            let Some(end) = end else {
                out.push(':');
                hide(value, out);
                return true;
            };
            let (shown, next) = value.split_at_checked(end).unwrap_or((value, ""));
            out.push(':');
            out.push_str(shown);
            rest = next;
        } else {
            out.push(':');
            rest = after.strip_prefix(':').unwrap_or(after);
        }
    }
    out.push_str(rest);
    found
}

/// True for nothing, a comment, and `env: NAME` or `file: PATH` on a line of their own.
fn harmless(value: &str) -> bool {
    value.is_empty() || value.starts_with('#') || named(value)
}

fn named(text: &str) -> bool {
    let only = |text: &str, more: &str| text.trim().chars().all(|c| c.is_alphanumeric() || more.contains(c));
    text.strip_prefix("env:").is_some_and(|name| only(name, "_"))
        || text.strip_prefix("file:").is_some_and(|path| only(path, "_./-"))
}

/// Where `{env: NAME}` or `{file: PATH}` ends, when the value is one.
fn reference(value: &str) -> Option<usize> {
    let open = value.find('{').filter(|at| value.get(..*at).is_some_and(|before| before.trim().is_empty()))?;
    let close = value.find('}')?;
    named(value.get(open + 1..close)?.trim()).then_some(close + 1)
}

/// `https://user:password@host`, what follows a `?`, and the path on a host such as `hooks.slack.com`, where it is the
/// secret.
fn hide_logins(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at_checked(at + 3).unwrap_or((rest, ""));
        out.push_str(before);
        let end = after.find(char::is_whitespace).unwrap_or(after.len());
        let login = after.get(..end).and_then(|word| word.rfind('@')).unwrap_or(0);
        let (login, next) = after.split_at_checked(login).unwrap_or(("", after));
        hide(login, &mut out);
        let end = next.find(char::is_whitespace).unwrap_or(next.len());
        let (address, next) = next.split_at_checked(end).unwrap_or((next, ""));
        let secret = if address.starts_with("hooks.") { address.find('/') } else { address.find('?') };
        let (shown, hidden) = secret.and_then(|at| address.split_at_checked(at + 1)).unwrap_or((address, ""));
        out.push_str(shown);
        hide(hidden, &mut out);
        rest = next;
    }
    out.push_str(rest);
    out
}

/// `AGE-SECRET-KEY-1…`, wherever it stands.
pub(super) fn hide_keys(text: &str) -> String {
    const MARK: &str = "AGE-SECRET-KEY-";
    let (upper, mut out, mut from) = (text.to_ascii_uppercase(), String::with_capacity(text.len()), 0);
    while let Some(at) = upper.get(from..).and_then(|rest| rest.find(MARK)) {
        let begin = from + at + MARK.len();
        let length = text.get(begin..).and_then(|rest| rest.find(|c: char| !c.is_ascii_alphanumeric()));
        let end = length.map_or(text.len(), |length| begin + length);
        out.push_str(text.get(from..begin).unwrap_or_default());
        hide(text.get(begin..end).unwrap_or_default(), &mut out);
        from = end;
    }
    out.push_str(text.get(from..).unwrap_or_default());
    out
}

/// As many bytes, so that positions counted in bytes stay right too.
fn hide(text: &str, out: &mut String) {
    for c in text.chars() {
        if c.is_whitespace() { out.push(c) } else { out.extend(std::iter::repeat_n('*', c.len_utf8())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn secrets_are_blotted_out_and_references_are_not() {
        let check = |text: &str, expect: &str| assert_eq!(blot(text), expect);
        check("password: hunter2 # mine\nport: 1", "password: ******* * ****\nport: 1");
        check("pasword: 'x y'", "pasword: ** **");
        check("password: {env: NAME}\n", "password: {env: NAME}\n");
        check("password: {file: /run/x.txt}\n", "password: {file: /run/x.txt}\n");
        check("password: {env: hunter-2}\n", "password: ***** *********\n");
        check("password: {hunter2: x}\n", "password: ********* **\n");
        check("basic: {user: u, password: {env: P}, token: x}", "basic: {user: u, password: {env: P}, token: **");
        check("password:\n  env: NAME\n  hunter2\nhost: x", "password:\n  env: NAME\n  *******\nhost: x");
        check("password: |\n  a\n\n  b\nhost: x", "password: *\n  *\n\n  *\nhost: x");
        check("url: 'https://u:p@h:1'", "url: 'https://***@h:1'");
        check("url: 'https://h:1' # x", "url: 'https://h:1' # x");
        check("url: https://hooks.slack.com/services/T0 # x", "url: https://hooks.slack.com/*********** # x");
        check("url: https://h/x?token=y", "url: https://h/x?*******");
        check("\"api_key\" : é", "\"api_key\" : **");
        check("recipients: [age-secret-key-1AB, 'x']", "recipients: [age-secret-key-***, 'x']");
        check("a: AGE-SECRET-KEY-1\nb: AGE-SECRET-KEY-é", "a: AGE-SECRET-KEY-*\nb: AGE-SECRET-KEY-é");
    }

    proptest! {
        #[test]
        fn bytes_and_lines_stay(text in "[a-z:{}@/ \n'é]{0,60}") {
            let shown = blot(&text);
            prop_assert_eq!(shown.len(), text.len());
            prop_assert_eq!(shown.lines().count(), text.lines().count());
        }
    }
}
