//! A byte range of a shard, cut at page borders.

use std::ops::Range;

use holo_core::PAGE_BYTES;

use crate::error::MemError;

/// A range that lies inside its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    offset: usize,
    len: usize,
}

/// The part of one page that a span touches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Touch {
    /// The page of the shard.
    pub(crate) page: usize,
    /// Bytes of the page.
    pub(crate) within: Range<usize>,
    /// The same bytes, counted from the start of the span.
    pub(crate) from: Range<usize>,
}

impl Touch {
    /// Whether the span covers the page.
    pub(crate) fn is_whole(&self) -> bool {
        self.within.len() == PAGE_BYTES
    }
}

impl Span {
    /// `len` bytes at `offset` of a shard of `bytes` bytes.
    pub(crate) fn new(bytes: u64, offset: u64, len: u64) -> Result<Self, MemError> {
        let out_of_range = || MemError::OutOfRange { offset, len, bytes };
        let end = offset.checked_add(len).filter(|end| *end <= bytes).ok_or_else(out_of_range)?;
        let fits = usize::try_from(end).ok();
        let (Some(end), Ok(len)) = (fits, usize::try_from(len)) else { return Err(out_of_range()) };
        Ok(Self { offset: end - len, len })
    }

    /// A part of a span that was checked already.
    pub(crate) fn at(offset: usize, len: usize) -> Self {
        Self { offset, len }
    }

    pub(crate) fn offset(&self) -> usize {
        self.offset
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Pages that the span touches.
    pub(crate) fn pages(&self) -> Range<usize> {
        let first = self.offset / PAGE_BYTES;
        if self.len == 0 {
            return first..first;
        }
        first..(self.offset + self.len).div_ceil(PAGE_BYTES)
    }

    /// The touched part of each page, in order.
    pub(crate) fn touches(&self) -> impl ExactSizeIterator<Item = Touch> + use<> {
        let Self { offset, len } = *self;
        self.pages().map(move |page| {
            let start = offset.max(page * PAGE_BYTES);
            let end = (offset + len).min((page + 1) * PAGE_BYTES);
            Touch {
                page,
                within: start - page * PAGE_BYTES..end - page * PAGE_BYTES,
                from: start - offset..end - offset,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: u64 = PAGE_BYTES as u64;

    #[test]
    fn a_span_is_cut_at_page_borders() {
        let span = Span::new(3 * PAGE, PAGE - 4, 2 + PAGE + 6).unwrap();
        let touches: Vec<Touch> = span.touches().collect();
        assert_eq!(touches[0], Touch { page: 0, within: PAGE_BYTES - 4..PAGE_BYTES, from: 0..4 });
        assert_eq!(touches[1].within, 0..PAGE_BYTES);
        assert!(touches[1].is_whole());
        assert_eq!(touches[2].within, 0..4);
        assert_eq!(touches[2].from, PAGE_BYTES + 4..PAGE_BYTES + 8);
    }

    #[test]
    fn an_empty_span_touches_no_page() {
        for offset in [0, 5, PAGE, 2 * PAGE] {
            assert_eq!(Span::new(2 * PAGE, offset, 0).unwrap().touches().count(), 0);
        }
    }

    #[test]
    fn a_span_outside_its_shard_is_refused() {
        for (offset, len) in [(0, 101), (101, 0), (100, 1), (u64::MAX, 2), (1, u64::MAX)] {
            let refused = Span::new(100, offset, len).unwrap_err();
            assert!(matches!(refused, MemError::OutOfRange { bytes: 100, .. }), "{refused}");
        }
    }
}
