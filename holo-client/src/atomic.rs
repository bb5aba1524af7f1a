//! Read-modify-writes of single elements: once each, on the node that holds them, across retries and failovers.

use holo_core::group::{Op, UpdateKind};
use holo_core::wire::{Kind, UpdateElement, UpdateReply};
use holo_core::{ArrayDescriptor, ErrorCode, Failure, Scalar};

use crate::call::Call;
use crate::element::{from_scalar, scalar_of};
use crate::retry::Effect;
use crate::views::Target;
use crate::{Element, Error, Result, SharedArray};

mod sealed {
    #[expect(unnameable_types, reason = "nobody else is to implement it")]
    pub trait Sealed {}
}

/// Elements that can be changed atomically: the integers and the floats.
///
/// Integers wrap. A NaN is stored as the one canonical NaN, whatever its bits were.
pub trait Atomic: Element + sealed::Sealed {}

/// Elements whose bits can be changed atomically: the integers.
pub trait AtomicBits: Atomic {}

macro_rules! atomics {
    ($($rust:ty),*) => { $(impl sealed::Sealed for $rust {} impl Atomic for $rust {})* };
}

macro_rules! atomic_bits {
    ($($rust:ty),*) => { $(atomics!($rust); impl AtomicBits for $rust {})* };
}

atomics!(f32, f64);
atomic_bits!(i8, i16, i32, i64, u8, u16, u32, u64);

/// Each changes the element with the flat C-order index `index` and returns what it was before. Each happens exactly
/// once, however often it had to be sent; no other write comes between its read and its write.
///
/// All fail with [`ErrorCode::OutOfRange`], with [`ErrorCode::OutcomeUnknown`] or
/// [`ErrorCode::DeadlineExceeded`] when nobody knows whether it was done, and with the errors of the link.
impl<T: Atomic> SharedArray<T> {
    /// Adds; integers wrap.
    ///
    /// # Errors
    ///
    /// As [`crate::AnyArray::update`].
    pub async fn fetch_add(&self, index: u64, value: T) -> Result<T> {
        self.update_element(index, UpdateKind::FetchAdd, value).await
    }

    /// Keeps the smaller of the two; a NaN loses against a number.
    ///
    /// # Errors
    ///
    /// As [`crate::AnyArray::update`].
    pub async fn fetch_min(&self, index: u64, value: T) -> Result<T> {
        self.update_element(index, UpdateKind::FetchMin, value).await
    }

    /// Keeps the larger of the two; a NaN loses against a number.
    ///
    /// # Errors
    ///
    /// As [`crate::AnyArray::update`].
    pub async fn fetch_max(&self, index: u64, value: T) -> Result<T> {
        self.update_element(index, UpdateKind::FetchMax, value).await
    }

    /// Stores the value.
    ///
    /// # Errors
    ///
    /// As [`crate::AnyArray::update`].
    pub async fn swap(&self, index: u64, value: T) -> Result<T> {
        self.update_element(index, UpdateKind::Swap, value).await
    }

    /// Stores `new` when the element's bits are those of `expected`. `Ok(Ok(_))` is what it was when it was stored,
    /// `Ok(Err(_))` what is there instead.
    ///
    /// # Errors
    ///
    /// As [`crate::AnyArray::update`].
    pub async fn compare_exchange(&self, index: u64, expected: T, new: T) -> Result<Result<T, T>> {
        let (expected, new) = (scalar_of(expected), scalar_of(new));
        let kind = UpdateKind::CompareExchange;
        let found = self.update(index, kind, new, Some(expected)).await?;
        let exchanged = found.bits() == expected.bits();
        let found = element(found)?;
        Ok(if exchanged { Ok(found) } else { Err(found) })
    }

    async fn update_element(&self, index: u64, kind: UpdateKind, value: T) -> Result<T> {
        element(self.update(index, kind, scalar_of(value), None).await?)
    }
}

impl<T: AtomicBits> SharedArray<T> {
    /// Keeps the bits that both have.
    ///
    /// # Errors
    ///
    /// As [`crate::AnyArray::update`].
    pub async fn fetch_and(&self, index: u64, value: T) -> Result<T> {
        self.update_element(index, UpdateKind::FetchAnd, value).await
    }

    /// Adds the bits of the value.
    ///
    /// # Errors
    ///
    /// As [`crate::AnyArray::update`].
    pub async fn fetch_or(&self, index: u64, value: T) -> Result<T> {
        self.update_element(index, UpdateKind::FetchOr, value).await
    }
}

/// Changes one element, which the array has.
pub(crate) async fn update(
    call: &Call<'_>,
    array: &ArrayDescriptor,
    index: u64,
    kind: UpdateKind,
    operand: Scalar,
    expected: Option<Scalar>,
) -> Result<Scalar> {
    let place = array.layout.locate(index).ok_or_else(|| {
        let elems = array.layout.elems();
        let message = format!("element {index} of array {}, which has {elems}", array.name);
        Error::new(ErrorCode::OutOfRange, message)
            .help(format!("elements are numbered from 0 to {}", elems.saturating_sub(1)))
    })?;
    let change = Op::Update {
        array: array.id,
        shard: place.shard,
        offset: place.byte,
        dtype: array.layout.dtype(),
        kind,
        operand: operand.le_bytes(),
        expected: expected.map(Scalar::le_bytes).unwrap_or_default(),
    };
    change.check()?;
    let (session, deadline) = (call.session(), call.deadline());
    let key = session.keys().take(session, deadline).await?;
    let bytes = |value: Scalar| value.le_bytes()[..value.dtype().size()].to_vec();
    let request = UpdateElement {
        array: array.id.0,
        shard: place.shard.0,
        offset: place.byte,
        kind: u32::from(kind.to_byte()),
        operand: bytes(operand),
        expected: expected.map(bytes).unwrap_or_default(),
        key: Some(key.body()),
    };
    let target = Target::Shard(array, place.shard);
    let updated: Result<UpdateReply, Failure> =
        session.call(target, Kind::Update, Effect::Keyed, &request, deadline).await;
    key.conclude(&updated);
    let previous = updated
        .map_err(|failure| failure.context(format!("element {index} of array {}", array.name)))?
        .previous;
    Ok(Scalar::from_le_bytes(array.layout.dtype(), &previous)?)
}

fn element<T: Element>(value: Scalar) -> Result<T> {
    from_scalar(value).ok_or_else(|| {
        let message = format!("an element came back as {}, not {}", value.dtype(), T::DTYPE);
        Error::new(ErrorCode::Internal, message)
    })
}
