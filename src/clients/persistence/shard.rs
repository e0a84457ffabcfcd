//! Which history shard a run lies in.

use uuid::Uuid;

const FIRST: u32 = 0xcc9e_2d51;
const SECOND: u32 = 0x1b87_3593;
const ADDED: u32 = 0xe654_6b64;

/// The history shard of a workflow's runs, from 1, in a cluster of so many shards; 0 when there are none.
///
/// The server takes the 32-bit FarmHash fingerprint of `namespace_workflow` (`WorkflowIDToHistoryShard` in its source).
#[must_use]
pub fn shard_of(namespace: Uuid, workflow: &str, shards: u32) -> i32 {
    let text = format!("{namespace}_{workflow}");
    let shard = fingerprint(text.as_bytes()).checked_rem(shards).and_then(|shard| i32::try_from(shard + 1).ok());
    shard.unwrap_or(0)
}

/// FarmHash's `Fingerprint32` of more than 24 bytes, which a namespace's id and a separator always are.
fn fingerprint(text: &[u8]) -> u32 {
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    // Counted from the end, in words of four bytes.
    let last = |words: usize| scatter(word(text, text.len().saturating_sub(4 * words)));
    let mut h = stir(stir(length ^ last(1)) ^ last(4));
    let mut g = stir(stir(FIRST.wrapping_mul(length) ^ last(2)) ^ last(3));
    let mut f = FIRST.wrapping_mul(length).wrapping_add(last(5)).rotate_right(19).wrapping_add(113);
    for block in 0..text.len().saturating_sub(1) / 20 {
        let [a, b, c, d, e] = [0, 1, 2, 3, 4].map(|place| word(text, block * 20 + place * 4));
        h = h.wrapping_add(a);
        g = g.wrapping_add(b);
        f = f.wrapping_add(c);
        h = mix(d, h).wrapping_add(e);
        g = mix(c, g).wrapping_add(a);
        f = mix(b.wrapping_add(e.wrapping_mul(FIRST)), f).wrapping_add(d);
        f = f.wrapping_add(g);
        g = g.wrapping_add(f);
    }
    let spread = |x: u32| {
        let half = x.rotate_right(11).wrapping_mul(FIRST);
        half.rotate_right(17).wrapping_mul(FIRST)
    };
    let fold = |x: u32| step(x.rotate_right(19)).rotate_right(17).wrapping_mul(FIRST);
    fold(fold(h.wrapping_add(spread(g))).wrapping_add(spread(f)))
}

/// The four bytes at a place, least significant first; 0 beyond the end.
fn word(text: &[u8], at: usize) -> u32 {
    text.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn scatter(x: u32) -> u32 {
    x.wrapping_mul(FIRST).rotate_right(17).wrapping_mul(SECOND)
}

fn step(x: u32) -> u32 {
    x.wrapping_mul(5).wrapping_add(ADDED)
}

fn stir(x: u32) -> u32 {
    step(x.rotate_right(19))
}

fn mix(x: u32, into: u32) -> u32 {
    stir(into ^ scatter(x))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_those_of_the_servers_own_library() {
        // From `farm.Fingerprint32` of the version that server 1.31 is built with.
        let check = |workflow: &str, expect: u32| {
            let text = format!("32049b68-7872-4094-8e63-d0dd59896a83_{workflow}");
            assert_eq!(fingerprint(text.as_bytes()), expect, "{text}");
        };
        check("w", 0xa047_a39c);
        check("order-1", 0x94b5_780d);
        check("temporal-sys-history-scanner", 0x7d47_08d7);
        check("bestellung-äöü-☃", 0x49e9_4a75);
        check(&"x".repeat(200), 0x2829_3b50);
        check("abcdefghijklmnopqrstuvwxyz0123456789/abcdefghijk", 0x9189_7658);
    }

    #[test]
    fn a_shard_is_one_of_those_there_are() {
        assert_eq!(shard_of(Uuid::nil(), "w", 0), 0);
        assert_eq!(shard_of(Uuid::nil(), "w", 1), 1);
        assert!((1..=512).contains(&shard_of(Uuid::nil(), "", 512)));
    }
}
