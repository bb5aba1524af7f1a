//! `[0:10, ::2, 3]` as indexes.

use super::{AxisIndex, Slice};
use crate::{ErrorCode, Failure, limits};

pub(super) fn parse(text: &str) -> Result<Vec<AxisIndex>, Failure> {
    let trimmed = text.trim();
    let inner = match trimmed.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').ok_or_else(|| refuse(trimmed))?,
        None => trimmed,
    };
    let inner = inner.trim();
    if inner.is_empty() {
        return Ok(Vec::new());
    }
    let inner = inner.strip_suffix(',').unwrap_or(inner);
    let parts: Vec<&str> = inner.splitn(limits::DIMS_MAX + 3, ',').collect();
    parts.into_iter().map(|part| axis(part.trim())).collect()
}

fn axis(part: &str) -> Result<AxisIndex, Failure> {
    if part == "..." {
        return Ok(AxisIndex::Ellipsis);
    }
    let mut numbers = part.split(':').map(str::trim);
    let first = numbers.next().unwrap_or_default();
    let Some(stop) = numbers.next() else {
        return integer(first, part)?.map(AxisIndex::At).ok_or_else(|| refuse(part));
    };
    let step = match integer(numbers.next().unwrap_or_default(), part)? {
        None => 1,
        Some(step) => u64::try_from(step).ok().filter(|step| *step > 0).ok_or_else(|| {
            Failure::new(ErrorCode::InvalidArgument, format!("step {step} in {part:?}"))
                .help("steps are positive; reverse the values after they are read")
        })?,
    };
    if numbers.next().is_some() {
        return Err(refuse(part));
    }
    Ok(AxisIndex::Slice(Slice { start: integer(first, part)?, stop: integer(stop, part)?, step }))
}

/// A number, or nothing where none is written.
fn integer(text: &str, part: &str) -> Result<Option<i64>, Failure> {
    if text.is_empty() {
        return Ok(None);
    }
    text.replace('_', "").parse().map(Some).map_err(|source| {
        let failure = refuse(part);
        Failure { message: format!("{}: {source}", failure.message), ..failure }
    })
}

fn refuse(part: &str) -> Failure {
    Failure::new(ErrorCode::InvalidArgument, format!("{part:?} is no index"))
        .help("write integers and slices parted by commas, such as [0:10, ::2, 3]")
}
