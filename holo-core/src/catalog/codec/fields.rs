//! A message's bytes, cut between its fields: what is too large to be read as one is read part by part.

use crate::Failure;
use crate::catalog::codec::parts::malformed;

/// The fields of a message that have not been read yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a> {
    bytes: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// Whole fields of at least `bytes` bytes together, as far as there are: each part is a message of its own, and one
    /// after the other they say what the whole does. Bytes that are no field are an error, and the end.
    pub(super) fn parts(mut self, bytes: usize) -> impl Iterator<Item = Result<&'a [u8], Failure>> {
        std::iter::from_fn(move || {
            if self.bytes.is_empty() {
                return None;
            }
            let mut end = 0;
            while end < bytes && end < self.bytes.len() {
                let Some(field) = field_bytes(&self.bytes[end..]) else {
                    self.bytes = &[];
                    return Some(Err(malformed("bytes that are no field")));
                };
                end += field;
            }
            let (part, rest) = self.bytes.split_at(end);
            self.bytes = rest;
            Some(Ok(part))
        })
    }
}

/// Bytes of the first field; `None` when it is not whole, or of a kind that no message of ours has.
fn field_bytes(bytes: &[u8]) -> Option<usize> {
    let (key, head) = varint(bytes)?;
    let rest = &bytes[head..];
    let body = match key & 7 {
        0 => varint(rest)?.1,
        1 => 8,
        2 => {
            let (length, prefix) = varint(rest)?;
            usize::try_from(length).ok()?.checked_add(prefix)?
        }
        5 => 4,
        _ => return None,
    };
    (body <= rest.len()).then_some(head + body)
}

/// A number, and how many bytes it takes.
fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut number = 0;
    for (index, byte) in bytes.iter().enumerate().take(10) {
        number |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((number, index + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Field 1 = 300, field 2 = "abc", fixed 32 bits, fixed 64 bits.
    const MESSAGE: &[u8] =
        b"\x08\xac\x02\x12\x03abc\x1d\x01\x02\x03\x04\x21\x01\x02\x03\x04\x05\x06\x07\x08";

    #[test]
    fn parts_end_between_fields_and_are_the_message_together() {
        for bytes in 1..MESSAGE.len() + 2 {
            let parts: Vec<&[u8]> =
                Fields::of(MESSAGE).parts(bytes).collect::<Result<_, _>>().unwrap();
            assert_eq!(parts.concat(), MESSAGE);
            for part in parts {
                assert!([0x08, 0x12, 0x1d, 0x21].contains(&part[0]), "{part:?}");
            }
        }
        let each: Vec<usize> =
            Fields::of(MESSAGE).parts(1).map(|part| part.unwrap().len()).collect();
        assert_eq!(each, [3, 5, 5, 9]);
    }

    #[test]
    fn bytes_that_are_no_field_are_refused_once() {
        for bad in [
            &b"\x12\x03ab"[..],
            b"\x08",
            b"\x0b\x01",
            b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        ] {
            let parts: Vec<_> = Fields::of(bad).parts(1).collect();
            assert_eq!(parts.len(), 1);
            assert!(parts[0].is_err(), "{bad:?}");
        }
    }
}
