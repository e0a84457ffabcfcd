//! Floating point numbers as PostgreSQL writes them with `extra_float_digits` above 0: the shortest text that reads
//! back as the same number. Unlike Rust's, it lies inside of the interval that rounds to the number, never at its edge,
//! and of two that are as near it is the even one.

/// A `double precision`.
pub(super) fn double(value: f64) -> String {
    let is_same = |text: &str| text.parse() == Ok(value);
    write(f64_special(value), &format!("{value:e}"), (15, 54), |digits| format!("{value:.digits$e}"), is_same)
}

/// A `real`.
pub(super) fn single(value: f32) -> String {
    let is_same = |text: &str| text.parse() == Ok(value);
    let special = f64_special(f64::from(value));
    write(special, &format!("{value:e}"), (6, 25), |digits| format!("{value:.digits$e}"), is_same)
}

fn f64_special(value: f64) -> Option<&'static str> {
    match value {
        value if value.is_nan() => Some("NaN"),
        f64::INFINITY => Some("Infinity"),
        f64::NEG_INFINITY => Some("-Infinity"),
        _ => None,
    }
}

/// Digits after the point with which every number that could be a tie is written in full.
const EXACT: usize = 60;

/// `edge_bits` is how many bits a number has that lies halfway between two of the type's; `rounded` writes the number
/// with so many digits after the point.
fn write(
    special: Option<&'static str>,
    shortest: &str,
    (plain_below, edge_bits): (i32, u32),
    rounded: impl Fn(usize) -> String,
    is_same: impl Fn(&str) -> bool,
) -> String {
    if let Some(special) = special {
        return special.to_owned();
    }
    let mut text = shortest.to_owned();
    let mut digits = mantissa(&text).len();
    while is_edge(&text, edge_bits) && digits < 17 {
        let longer = rounded(digits);
        if is_same(&longer) {
            text = longer;
        }
        digits += 1;
    }
    if let Some(even) = even(&text, &rounded(EXACT)).filter(|even| is_same(even)) {
        text = even;
    }
    place(&text, plain_below)
}

/// The text with an even last digit, when the number lies exactly between it and the one that was chosen.
fn even(text: &str, exact: &str) -> Option<String> {
    let (chosen, exact_digits) = (mantissa(text), mantissa(exact));
    let below = exact_digits.strip_suffix('5').filter(|below| below.len() == chosen.len() && *below != chosen)?;
    let is_even = below.ends_with(['0', '2', '4', '6', '8']);
    let sign = if text.starts_with('-') { "-" } else { "" };
    let (first, rest) = below.split_at_checked(1)?;
    is_even.then(|| format!("{sign}{first}.{rest}0e{}", exponent(exact)))
}

fn mantissa(text: &str) -> String {
    let digits = text.split('e').next().unwrap_or_default();
    let digits: String = digits.chars().filter(char::is_ascii_digit).collect();
    match digits.trim_end_matches('0') {
        "" => "0".to_owned(),
        kept => kept.to_owned(),
    }
}

fn exponent(text: &str) -> i32 {
    text.split_once('e').and_then(|(_, exponent)| exponent.parse().ok()).unwrap_or(0)
}

/// Whether the text is exactly halfway between two numbers of the type. Only whole numbers can be: a fraction there
/// has more digits than are ever needed.
fn is_edge(text: &str, edge_bits: u32) -> bool {
    let digits = mantissa(text);
    let scale = exponent(text) - i32::try_from(digits.len()).unwrap_or(0) + 1;
    let Some(fives) = u32::try_from(scale).ok().and_then(|scale| 5_u128.checked_pow(scale)) else { return false };
    let whole = digits.parse::<u128>().ok().and_then(|digits| digits.checked_mul(fives));
    // The power of ten's twos do not change how many bits there are between the first and the last one.
    whole.is_some_and(|whole| whole != 0 && (whole >> whole.trailing_zeros()).ilog2() + 1 == edge_bits)
}

/// The digits with the point where it belongs, or with an exponent where there would be too many zeros.
fn place(text: &str, plain_below: i32) -> String {
    let sign = if text.starts_with('-') { "-" } else { "" };
    let (digits, exponent) = (mantissa(text), exponent(text));
    if digits == "0" {
        return format!("{sign}0");
    }
    if exponent < -4 || exponent >= plain_below {
        let (first, rest) = digits.split_at(1);
        let point = if rest.is_empty() { "" } else { "." };
        let way = if exponent < 0 { '-' } else { '+' };
        return format!("{sign}{first}{point}{rest}e{way}{:02}", exponent.abs());
    }
    let count = i32::try_from(digits.len()).unwrap_or(0);
    if exponent < 0 {
        let zeros = usize::try_from(-exponent - 1).unwrap_or(0);
        return format!("{sign}0.{}{digits}", "0".repeat(zeros));
    }
    if exponent + 1 >= count {
        let zeros = usize::try_from(exponent + 1 - count).unwrap_or(0);
        return format!("{sign}{digits}{}", "0".repeat(zeros));
    }
    let (whole, fraction) = digits.split_at(usize::try_from(exponent + 1).unwrap_or(0));
    format!("{sign}{whole}.{fraction}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_the_server_writes_them() {
        let check = |value: f64, expect: &str| assert_eq!(double(value), expect);
        // As PostgreSQL 15 answers.
        check(1e23, "9.999999999999999e+22");
        check(9_007_199_254_740_993.0, "9.007199254740992e+15");
        check(5e-324, "5e-324");
        check(123_456_789_012_345.0, "123456789012345");
        check(1_234_567_890_123_456.0, "1.234567890123456e+15");
        check(0.0001, "0.0001");
        check(0.00001, "1e-05");
        check(-0.0, "-0");
        check(-12.5, "-12.5");
        check(100.0, "100");
        check(f64::NAN, "NaN");
        check(f64::NEG_INFINITY, "-Infinity");
        let check = |value: f32, expect: &str| assert_eq!(single(value), expect);
        check(1_234_567.0, "1.234567e+06");
        check(123_456.0, "123456");
        check(1e16, "1e+16");
        check(f32::MAX, "3.4028235e+38");
        check(1e7, "1e+07");
        check(15_357_265.0 / 4.0, "3.8393162e+06");
        check(0.1, "0.1");
    }
}
