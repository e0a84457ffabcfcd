//! Protobuf messages as fields by number, read and rewritten without knowing the rest of them. Other code than the one
//! under test, which declares its messages.

/// A field's value: a number, or the bytes of a text, a message or something of fixed length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'m> {
    Number(u64),
    Bytes(&'m [u8]),
}

/// The fields in their order, each with its number, its value and its bytes as a whole.
pub fn fields(message: &[u8]) -> Vec<(u64, Value<'_>, &[u8])> {
    let (mut rest, mut fields) = (message, Vec::new());
    while !rest.is_empty() {
        let whole = rest;
        let key = varint(&mut rest);
        let value = match key & 7 {
            0 => Value::Number(varint(&mut rest)),
            1 => Value::Bytes(take(&mut rest, 8)),
            2 => {
                let length = usize::try_from(varint(&mut rest)).unwrap();
                Value::Bytes(take(&mut rest, length))
            }
            5 => Value::Bytes(take(&mut rest, 4)),
            kind => panic!("wire type {kind}"),
        };
        fields.push((key >> 3, value, &whole[..whole.len() - rest.len()]));
    }
    fields
}

/// The values of a field that is text or a message, all of them.
pub fn all(message: &[u8], number: u64) -> Vec<&[u8]> {
    let of_number = |(there, value, _)| match value {
        Value::Bytes(bytes) if there == number => Some(bytes),
        _ => None,
    };
    fields(message).into_iter().filter_map(of_number).collect()
}

/// The last value of a field that is text or a message; empty when there is none.
pub fn one(message: &[u8], number: u64) -> &[u8] {
    all(message, number).pop().unwrap_or_default()
}

/// The same as text.
pub fn text(message: &[u8], number: u64) -> String {
    String::from_utf8(one(message, number).to_vec()).unwrap()
}

/// The last value of a field that is a number; zero when there is none.
pub fn number(message: &[u8], number: u64) -> i64 {
    let value = |(there, value, _): &(u64, Value<'_>, _)| match value {
        Value::Number(value) if *there == number => Some(value.cast_signed()),
        _ => None,
    };
    fields(message).iter().rev().find_map(value).unwrap_or_default()
}

/// The message with this field put in the place of all that have its number.
pub fn replace(message: &[u8], number: u64, value: Value<'_>) -> Vec<u8> {
    let mut new: Vec<u8> =
        fields(message).into_iter().filter(|field| field.0 != number).flat_map(|field| field.2.to_vec()).collect();
    put(&mut new, number, value);
    new
}

/// Appends a field.
pub fn put(message: &mut Vec<u8>, number: u64, value: Value<'_>) {
    match value {
        Value::Number(value) => {
            put_varint(message, number << 3);
            put_varint(message, value);
        }
        Value::Bytes(bytes) => {
            put_varint(message, number << 3 | 2);
            put_varint(message, bytes.len() as u64);
            message.extend_from_slice(bytes);
        }
    }
}

/// `google.protobuf.Timestamp`.
pub fn timestamp(seconds: i64) -> Vec<u8> {
    let mut message = Vec::new();
    put(&mut message, 1, Value::Number(seconds.cast_unsigned()));
    message
}

fn varint(rest: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(rest, 1)[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return value;
        }
    }
    panic!("a number without an end");
}

fn put_varint(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
        value >>= 7;
    }
    message.push(u8::try_from(value).unwrap());
}

fn take<'m>(rest: &mut &'m [u8], length: usize) -> &'m [u8] {
    let (taken, after) = rest.split_at(length);
    *rest = after;
    taken
}
