//! The parser's errors in words for people, each with what to do: the key or value they probably meant.

/// Says what is wrong and what to do. `rendered` is the parser's own text, without its position. The custom messages
/// of this crate's types have both in one: `what is wrong; what to do`.
pub(super) fn words(error: &serde_saphyr::Error, rendered: &str) -> (String, String) {
    use serde_saphyr::Error as E;
    let said = |message: &str, hint: &str| (message.to_owned(), hint.to_owned());
    match error {
        E::SerdeUnknownField { field, expected, .. } => {
            (format!("unknown key `{field}`"), meant(field, expected, "known here"))
        }
        E::SerdeUnknownVariant { variant, expected, .. } => {
            (format!("`{variant}` is not known here"), meant(variant, expected, "write one of"))
        }
        E::SerdeMissingField { field, .. } => (format!("`{field}` is missing"), format!("add `{field}:`")),
        E::DuplicateMappingKey { key, .. } => {
            let key = key.as_ref().map(|key| format!(" `{key}`")).unwrap_or_default();
            (format!("the key{key} is there twice"), "keep one of the two; which one counts would be a guess".into())
        }
        E::MultipleDocuments { .. } => {
            said("a second document begins here", "keep one document per file; remove the `---`")
        }
        E::InvalidScalar { ty, .. } if ty.starts_with("bool") => {
            said("`true` or `false` is expected here", "write one of them")
        }
        E::InvalidScalar { ty, .. } => number(ty),
        E::InvalidBooleanStrict { .. } => said("`true` or `false` is expected here", "write one of them"),
        E::Unexpected { expected, .. } if expected.contains("mapping") => {
            said("a section with keys is expected here", "write its keys below it, or `{key: value}`")
        }
        E::Unexpected { expected, .. } if expected.contains("sequence") => {
            said("a list is expected here", "write `[a, b]`, or one `- item` per line")
        }
        E::Unexpected { .. } => said("one value is expected here", "write a single text or number"),
        E::NullIntoString { .. } => said("a value is missing here", "write one after the colon, or remove the key"),
        // What was found is not repeated: it may be a secret in the wrong place.
        E::SerdeInvalidType { expected, .. } | E::SerdeInvalidValue { expected, .. } => {
            (format!("{expected} is expected here"), "write that, or remove the key".into())
        }
        E::Eof { .. } => said("the file ends too early", "close what is open: a quote or a bracket"),
        E::Budget { .. } | E::AliasReplayLimitExceeded { .. } | E::AliasExpansionLimitExceeded { .. } => {
            said("the file is nested too deep or too large", "write it flatter, without aliases")
        }
        _ if rendered.contains("null is not allowed") => {
            said("a value is missing here", "write one after the colon, or remove the key")
        }
        _ if rendered.contains(" tab") => said("a tab where only spaces may be", "indent with spaces"),
        E::Message { .. } => match rendered.split_once("; ") {
            Some((message, hint)) => (message.to_owned(), hint.to_owned()),
            None => said(rendered, "sexton.example.yaml and the files in policies/ show how it is written"),
        },
        _ => (
            format!("this is not YAML: {rendered}"),
            "check indentation, quotes and brackets here and in the line above".to_owned(),
        ),
    }
}

/// The likely word, or all of them.
fn meant(word: &str, known: &[&'static str], introduction: &str) -> String {
    match nearest(word, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("{introduction}: {}", known.join(", ")),
    }
}

fn number(ty: &str) -> (String, String) {
    let most = match ty {
        "u8" => Some(u64::from(u8::MAX)),
        "u16" => Some(u64::from(u16::MAX)),
        "u32" => Some(u64::from(u32::MAX)),
        "u64" | "usize" => Some(u64::MAX),
        _ => None,
    };
    let what = match most {
        Some(most) if most == u64::MAX => "a whole number, zero or more,".to_owned(),
        Some(most) => format!("a whole number from 0 to {most}"),
        None => "a number".to_owned(),
    };
    (format!("{what} is expected here"), "write it without quotes and without a unit".into())
}

/// The candidate within two edits, or a third of the length for long words.
fn nearest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let limit = (word.chars().count() / 3).max(2);
    candidates
        .iter()
        .map(|c| (distance(word, c), *c))
        .filter(|(d, _)| *d <= limit)
        .min_by_key(|(d, _)| *d)
        .map(|(_, c)| c)
}

/// Edits between two words: insertions, deletions, replacements, and two neighbours swapped, which is the likeliest
/// slip of all (optimal string alignment).
pub(crate) fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    let mut last = None;
    for (i, ca) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for (j, cb) in b.iter().enumerate() {
            let at = |row: &[usize], column: usize| row.get(column).copied().unwrap_or(usize::MAX - 1);
            let mut best = (at(&row, j) + usize::from(ca != *cb)).min(at(&row, j + 1) + 1).min(at(&next, j) + 1);
            let swapped = last == Some(*cb) && j.checked_sub(1).and_then(|k| b.get(k)) == Some(&ca);
            if let (true, Some(k)) = (swapped, j.checked_sub(1)) {
                best = best.min(at(&before, k) + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut row, next);
        last = Some(ca);
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_finds_its_word() {
        assert_eq!(nearest("hots", &["host", "port"]), Some("host"));
        assert_eq!(nearest("retnetion", &["retention", "owner"]), Some("retention"));
        assert_eq!(nearest("serach", &["scratch", "search"]), Some("search"));
        assert_eq!(nearest("zzz", &["host", "port"]), None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
