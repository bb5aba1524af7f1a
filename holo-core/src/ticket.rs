//! The ticket that lets one node join: a line of text to paste.
//!
//! ```text
//! "holo1" base32(payload || first 5 bytes of BLAKE3(payload))      a-z and 2-7, no padding, capitals read as well
//! payload = cluster id (32) | seed (32) | role (1) | expires, Unix ms, little-endian (8) | count (1) | addresses
//! address = length (1) | text
//! ```

use std::fmt;

use crate::{ClusterId, ErrorCode, Failure, Role, UnixMillis, limits};

const PREFIX: &str = "holo1";
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const CHECKSUM_BYTES: usize = 5;
const CHECKSUM_CONTEXT: &str = "holocompute 2026 checksum of a join ticket";
const HELP: &str = "paste the whole line that `holo init` or `holo ticket create` printed";

/// What its bearer needs to join a cluster, once.
///
/// Whoever has it can join until it is used or expires: it prints as `<redacted>`, but for [`Self::to_text`].
#[derive(Clone, PartialEq, Eq)]
pub struct JoinTicket {
    /// The cluster: BLAKE3 of its root public key, by which first contact is pinned.
    pub cluster: ClusterId,
    /// Ed25519 seed; the catalog holds the public half.
    pub seed: [u8; 32],
    /// What its bearer becomes.
    pub role: Role,
    /// When it ends.
    pub expires: UnixMillis,
    /// Where members listen, at least one: `10.0.0.1:7400`.
    pub addresses: Vec<String>,
}

impl JoinTicket {
    /// The text to paste.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::InvalidArgument`] without addresses, with more than [`limits::TICKET_ADDRESSES_MAX`], or with one
    /// that is longer than [`limits::NODE_ADDRESS_BYTES_MAX`].
    pub fn to_text(&self) -> Result<String, Failure> {
        let refuse = |why: String| Failure::new(ErrorCode::InvalidArgument, why);
        let count = u8::try_from(self.addresses.len())
            .ok()
            .filter(|count| (1..=limits::TICKET_ADDRESSES_MAX).contains(&usize::from(*count)))
            .ok_or_else(|| refuse(format!("a ticket with {} addresses", self.addresses.len())))?;
        let mut payload = Vec::with_capacity(128);
        payload.extend_from_slice(&self.cluster.0);
        payload.extend_from_slice(&self.seed);
        payload.push(self.role as u8);
        payload.extend_from_slice(&self.expires.0.to_le_bytes());
        payload.push(count);
        for address in &self.addresses {
            let length = u8::try_from(address.len())
                .ok()
                .filter(|length| *length > 0)
                .ok_or_else(|| refuse(format!("a ticket with the address {address:?}")))?;
            payload.push(length);
            payload.extend_from_slice(address.as_bytes());
        }
        Ok(text_of(payload))
    }

    /// Reads a ticket. Space around it and inside, as terminals put it into long lines, is left out.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::TicketInvalid`], saying whether it is no ticket, a ticket of another version, or cut or mistyped.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let refuse = |why: &str| Failure::new(ErrorCode::TicketInvalid, why.to_owned()).help(HELP);
        if text.len() > limits::TICKET_TEXT_BYTES_MAX {
            return Err(refuse("it is longer than any ticket"));
        }
        let letters = text.bytes().filter(|letter| !letter.is_ascii_whitespace());
        let folded: Vec<u8> = letters.map(|letter| letter.to_ascii_lowercase()).collect();
        let Some(digits) = folded.strip_prefix(PREFIX.as_bytes()) else {
            let other_version = folded.starts_with(b"holo");
            return Err(refuse(if other_version {
                "a ticket of another version: this program reads those that begin with holo1"
            } else {
                "no ticket: one begins with holo1"
            }));
        };
        let damaged = || refuse("the ticket was cut off or mistyped: its checksum does not fit");
        let bytes = from_base32(digits).ok_or_else(damaged)?;
        let at = bytes.len().checked_sub(CHECKSUM_BYTES).ok_or_else(damaged)?;
        let (payload, sum) = bytes.split_at(at);
        if sum != checksum(payload) {
            return Err(damaged());
        }
        Self::from_payload(payload).ok_or_else(|| refuse("its content is not that of a ticket"))
    }

    fn from_payload(payload: &[u8]) -> Option<Self> {
        let (cluster, rest) = payload.split_first_chunk::<32>()?;
        let (seed, rest) = rest.split_first_chunk::<32>()?;
        let (role, rest) = rest.split_first()?;
        let (expires, rest) = rest.split_first_chunk::<8>()?;
        let (count, mut rest) = rest.split_first()?;
        if !(1..=limits::TICKET_ADDRESSES_MAX).contains(&usize::from(*count)) {
            return None;
        }
        let mut addresses = Vec::with_capacity(usize::from(*count));
        for _ in 0..*count {
            let (length, after) = rest.split_first()?;
            let (address, after) = after.split_at_checked(usize::from(*length))?;
            let address = std::str::from_utf8(address).ok().filter(|text| !text.is_empty())?;
            addresses.push(address.to_owned());
            rest = after;
        }
        rest.is_empty().then_some(())?;
        Some(Self {
            cluster: ClusterId(*cluster),
            seed: *seed,
            role: Role::from_byte(*role)?,
            expires: UnixMillis(u64::from_le_bytes(*expires)),
            addresses,
        })
    }
}

impl fmt::Debug for JoinTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinTicket")
            .field("cluster", &self.cluster)
            .field("seed", &"<redacted>")
            .field("role", &self.role)
            .field("expires", &self.expires)
            .field("addresses", &self.addresses)
            .finish()
    }
}

/// The text of a ticket of this content, whatever that is.
pub(crate) fn text_of(mut payload: Vec<u8>) -> String {
    let checksum = checksum(&payload);
    payload.extend_from_slice(&checksum);
    format!("{PREFIX}{}", to_base32(&payload))
}

fn checksum(payload: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let hash = blake3::derive_key(CHECKSUM_CONTEXT, payload);
    std::array::from_fn(|index| hash[index])
}

fn to_base32(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(5) * 8);
    for group in bytes.chunks(5) {
        let mut five = [0; 5];
        five[..group.len()].copy_from_slice(group);
        let bits = five.iter().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
        let digits = (group.len() * 8).div_ceil(5);
        for place in 0..digits {
            let digit = bits >> (35 - 5 * place) & 31;
            text.push(char::from(ALPHABET[usize::try_from(digit).unwrap_or(0)]));
        }
    }
    text
}

/// The bytes of a text; `None` when a letter is none of ours, or bits are set that no byte accounts for.
fn from_base32(digits: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(digits.len() * 5 / 8);
    for group in digits.chunks(8) {
        let mut bits = 0u64;
        for letter in group {
            let digit = ALPHABET.iter().position(|known| known == letter)?;
            bits = bits << 5 | u64::try_from(digit).ok()?;
        }
        let (whole, spare) = (group.len() * 5 / 8, group.len() * 5 % 8);
        // 1, 3 and 6 letters end within a byte that has no more bits: nobody writes those.
        if spare >= 5 || bits & ((1 << spare) - 1) != 0 {
            return None;
        }
        let value = bits >> spare;
        bytes.extend(
            (0..whole).rev().map(|place| u8::try_from(value >> (8 * place) & 255).unwrap_or(0)),
        );
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ticket() -> JoinTicket {
        JoinTicket {
            cluster: ClusterId([7; 32]),
            seed: [9; 32],
            role: Role::Node,
            expires: UnixMillis(1_790_000_000_000),
            addresses: vec!["10.0.0.1:7400".to_owned(), "lab.example:7400".to_owned()],
        }
    }

    #[test]
    fn a_ticket_survives_paste_with_line_breaks_and_capitals() {
        let text = ticket().to_text().unwrap();
        assert!(text.starts_with("holo1") && text.len() < 200, "{text}");
        assert_eq!(JoinTicket::parse(&text).unwrap(), ticket());
        let (front, back) = text.split_at(60);
        let broken = format!("  {}\r\n {back}\n", front.to_uppercase());
        assert_eq!(JoinTicket::parse(&broken).unwrap(), ticket());
    }

    #[test]
    fn every_cut_and_every_mistyped_letter_is_noticed() {
        let text = ticket().to_text().unwrap();
        for end in 0..text.len() {
            let refused = JoinTicket::parse(&text[..end]).unwrap_err();
            assert_eq!(refused.code, ErrorCode::TicketInvalid, "{end}");
        }
        for at in 0..text.len() {
            let mut letters = text.clone().into_bytes();
            letters[at] = if letters[at] == b'q' { b'r' } else { b'q' };
            let mistyped = String::from_utf8(letters).unwrap();
            assert!(JoinTicket::parse(&mistyped).is_err(), "letter {at}");
        }
    }

    #[test]
    fn refusals_say_what_it_is_instead() {
        for (text, word) in [
            ("", "no ticket"),
            ("hello", "no ticket"),
            ("holo2abc", "another version"),
            ("holo1", "cut off"),
            ("holo1abc!", "cut off"),
            (&"holo1".repeat(1000), "longer"),
        ] {
            let refused = JoinTicket::parse(text).unwrap_err();
            assert_eq!(refused.code, ErrorCode::TicketInvalid);
            assert!(refused.message.contains(word), "{text:?}: {}", refused.message);
            assert!(refused.help.is_some());
        }
    }

    #[test]
    fn a_seed_is_never_printed() {
        assert!(!format!("{:?}", ticket()).contains("9, 9"));
    }

    #[test]
    fn what_has_no_place_in_a_ticket_is_not_written() {
        for addresses in
            [vec![], vec!["a:1".to_owned(); 9], vec!["x".repeat(256)], vec![String::new()]]
        {
            let refused = JoinTicket { addresses, ..ticket() }.to_text().unwrap_err();
            assert_eq!(refused.code, ErrorCode::InvalidArgument);
        }
    }

    proptest! {
        #[test]
        fn base32_goes_there_and_back(bytes in proptest::collection::vec(any::<u8>(), 0..50)) {
            let text = to_base32(&bytes);
            prop_assert_eq!(from_base32(text.as_bytes()), Some(bytes));
        }

        #[test]
        fn any_text_is_a_ticket_or_refused(text in "(holo1)?[a-z2-7]{0,300}") {
            crate::fuzzing::ticket(text.as_bytes());
        }

        #[test]
        fn any_content_is_that_of_a_ticket_or_refused(
            at in any::<proptest::sample::Index>(),
            flip: u8,
            cut in any::<proptest::sample::Index>(),
        ) {
            let text = ticket().to_text().unwrap();
            let mut content = from_base32(&text.as_bytes()[PREFIX.len()..]).unwrap();
            content.truncate(content.len() - CHECKSUM_BYTES);
            let place = at.index(content.len());
            content[place] ^= flip;
            crate::fuzzing::ticket(&content);
            content.truncate(cut.index(content.len()));
            crate::fuzzing::ticket(&content);
        }
    }
}
