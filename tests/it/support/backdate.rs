//! Runs that closed long ago: Temporal's own rows with another end, for a server that is started after it.

use jiff::Timestamp;

use super::postgres::Scratch;

/// `close_time` of `WorkflowExecutionInfo`.
const CLOSE_TIME: u64 = 66;

/// Gives a closed run another end. The server must not be running: it keeps what it has read.
pub fn closed_at(database: &Scratch, run: &str, closed: Timestamp) {
    let run = run.replace('-', "");
    let which = format!("FROM executions WHERE run_id = '\\x{run}'::bytea");
    let row = hex(&database.psql(&format!("SELECT encode(data, 'hex') {which}")));
    let mut data = without(&row, CLOSE_TIME);
    assert_ne!(data.len(), row.len(), "run {run} is not closed");
    let mut time = vec![0x08];
    varint(u64::try_from(closed.as_second()).unwrap(), &mut time);
    varint(CLOSE_TIME << 3 | 2, &mut data);
    varint(time.len() as u64, &mut data);
    data.extend(time);
    let written: String = data.iter().map(|byte| format!("{byte:02x}")).collect();
    database.psql(&format!("UPDATE executions SET data = '\\x{written}'::bytea WHERE run_id = '\\x{run}'::bytea"));
}

/// A protobuf message without one of its fields.
fn without(message: &[u8], field: u64) -> Vec<u8> {
    let (mut rest, mut kept) = (message, Vec::new());
    while !rest.is_empty() {
        let all = rest;
        let tag = read(&mut rest);
        let skip = match tag & 7 {
            0 => {
                read(&mut rest);
                0
            }
            1 => 8,
            2 => usize::try_from(read(&mut rest)).unwrap(),
            5 => 4,
            other => panic!("wire type {other}"),
        };
        rest = &rest[skip..];
        if tag >> 3 != field {
            kept.extend_from_slice(&all[..all.len() - rest.len()]);
        }
    }
    kept
}

fn read(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for (place, byte) in bytes.iter().enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            *bytes = &bytes[place + 1..];
            return value;
        }
    }
    panic!("a number without an end");
}

fn varint(mut value: u64, into: &mut Vec<u8>) {
    while value >= 0x80 {
        into.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
        value >>= 7;
    }
    into.push(u8::try_from(value).unwrap());
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().map(|c| c.to_digit(16).unwrap()).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap()).collect()
}
