//! Selections of n-d arrays: many short runs of elements, packed in C order on our side.

use futures_util::stream::{FuturesUnordered, StreamExt};

use holo_core::{ErrorCode, Selection};

use crate::array::zeroed;
use crate::call::Call;
use crate::transfer::{self, Source};
use crate::{AnyArray, Error, Result, Unwatched};

/// Runs that lie closer together than this are read with what is between them: a request costs more than the bytes.
const GAP_BYTES_MAX: u64 = 4096;
/// Bytes that one read of several runs covers.
const SPAN_BYTES_MAX: u64 = 1 << 20;
/// Requests that one selection may take.
const REQUESTS_MAX: usize = 1 << 20;
/// Requests of one selection that are under way at the same time.
const REQUESTS_IN_FLIGHT: usize = 64;

/// Reads a selection.
pub(crate) async fn read(
    array: &AnyArray,
    call: &Call<'_>,
    selection: &Selection,
) -> Result<Vec<u8>> {
    let size = array.dtype().size() as u64;
    let mut packed = zeroed::<u8>(array.bytes_of(&(0..selection.shape().elems()))?)?;
    let mut rest = packed.as_mut_slice();
    let mut under_way = FuturesUnordered::new();
    let mut requests = 0usize;
    for span in spans(selection.runs(), size) {
        requests += 1;
        check_requests(requests)?;
        let (dst, after) = rest.split_at_mut(array.bytes_of(&(0..span.selected()))?);
        rest = after;
        if under_way.len() >= REQUESTS_IN_FLIGHT {
            under_way.next().await.transpose()?;
        }
        under_way.push(read_span(array, call, span, dst));
    }
    while let Some(done) = under_way.next().await {
        done?;
    }
    drop(under_way);
    Ok(packed)
}

/// Writes a selection: exactly its elements, never their neighbours.
pub(crate) async fn write(
    array: &AnyArray,
    call: &Call<'_>,
    selection: &Selection,
    bytes: &[u8],
) -> Result<()> {
    let expected = array.bytes_of(&(0..selection.shape().elems()))?;
    if bytes.len() != expected {
        let message = format!(
            "{} bytes for a selection of shape {}, which has {expected}",
            bytes.len(),
            selection.shape()
        );
        return Err(Error::new(ErrorCode::InvalidArgument, message));
    }
    let mut rest = bytes;
    let mut under_way = FuturesUnordered::new();
    for (requests, (first, count)) in selection.runs().enumerate() {
        check_requests(requests + 1)?;
        let (src, after) = rest.split_at(array.bytes_of(&(0..count))?);
        rest = after;
        if under_way.len() >= REQUESTS_IN_FLIGHT {
            under_way.next().await.transpose()?;
        }
        under_way.push(async move {
            array.write_source(call, first, Source::Borrowed(src), &Unwatched).await
        });
    }
    while let Some(done) = under_way.next().await {
        done?;
    }
    Ok(())
}

/// Sets the elements of a selection to one value, whose little-endian bytes these are.
pub(crate) async fn fill(
    array: &AnyArray,
    call: &Call<'_>,
    selection: &Selection,
    value: &[u8],
) -> Result<()> {
    let mut under_way = FuturesUnordered::new();
    for (requests, (first, count)) in selection.runs().enumerate() {
        check_requests(requests + 1)?;
        let elems = array.range(first..first.saturating_add(count))?;
        if under_way.len() >= REQUESTS_IN_FLIGHT {
            under_way.next().await.transpose()?;
        }
        under_way.push(transfer::fill(call, array.descriptor(), elems, value));
    }
    while let Some(done) = under_way.next().await {
        done?;
    }
    Ok(())
}

async fn read_span(array: &AnyArray, call: &Call<'_>, span: Span, dst: &mut [u8]) -> Result<()> {
    let descriptor = array.descriptor();
    let covered = span.first..span.end;
    if span.runs.len() == 1 {
        return transfer::read(call, descriptor, covered, dst, &Unwatched).await;
    }
    let mut scratch = vec![0u8; array.bytes_of(&covered)?];
    transfer::read(call, descriptor, covered, &mut scratch, &Unwatched).await?;
    let mut rest = dst;
    for (first, count) in &span.runs {
        let at = array.bytes_of(&(span.first..*first))?;
        let (here, after) = rest.split_at_mut(array.bytes_of(&(0..*count))?);
        here.copy_from_slice(&scratch[at..at + here.len()]);
        rest = after;
    }
    Ok(())
}

/// Runs that are read together.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Span {
    first: u64,
    end: u64,
    runs: Vec<(u64, u64)>,
}

impl Span {
    fn selected(&self) -> u64 {
        self.runs.iter().map(|(_, count)| count).sum()
    }
}

/// Groups ascending runs of elements of `size` bytes.
fn spans(runs: impl Iterator<Item = (u64, u64)>, size: u64) -> impl Iterator<Item = Span> {
    let mut runs = runs.peekable();
    std::iter::from_fn(move || {
        let (first, count) = runs.next()?;
        let mut span = Span { first, end: first + count, runs: vec![(first, count)] };
        let joins = |span: &Span, next: &(u64, u64)| {
            next.0 >= span.end
                && (next.0 - span.end) * size <= GAP_BYTES_MAX
                && (next.0 + next.1 - span.first) * size <= SPAN_BYTES_MAX
        };
        while let Some(next) = runs.next_if(|next| joins(&span, next)) {
            span.end = next.0 + next.1;
            span.runs.push(next);
        }
        Some(span)
    })
}

fn check_requests(requests: usize) -> Result<()> {
    if requests <= REQUESTS_MAX {
        return Ok(());
    }
    let message = format!("the selection falls into more than {REQUESTS_MAX} pieces");
    Err(Error::new(ErrorCode::TooLarge, message)
        .help("select whole ranges of the last axis, or use an expression"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_runs_are_read_together_and_far_ones_apart() {
        let runs = [(0, 1), (2, 1), (4, 1), (10_000, 3)];
        let spans: Vec<Span> = spans(runs.into_iter(), 8).collect();
        assert_eq!(spans.len(), 2);
        assert_eq!((spans[0].first, spans[0].end, spans[0].selected()), (0, 5, 3));
        assert_eq!((spans[1].first, spans[1].end, spans[1].selected()), (10_000, 10_003, 3));
    }

    #[test]
    fn a_span_has_a_bound() {
        let every_second = (0..400_000u64).map(|i| (2 * i, 1));
        for span in spans(every_second, 8) {
            assert!((span.end - span.first) * 8 <= SPAN_BYTES_MAX);
        }
    }

    #[test]
    fn one_long_run_stays_whole() {
        let spans: Vec<Span> = spans([(5, 1 << 30)].into_iter(), 8).collect();
        assert_eq!(spans.len(), 1);
        assert_eq!(spans[0].selected(), 1 << 30);
    }
}
