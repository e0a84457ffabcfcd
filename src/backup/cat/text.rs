//! Lines as COPY writes them (PostgreSQL manual, COPY, "Text Format" and "CSV Format").

/// A line of `FORMAT csv`: NULL is nothing, an empty text is in quotes.
pub(super) fn csv_row(fields: &[Option<&[u8]>], out: &mut Vec<u8>) {
    for (place, field) in fields.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        let Some(field) = field else { continue };
        let special = |byte: &u8| matches!(byte, b',' | b'"' | b'\n' | b'\r');
        // Alone on its line it would end the data.
        let is_end = fields.len() == 1 && *field == b"\\.";
        if field.is_empty() || is_end || field.iter().any(special) {
            out.push(b'"');
            for byte in *field {
                if *byte == b'"' {
                    out.push(b'"');
                }
                out.push(*byte);
            }
            out.push(b'"');
        } else {
            out.extend_from_slice(field);
        }
    }
    out.push(b'\n');
}

/// The letters behind a backslash and what they stand for.
const ESCAPES: [(u8, u8); 7] =
    [(b'b', 8), (b'f', 12), (b'n', b'\n'), (b'r', b'\r'), (b't', b'\t'), (b'v', 11), (b'\\', b'\\')];

/// A line of `FORMAT text`.
pub(super) fn text_row(fields: &[Option<&[u8]>], out: &mut Vec<u8>) {
    for (place, field) in fields.iter().enumerate() {
        if place > 0 {
            out.push(b'\t');
        }
        let Some(field) = field else {
            out.extend_from_slice(b"\\N");
            continue;
        };
        for byte in *field {
            match ESCAPES.iter().find(|(_, stands_for)| stands_for == byte) {
                Some((letter, _)) => out.extend_from_slice(&[b'\\', *letter]),
                None => out.push(*byte),
            }
        }
    }
    out.push(b'\n');
}

/// A field of `FORMAT text`; `None` for NULL.
pub(in crate::backup) fn unescape(field: &[u8]) -> Option<Vec<u8>> {
    if field == b"\\N" {
        return None;
    }
    let mut out = Vec::with_capacity(field.len());
    let mut bytes = field.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => {
                let Some(letter) = bytes.next() else { break };
                let found = ESCAPES.iter().find(|(known, _)| known == letter);
                out.push(found.map_or(*letter, |(_, stands_for)| *stands_for));
            }
            byte => out.push(*byte),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_escaped_reads_back(fields in proptest::collection::vec(proptest::option::of(proptest::collection::vec(1u8.., 0..20)), 1..4)) {
            let refs: Vec<Option<&[u8]>> = fields.iter().map(Option::as_deref).collect();
            let mut line = Vec::new();
            text_row(&refs, &mut line);
            prop_assert_eq!(line.pop(), Some(b'\n'));
            let back: Vec<Option<Vec<u8>>> = line.split(|byte| *byte == b'\t').map(unescape).collect();
            prop_assert_eq!(back, fields);
        }
    }

    #[test]
    fn csv_tells_null_from_empty() {
        let check = |fields: &[Option<&[u8]>], expect: &str| {
            let mut line = Vec::new();
            csv_row(fields, &mut line);
            assert_eq!(String::from_utf8(line).unwrap(), expect);
        };
        check(&[None, Some(b""), Some(b"a,\"b\"\n")], ",\"\",\"a,\"\"b\"\"\n\"\n");
        check(&[Some(b"\\.")], "\"\\.\"\n");
        check(&[Some(b"\\."), Some(b"x")], "\\.,x\n");
        check(&[], "\n");
    }
}
