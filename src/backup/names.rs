//! Lists of chunks as objects: one name a line, so that `sort`, `comm` and `grep` read them as well.

use bytes::Bytes;

use super::chunk::ChunkName;

/// The largest list that is read: sixteen million names.
pub(super) const MAX_NAMES: u64 = 1 << 30;

/// The bytes of a list.
pub(super) fn write(names: impl IntoIterator<Item = ChunkName>) -> Bytes {
    let mut text = String::new();
    for name in names {
        text.push_str(&name.to_string());
        text.push('\n');
    }
    text.into()
}

/// The names of a list.
///
/// # Errors
/// When a line is no name of a chunk.
pub(super) fn read(bytes: &[u8]) -> Result<Vec<ChunkName>, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    text.lines().map(str::parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::chunk::Keys;
    use crate::backup::rows::Format;

    #[test]
    fn a_list_reads_back_and_what_is_no_list_does_not() {
        let keys = Keys::new("x", Format::Text);
        let names: Vec<ChunkName> =
            [b"a", b"b"].iter().map(|bytes| ChunkName { id: keys.id(*bytes), sealed: None }).collect();
        assert_eq!(read(&write(names.clone())), Ok(names));
        assert_eq!(read(b""), Ok(vec![]));
        assert!(read(b"{}\n").is_err() && read(b"\xff").is_err());
    }
}
