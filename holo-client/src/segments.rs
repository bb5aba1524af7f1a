//! How a byte range of a shard falls on its pages, and the digests that go with it. Pure.

use holo_core::{ErrorCode, Failure, PAGE_BYTES};

/// Bytes of a BLAKE3 digest.
pub(crate) const DIGEST_BYTES: usize = 32;

/// Lengths of the parts of `len` bytes from byte `offset` of a shard that lie on one page each, in order.
pub(crate) fn page_parts(offset: u64, len: usize) -> impl Iterator<Item = usize> {
    let page = PAGE_BYTES as u64;
    let mut room = PAGE_BYTES - usize::try_from(offset % page).unwrap_or(0);
    let mut left = len;
    std::iter::from_fn(move || {
        if left == 0 {
            return None;
        }
        let part = room.min(left);
        left -= part;
        room = PAGE_BYTES;
        Some(part)
    })
}

/// The digests that travel with `bytes`, which start at byte `offset` of a shard.
pub(crate) fn digests(offset: u64, bytes: &[u8]) -> Vec<u8> {
    let mut rest = bytes;
    let mut digests = Vec::with_capacity((bytes.len() / PAGE_BYTES + 2) * DIGEST_BYTES);
    for part in page_parts(offset, bytes.len()) {
        let (page, after) = rest.split_at(part);
        digests.extend_from_slice(blake3::hash(page).as_bytes());
        rest = after;
    }
    digests
}

/// Checks that a peer sent one digest for each page that the range touches.
pub(crate) fn check_digest_count(offset: u64, len: usize, digests: &[u8]) -> Result<(), Failure> {
    let pages = page_parts(offset, len).count();
    if digests.len() == pages * DIGEST_BYTES {
        return Ok(());
    }
    let message = format!("{} bytes of digests for {pages} pages", digests.len());
    Err(Failure::new(ErrorCode::Malformed, message))
}

/// Checks the bytes of one page against its digest.
pub(crate) fn verify(page: usize, bytes: &[u8], digest: &[u8]) -> Result<(), Failure> {
    let matches = <[u8; DIGEST_BYTES]>::try_from(digest)
        .is_ok_and(|expected| blake3::hash(bytes) == blake3::Hash::from_bytes(expected));
    if matches {
        return Ok(());
    }
    let message = format!("page {page} of the range does not match its digest");
    Err(Failure::new(ErrorCode::Corrupt, message)
        .help("read it again; if it stays so, the node's memory or disk is failing"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: usize = PAGE_BYTES;

    #[test]
    fn parts_end_at_page_borders_and_add_up() {
        let parts =
            |offset: usize, len: usize| -> Vec<usize> { page_parts(offset as u64, len).collect() };
        assert_eq!(parts(0, 0), [0usize; 0]);
        assert_eq!(parts(0, P), [P]);
        assert_eq!(parts(10, 5), [5]);
        assert_eq!(parts(P - 1, 2), [1, 1]);
        assert_eq!(parts(3 * P + 8, 2 * P), [P - 8, P, 8]);
    }

    #[test]
    fn what_was_digested_verifies_and_a_flipped_bit_does_not() {
        let mut bytes: Vec<u8> = (0..P + 100).map(|i| u8::try_from(i % 251).unwrap()).collect();
        let offset = 40;
        let digests = digests(offset, &bytes);
        check_digest_count(offset, bytes.len(), &digests).unwrap();
        let first = P - 40;
        verify(0, &bytes[..first], &digests[..32]).unwrap();
        verify(1, &bytes[first..], &digests[32..]).unwrap();
        bytes[first] ^= 1;
        let refused = verify(1, &bytes[first..], &digests[32..]).unwrap_err();
        assert_eq!(refused.code, ErrorCode::Corrupt);
        assert_eq!(verify(1, &bytes, &[]).unwrap_err().code, ErrorCode::Corrupt);
    }

    #[test]
    fn too_few_or_too_many_digests_are_malformed() {
        for wrong in [0usize, 32, 63, 96] {
            let refused = check_digest_count(0, 2 * P, &vec![0; wrong]).unwrap_err();
            assert_eq!(refused.code, ErrorCode::Malformed, "{wrong}");
        }
    }
}
