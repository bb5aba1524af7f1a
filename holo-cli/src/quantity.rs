//! Numbers as people read and write them: bytes, rates, durations, counts.

use std::time::Duration;

use holo_core::{ByteCount, Count, ErrorCode, Failure};

/// `0 B`, `512 B`, `762.9 MiB`.
pub(crate) fn bytes(count: u64) -> String {
    ByteCount(count).to_string()
}

/// `100,000,000`.
pub(crate) fn count(number: u64) -> String {
    Count(number).to_string()
}

/// `1 shard`, `2 shards`, `1,000 shards`: the noun is given in the singular.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    Count(number).of(noun)
}

/// `850 us`, `12.3 ms`, `1.25 s`, `3 min 20 s`, `2 h 5 min`.
pub(crate) fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match time.as_micros() {
        micros @ 0..1_000 => format!("{micros} us"),
        1_000..1_000_000 => format!("{:.1} ms", time.as_secs_f64() * 1e3),
        1_000_000..120_000_000 => format!("{:.2} s", time.as_secs_f64()),
        120_000_000..7_200_000_000 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// `1 copy`, `2 copies`.
pub(crate) fn copies(number: u64) -> String {
    Count(number).of("copy")
}

/// A time that somebody gave: in whole units where it has no others.
pub(crate) fn given_duration(time: Duration) -> String {
    if time.subsec_nanos() == 0 { rough_duration(time) } else { duration(time) }
}

/// Whole units, the next one up, for what is only about to be known: `1 s`, `13 s`, `4 min`, `3 h`, `2 days`.
pub(crate) fn rough_duration(time: Duration) -> String {
    let seconds = time.as_secs() + u64::from(time.subsec_nanos() > 0);
    match seconds {
        0..120 => format!("{} s", seconds.max(1)),
        120..7200 => format!("{} min", seconds.div_ceil(60)),
        7200..172_800 => format!("{} h", seconds.div_ceil(3600)),
        _ => format!("{} days", seconds.div_ceil(86_400)),
    }
}

/// Decimal gigabytes per second: `3.21 GB/s`; a dash when the time is too short to tell.
pub(crate) fn rate(bytes: u64, time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if bytes == 0 || seconds <= 0.0 {
        return "-".to_owned();
    }
    format!("{:.2} GB/s", to_f64(bytes) / seconds / 1e9)
}

/// Reads `4096`, `64KiB`, `4GiB`.
///
/// # Errors
///
/// [`ErrorCode::InvalidArgument`].
pub(crate) fn parse_bytes(text: &str) -> Result<u64, Failure> {
    holo_node::parse_bytes(text).ok_or_else(|| {
        Failure::new(ErrorCode::InvalidArgument, format!("{text:?} is no number of bytes"))
            .help("write a whole number and a unit, such as 512MiB or 4GiB")
    })
}

/// Reads `500ms`, `30s`, `2min`, `1.5h`; a bare number is seconds.
///
/// # Errors
///
/// [`ErrorCode::InvalidArgument`].
pub(crate) fn parse_duration(text: &str) -> Result<Duration, Failure> {
    let factors = [
        ("ms", 1e-3),
        ("us", 1e-6),
        ("min", 60.0),
        ("m", 60.0),
        ("h", 3600.0),
        ("d", 86_400.0),
        ("s", 1.0),
    ];
    let lower = text.trim().to_ascii_lowercase();
    let (number, factor) = factors
        .iter()
        .find_map(|(unit, factor)| lower.strip_suffix(unit).map(|number| (number, *factor)))
        .unwrap_or((&lower, 1.0));
    number
        .trim()
        .parse::<f64>()
        .ok()
        .and_then(|number| Duration::try_from_secs_f64(number * factor).ok())
        .filter(|time| !time.is_zero() && time.as_secs() <= 366 * 24 * 3600)
        .ok_or_else(|| {
            Failure::new(ErrorCode::InvalidArgument, format!("{text:?} is no length of time"))
                .help("write a number and a unit, such as 500ms, 30s, 2min or 7d")
        })
}

#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn to_f64(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_as_it_was_given() {
        // It said "not done within 1 s" of half a second, and took no days where 7 days were the most.
        let told = |text| given_duration(parse_duration(text).unwrap());
        assert_eq!(told("500ms"), "500.0 ms");
        assert_eq!(told("1500ms"), "1.50 s");
        assert_eq!(told("10m"), "10 min");
        assert_eq!(parse_duration("7d"), parse_duration("168h"));
    }

    #[test]
    fn quantities_read_well() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(800_000_000), "762.9 MiB");
        assert_eq!(bytes(u64::MAX), "16384.0 PiB");
        assert_eq!(count(7), "7");
        assert_eq!(count(100_000_000), "100,000,000");
        assert_eq!(counted(1, "shard"), "1 shard");
        assert_eq!(counted(1000, "shard"), "1,000 shards");
        assert_eq!(duration(Duration::from_micros(850)), "850 us");
        assert_eq!(duration(Duration::from_millis(12)), "12.0 ms");
        assert_eq!(duration(Duration::from_secs(200)), "3 min 20 s");
        assert_eq!([copies(0), copies(1), copies(1200)], ["0 copies", "1 copy", "1,200 copies"]);
        for (seconds, words) in
            [(0, "1 s"), (119, "119 s"), (3590, "60 min"), (7201, "3 h"), (604_800, "7 days")]
        {
            assert_eq!(rough_duration(Duration::from_secs(seconds)), words);
        }
        assert_eq!(rough_duration(Duration::from_millis(12_300)), "13 s");
        assert_eq!(rate(2_000_000_000, Duration::from_secs(1)), "2.00 GB/s");
        assert_eq!(rate(1, Duration::ZERO), "-");
    }

    #[test]
    fn quantities_are_read_or_refused() {
        assert_eq!(parse_bytes("64KiB").unwrap(), 65_536);
        assert_eq!(parse_bytes("4096").unwrap(), 4096);
        assert_eq!(parse_duration("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(parse_duration("2").unwrap(), Duration::from_secs(2));
        assert_eq!(parse_duration("2min").unwrap(), Duration::from_secs(120));
        for bad in ["", "x", "-1", "1e40", "NaN", "inf", "4 parsecs"] {
            assert_eq!(parse_bytes(bad).unwrap_err().code, ErrorCode::InvalidArgument, "{bad:?}");
            assert_eq!(
                parse_duration(bad).unwrap_err().code,
                ErrorCode::InvalidArgument,
                "{bad:?}"
            );
        }
        assert_eq!(parse_duration("0s").unwrap_err().code, ErrorCode::InvalidArgument);
    }
}
