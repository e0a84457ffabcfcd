//! A message of which a few fields are read among many: the others are stepped over before the decoder sees them.
//!
//! What can be read, and what is read, is decided by prost alone: wherever the bytes are anything but plain fields, it
//! gets all of them.

use prost::{DecodeError, Message};

/// What `M::decode` gives; `read` names every field that `M` has.
pub(super) fn decode<M: Message + Default>(bytes: &[u8], read: impl Fn(u32) -> bool) -> Result<M, DecodeError> {
    sift(bytes, read).map_or_else(|| M::decode(bytes), Ok)
}

/// `None` when it cannot be told here.
fn sift<M: Message + Default>(bytes: &[u8], read: impl Fn(u32) -> bool) -> Option<M> {
    let (mut message, mut rest) = (M::default(), bytes);
    while !rest.is_empty() {
        let (key, after) = short_varint(rest)?;
        let after = match key & 7 {
            0 => after.get(length_of_varint(after)?..)?,
            1 => after.get(8..)?,
            2 => {
                let (length, after) = short_varint(after)?;
                after.get(usize::try_from(length).ok()?..)?
            }
            5 => after.get(4..)?,
            // Groups, and what is none of these.
            _ => return None,
        };
        match key >> 3 {
            0 => return None,
            tag if read(tag) => message.merge(rest.get(..rest.len() - after.len())?).ok()?,
            _ => {}
        }
        rest = after;
    }
    Some(message)
}

/// A number of up to four bytes, and what comes after it.
#[inline]
fn short_varint(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let mut value = 0;
    for (place, byte) in bytes.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7f) << (7 * place);
        if *byte < 0x80 {
            return Some((value, bytes.get(place + 1..)?));
        }
    }
    None
}

/// How long a number is that is stepped over. Of ten bytes not all are numbers.
fn length_of_varint(bytes: &[u8]) -> Option<usize> {
    bytes.iter().take(9).position(|byte| *byte < 0x80).map(|last| last + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clients::persistence::messages::WorkflowExecutionInfo;

    fn same(bytes: &[u8]) {
        let sifted = decode::<WorkflowExecutionInfo>(bytes, WorkflowExecutionInfo::reads);
        assert_eq!(sifted.ok(), WorkflowExecutionInfo::decode(bytes).ok(), "{bytes:?}");
    }

    /// A field with a number that is read or not, of any wire type, with contents that may not be of it.
    fn field() -> impl Strategy<Value = Vec<u8>> {
        let tag = prop_oneof![prop::sample::select(vec![10_u64, 54, 56, 66, 67]), 0..200_u64, 0..5_000_000_u64];
        let contents = prop_oneof![
            prop::collection::vec(any::<u8>(), 0..12),
            any::<u64>().prop_map(varint),
            prop::collection::vec(any::<u8>(), 0..300).prop_map(sized),
            (1..3_u64, prop::collection::vec(any::<u8>(), 0..30))
                .prop_map(|(tag, bytes)| sized([varint(tag << 3 | 2), sized(bytes)].concat())),
            (1..3_u64, any::<u64>()).prop_map(|(tag, value)| sized([varint(tag << 3), varint(value)].concat())),
            "[a-z]{0,20}".prop_map(|text| sized(text.into_bytes())),
        ];
        (tag, 0..8_u64, contents).prop_map(|(tag, kind, bytes)| [varint(tag << 3 | kind), bytes].concat())
    }

    fn varint(value: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        prost::encoding::encode_varint(value, &mut bytes);
        bytes
    }

    fn sized(bytes: Vec<u8>) -> Vec<u8> {
        [varint(bytes.len() as u64), bytes].concat()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        #[test]
        fn it_reads_what_prost_reads(fields in prop::collection::vec(field(), 0..6), cut in 0..400_usize) {
            let bytes = fields.concat();
            same(&bytes);
            same(&bytes[..cut.min(bytes.len())]);
        }
    }

    #[test]
    fn numbers_of_every_length_are_stepped_over() {
        for shift in 0..64 {
            same(&[varint(5 << 3), varint(1 << shift), varint(67 << 3), varint(1)].concat());
        }
        for long in [[0xff; 9].to_vec(), [0xff; 11].to_vec(), [[0xff; 9].to_vec(), vec![2]].concat()] {
            same(&[varint(5 << 3), long, vec![0]].concat());
        }
    }
}
