//! Numbers of things as people read them.

use std::fmt;

/// A number of things; shown as `0`, `7`, `100,000,000`.
///
/// ```
/// use holo_core::Count;
///
/// assert_eq!(Count(1_000_000).to_string(), "1,000,000");
/// assert_eq!(Count(1).of("group"), "1 group");
/// assert_eq!(Count(1200).of("copy"), "1,200 copies");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Count(pub u64);

impl Count {
    /// The number and what is counted, whose name is given in the singular.
    pub fn of(self, noun: &str) -> String {
        if self.0 == 1 {
            return format!("{self} {noun}");
        }
        match noun.strip_suffix('y') {
            Some(stem) if !stem.ends_with(['a', 'e', 'o', 'u']) => format!("{self} {stem}ies"),
            _ => format!("{self} {noun}s"),
        }
    }
}

impl From<usize> for Count {
    fn from(count: usize) -> Self {
        Self(count as u64)
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
        for (place, digit) in digits.chars().enumerate() {
            if place > 0 && (digits.len() - place).is_multiple_of(3) {
                grouped.push(',');
            }
            grouped.push(digit);
        }
        f.write_str(&grouped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_is_told_in_the_singular_and_all_other_numbers_in_the_plural() {
        for (count, words) in [
            (0, ["0 shards", "0 copies", "0 arrays"]),
            (1, ["1 shard", "1 copy", "1 array"]),
            (2, ["2 shards", "2 copies", "2 arrays"]),
            (1_000_000, ["1,000,000 shards", "1,000,000 copies", "1,000,000 arrays"]),
        ] {
            assert_eq!(["shard", "copy", "array"].map(|noun| Count(count).of(noun)), words);
        }
        assert_eq!([Count(999).to_string(), Count(1000).to_string()], ["999", "1,000"]);
    }
}
