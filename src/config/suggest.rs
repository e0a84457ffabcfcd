//! Hints for the mistakes people make in YAML: the key or value they probably meant.

/// What to do about a parse error; `None` when the message says it all.
pub(super) fn hint(error: &serde_saphyr::Error, message: &str) -> Option<String> {
    use serde_saphyr::Error as E;
    match error {
        E::SerdeUnknownField { field, expected, .. } | E::SerdeUnknownVariant { variant: field, expected, .. } => {
            Some(match nearest(field, expected) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known here: {}", expected.join(", ")),
            })
        }
        E::SerdeMissingField { field, .. } => Some(format!("add `{field}:`")),
        E::DuplicateMappingKey { .. } => Some("keep one of the two; which one counts would be a guess".into()),
        E::MultipleDocuments { .. } => Some("keep one document per file; remove the `---`".into()),
        _ if message.contains("tab") => Some("indent with spaces".into()),
        _ => None,
    }
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

/// Levenshtein distance in characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (slot, cb) in row.iter_mut().skip(1).zip(&b) {
            let up = *slot;
            let best = (diagonal + usize::from(ca != *cb)).min(up + 1).min(left + 1);
            diagonal = up;
            left = best;
            *slot = best;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
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
        assert_eq!(nearest("zzz", &["host", "port"]), None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
