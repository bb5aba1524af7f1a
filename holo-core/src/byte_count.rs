//! Numbers of bytes as people read them.

use std::fmt;

const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];

/// A number of bytes; shown as `0 B`, `512 B`, `762.9 MiB`.
///
/// ```
/// assert_eq!(holo_core::ByteCount(800_000_000).to_string(), "762.9 MiB");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteCount(pub u64);

impl fmt::Display for ByteCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        let tenths = |unit: usize| {
            let size = 1u128 << (10 * (unit + 1));
            (u128::from(self.0) * 10 + size / 2) / size
        };
        // The first unit in which it has no more than four digits, after rounding.
        let unit = (0..UNITS.len() - 1).find(|unit| tenths(*unit) < 10_240);
        let unit = unit.unwrap_or(UNITS.len() - 1);
        let tenths = tenths(unit);
        write!(f, "{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_one_decimal_and_the_unit_that_fits() {
        for (bytes, words) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_048_524, "1023.9 KiB"),
            (1_048_525, "1.0 MiB"),
            (800_000_000, "762.9 MiB"),
            (u64::MAX, "16384.0 PiB"),
        ] {
            assert_eq!(ByteCount(bytes).to_string(), words);
        }
    }
}
