//! Sizes, durations and shares, as people write and read them.

use std::fmt;
use std::time::Duration;

use thiserror::Error;

/// Text that is not the quantity it should be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UnitError {
    /// Not a size.
    #[error("`{0}` is not a size: write a number and a unit, such as 500M, 1.5GiB or 10GB")]
    Size(String),
    /// A size of more than 2^64 - 1 bytes.
    #[error("the size `{0}` is too large")]
    TooLarge(String),
    /// Not a duration.
    #[error("`{0}` is not a duration: write a number and a unit, such as 90s, 5m, 26h or 7d")]
    Duration(String),
    /// Not a share between 0 % and 100 %.
    #[error("`{0}` is not a percentage between 0% and 100%")]
    Percent(String),
}

/// A share of a whole, between 0 % and 100 %.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Percent(f64);

impl Percent {
    /// The share as a fraction between 0 and 1.
    pub fn fraction(self) -> f64 {
        self.0 / 100.0
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

const IEC: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// A number of bytes with an IEC unit and one decimal: `512 B`, `1.4 MiB`.
pub fn bytes(count: u64) -> String {
    if count < 1024 {
        return format!("{count} B");
    }
    let mut power = 1;
    while power + 1 < IEC.len() && tenths(count, power) >= 10_240 {
        power += 1;
    }
    let tenths = tenths(count, power);
    format!("{}.{} {}", tenths / 10, tenths % 10, IEC[power])
}

/// `count` in tenths of 1024^`power`, rounded to the nearest.
fn tenths(count: u64, power: usize) -> u128 {
    let unit = 1u128 << (10 * power);
    (u128::from(count) * 10 + unit / 2) / unit
}

/// Reads a size: `K` and `KiB` are powers of 1024, `KB` powers of 1000, no unit is bytes.
pub fn parse_bytes(text: &str) -> Result<u64, UnitError> {
    let bad = || UnitError::Size(text.to_owned());
    let trimmed = text.trim();
    let split = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(split);
    let unit = multiplier(unit.trim_start()).ok_or_else(bad)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.contains('.') {
        return Err(bad());
    }
    scaled(whole, fraction, unit).ok_or_else(|| UnitError::TooLarge(text.to_owned()))
}

/// The number of bytes in a unit, upper or lower case.
fn multiplier(unit: &str) -> Option<u64> {
    let unit = unit.to_ascii_uppercase();
    let Some(prefix) = unit.chars().next().filter(|&c| c != 'B') else {
        return matches!(unit.as_str(), "" | "B").then_some(1);
    };
    let power = u32::try_from("KMGTPE".find(prefix)?).ok()? + 1;
    match &unit[1..] {
        "" | "IB" => Some(1024u64.pow(power)),
        "B" => Some(1000u64.pow(power)),
        _ => None,
    }
}

/// `whole.fraction` units in bytes, rounded down; `None` if it does not fit.
fn scaled(whole: &str, fraction: &str, unit: u64) -> Option<u64> {
    let unit = u128::from(unit);
    // Twelve decimals are under one byte even of an exbibyte's tenth of a millionth; more only overflow.
    let fraction = &fraction[..fraction.len().min(12)];
    let decimals = u32::try_from(fraction.len()).ok()?;
    let part = fraction.parse::<u128>().ok()? * unit / 10u128.pow(decimals);
    let total = whole.parse::<u64>().ok().map(u128::from)?.checked_mul(unit)?.checked_add(part)?;
    u64::try_from(total).ok()
}

/// A duration to the precision a person wants: `340 ms`, `4.3 s`, `2 min 14 s`, `3 h 02 min`, `5 d 01 h`.
pub fn duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    let tenths = (millis + 50) / 100;
    let seconds = (millis + 500) / 1000;
    let minutes = (seconds + 30) / 60;
    let hours = (minutes + 30) / 60;
    if millis < 1000 {
        format!("{millis} ms")
    } else if tenths < 600 {
        format!("{}.{} s", tenths / 10, tenths % 10)
    } else if seconds < 3600 {
        format!("{} min {:02} s", seconds / 60, seconds % 60)
    } else if minutes < 48 * 60 {
        format!("{} h {:02} min", minutes / 60, minutes % 60)
    } else {
        format!("{} d {:02} h", hours / 24, hours % 24)
    }
}

/// A duration in one unit, as people say it: `40 s`, `5 min`, `26 h`, `3 d`.
pub fn rough(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let whole_days = seconds >= 172_800 && seconds.is_multiple_of(86_400);
    match seconds {
        _ if whole_days => format!("{} d", seconds / 86_400),
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..259_200 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Reads a duration: numbers with the units `ms`, `s`, `m` or `min`, `h`, `d` and `w`, such as `90s` or `1h30m`.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let bad = || UnitError::Duration(text.to_owned());
    let mut rest = text.trim();
    let mut millis = 0u64;
    if rest.is_empty() {
        return Err(bad());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, behind) = rest.split_at(digits);
        let behind = behind.trim_start();
        let letters = behind.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(letters);
        let part =
            number.parse::<u64>().ok().zip(unit_millis(unit)).and_then(|(n, unit)| n.checked_mul(unit));
        millis = part.and_then(|part| millis.checked_add(part)).ok_or_else(bad)?;
        rest = behind.trim_start();
    }
    // A century is for ever; more would overflow the times it is added to.
    (millis <= 100 * 366 * 86_400_000).then(|| Duration::from_millis(millis)).ok_or_else(bad)
}

/// The length of a unit of time in milliseconds.
fn unit_millis(unit: &str) -> Option<u64> {
    Some(match unit {
        "ms" => 1,
        "s" => 1000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "w" => 7 * 86_400_000,
        _ => return None,
    })
}

/// Reads a share such as `5%`, `12.5 %` or `5`.
pub fn parse_percent(text: &str) -> Result<Percent, UnitError> {
    let number = text.trim().trim_end_matches('%').trim_end();
    number
        .parse::<f64>()
        .ok()
        .filter(|value| (0.0..=100.0).contains(value))
        .map(Percent)
        .ok_or_else(|| UnitError::Percent(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bytes_have_one_decimal_and_the_right_unit() {
        let check = |count, expected: &str| assert_eq!(bytes(count), expected);
        check(0, "0 B");
        check(512, "512 B");
        check(1023, "1023 B");
        check(1024, "1.0 KiB");
        check(1_468_006, "1.4 MiB");
        check(1024 * 1024 - 1, "1.0 MiB");
        check(10 << 30, "10.0 GiB");
        check(u64::MAX, "16.0 EiB");
    }

    #[test]
    fn sizes_read_as_documented() {
        let check = |text, expected| assert_eq!(parse_bytes(text), Ok(expected), "{text}");
        check("1024", 1024);
        check("0", 0);
        check("7B", 7);
        check("10GiB", 10 << 30);
        check("500M", 500 << 20);
        check("500m", 500 << 20);
        check("1.5 MiB", 3 << 19);
        check("10GB", 10_000_000_000);
        check("0.5kB", 500);
        check(" 2 T ", 2 << 40);
        check("15E", 15 << 60);
        check("1.0000000000000000000000000000000000001K", 1024);
    }

    #[test]
    fn what_is_not_a_size_is_refused() {
        for text in ["", "M", "1.2.3M", "-1", "1 XB", "1KiBB", "1.M", ".5M", "1 0", "KiB", "1é", "é"] {
            assert_eq!(parse_bytes(text), Err(UnitError::Size(text.to_owned())), "{text}");
        }
        for text in ["16E", "18446744073709551616", "99999999999999999999999999999999999999999E"] {
            assert_eq!(parse_bytes(text), Err(UnitError::TooLarge(text.to_owned())), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_size_parser_panic(text in "[0-9. ]{0,30}\\PC{0,6}") {
            let _ = parse_bytes(&text);
        }

        #[test]
        fn a_shown_size_reads_back_within_a_twentieth_of_its_unit(count in 0..u64::MAX / 2) {
            let back = parse_bytes(&bytes(count)).unwrap();
            prop_assert!(back.abs_diff(count) <= count / 20 + 1, "{count} became {back}");
        }
    }

    #[test]
    fn durations_grow_coarser_as_they_grow() {
        let check = |millis, expected: &str| assert_eq!(duration(Duration::from_millis(millis)), expected);
        check(0, "0 ms");
        check(340, "340 ms");
        check(1000, "1.0 s");
        check(4_321, "4.3 s");
        check(59_940, "59.9 s");
        check(59_960, "1 min 00 s");
        check(134_000, "2 min 14 s");
        check(3_599_600, "1 h 00 min");
        check(10_920_000, "3 h 02 min");
        check(5 * 86_400_000 + 3_600_000, "5 d 01 h");
    }

    #[test]
    fn rough_durations_have_one_unit() {
        let check = |seconds, expected: &str| assert_eq!(rough(Duration::from_secs(seconds)), expected);
        check(0, "0 s");
        check(60, "60 s");
        check(120, "2 min");
        check(3600, "60 min");
        check(86_400, "24 h");
        check(93_600, "26 h");
        check(172_800, "2 d");
        check(180_000, "50 h");
        check(3 * 86_400 + 5000, "3 d");
    }

    #[test]
    fn durations_read_as_documented() {
        let check =
            |text, millis| assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        check("250ms", 250);
        check("90s", 90_000);
        check("5m", 300_000);
        check("5 min", 300_000);
        check("26h", 26 * 3_600_000);
        check("7d", 7 * 86_400_000);
        check(" 1h30m ", 5_400_000);
        for text in
            ["", "5", "s", "-1s", "1.5h", "5 parsecs", "1h 30", "99999999999999999999s", "36701d", "5é"]
        {
            assert_eq!(parse_duration(text), Err(UnitError::Duration(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn percentages_are_fractions_of_the_whole() {
        let check = |text, expected| assert_eq!(parse_percent(text).map(Percent::fraction), Ok(expected));
        check("50%", 0.5);
        check("25", 0.25);
        check("12.5 %", 0.125);
        check("100%", 1.0);
        check("0%", 0.0);
        for text in ["", "%", "101%", "-1%", "nan", "inf", "five"] {
            assert_eq!(parse_percent(text), Err(UnitError::Percent(text.to_owned())));
        }
    }
}
