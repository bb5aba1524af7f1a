//! Arrays whose dtype is known only while the program runs, and how arrays are made.

use std::ops::{Bound, Range, RangeBounds};
use std::sync::Arc;
use std::time::Duration;

use bytemuck::Zeroable;
use bytes::Bytes;

use holo_core::expr::Reduction;
use holo_core::group::UpdateKind;
use holo_core::wire::{Allocate, ArrayInfo, ArrayRef, Kind, RequestKeyBody};
use holo_core::{
    ArrayDescriptor, ArrayLayout, ArrayName, DType, ErrorCode, Scalar, Selection, Shape,
};

use crate::call::Call;
use crate::retry::Effect;
use crate::transfer::{self, Source};
use crate::{
    Cluster, Element, Error, Expression, Progress, Result, SharedArray, Unwatched, atomic, strided,
};

/// A shared array of any dtype. Cheap to clone; the elements stay on the nodes.
///
/// Elements are addressed by their flat C-order index; ranges may have any length, also none. Reads and writes of
/// one shard are atomic and ordered; a write over several shards is not atomic across them.
#[derive(Clone, Debug)]
pub struct AnyArray {
    cluster: Cluster,
    descriptor: Arc<ArrayDescriptor>,
}

impl AnyArray {
    pub(crate) fn new(cluster: Cluster, descriptor: ArrayDescriptor) -> Self {
        Self { cluster, descriptor: Arc::new(descriptor) }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.descriptor.name.as_str()
    }

    /// Extents, outermost first.
    pub fn shape(&self) -> &[u64] {
        self.descriptor.layout.shape().dims()
    }

    /// Type of its elements.
    pub fn dtype(&self) -> DType {
        self.descriptor.layout.dtype()
    }

    /// Its number of elements.
    pub fn len(&self) -> u64 {
        self.descriptor.layout.elems()
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of its elements.
    pub fn byte_len(&self) -> u64 {
        self.descriptor.layout.bytes()
    }

    /// How its elements fall on shards and pages.
    pub fn layout(&self) -> &ArrayLayout {
        &self.descriptor.layout
    }

    /// Everything that the cluster knows of it.
    pub fn descriptor(&self) -> &ArrayDescriptor {
        &self.descriptor
    }

    /// The cluster that holds it.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The same array, whose calls each end within `limit` or fail with [`ErrorCode::DeadlineExceeded`]: all requests
    /// of a call together, where otherwise each request has the time of [`Options`](crate::Options).
    #[must_use]
    pub fn with_deadline(&self, limit: Duration) -> Self {
        Self {
            cluster: self.cluster.with_deadline(limit),
            descriptor: Arc::clone(&self.descriptor),
        }
    }

    /// The same array with elements of a Rust type.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::DtypeMismatch`] when its elements are of another type.
    pub fn typed<T: Element>(&self) -> Result<SharedArray<T>> {
        if self.dtype() == T::DTYPE {
            return Ok(SharedArray::new(self.clone()));
        }
        let message = format!("array {} is {}, not {}", self.name(), self.dtype(), T::DTYPE);
        Err(Error::new(ErrorCode::DtypeMismatch, message))
    }

    /// Reads the little-endian bytes of a range of elements.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::OutOfRange`]; [`ErrorCode::TooLarge`] for more than this machine has memory for;
    /// [`ErrorCode::Corrupt`] when bytes do not match their digest; those of the link.
    pub async fn read_bytes(&self, range: impl RangeBounds<u64> + Send) -> Result<Vec<u8>> {
        self.read_bytes_with(range, &Unwatched).await
    }

    /// [`Self::read_bytes`], with somebody who watches.
    ///
    /// # Errors
    ///
    /// As [`Self::read_bytes`].
    pub async fn read_bytes_with(
        &self,
        range: impl RangeBounds<u64> + Send,
        progress: &dyn Progress,
    ) -> Result<Vec<u8>> {
        let elems = self.range(range)?;
        let mut bytes = zeroed::<u8>(self.bytes_of(&elems)?)?;
        let call = self.cluster.reading();
        transfer::read(&call, &self.descriptor, elems, &mut bytes, progress).await?;
        Ok(bytes)
    }

    /// Reads a range of elements into `dst`, which has exactly their bytes. After an error its content is unspecified.
    ///
    /// # Errors
    ///
    /// As [`Self::read_bytes`], and [`ErrorCode::InvalidArgument`] when `dst` has another length.
    pub async fn read_into(
        &self,
        range: impl RangeBounds<u64> + Send,
        dst: &mut [u8],
        progress: &dyn Progress,
    ) -> Result<()> {
        let elems = self.range(range)?;
        self.check_len(&elems, dst.len())?;
        transfer::read(&self.cluster.reading(), &self.descriptor, elems, dst, progress).await
    }

    /// Writes little-endian bytes of whole elements from the element `start` on.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::OutOfRange`], [`ErrorCode::InvalidArgument`] for bytes of half an element,
    /// [`ErrorCode::OutOfCapacity`] when a node has no memory left; those of the link. After an error any part of
    /// the range may be written.
    pub async fn write_bytes(&self, start: u64, bytes: &[u8]) -> Result<()> {
        self.write_bytes_with(start, bytes, &Unwatched).await
    }

    /// [`Self::write_bytes`], with somebody who watches.
    ///
    /// # Errors
    ///
    /// As [`Self::write_bytes`].
    pub async fn write_bytes_with(
        &self,
        start: u64,
        bytes: &[u8],
        progress: &dyn Progress,
    ) -> Result<()> {
        let call = self.cluster.changing();
        self.write_source(&call, start, Source::Borrowed(bytes), progress).await
    }

    /// [`Self::write_bytes_with`] of bytes that are shared: nothing is copied.
    ///
    /// # Errors
    ///
    /// As [`Self::write_bytes`].
    pub async fn write_shared(
        &self,
        start: u64,
        bytes: Bytes,
        progress: &dyn Progress,
    ) -> Result<()> {
        let call = self.cluster.changing();
        self.write_source(&call, start, Source::Shared(bytes), progress).await
    }

    /// Reads the elements of a selection, packed in C order.
    ///
    /// # Errors
    ///
    /// As [`Self::read_bytes`], and [`ErrorCode::TooLarge`] for a selection of very many separate pieces.
    pub async fn read_selection(&self, selection: &Selection) -> Result<Vec<u8>> {
        strided::read(self, &self.cluster.reading(), selection).await
    }

    /// Writes packed C-order elements over a selection.
    ///
    /// # Errors
    ///
    /// As [`Self::write_bytes`], and [`ErrorCode::TooLarge`] for a selection of very many separate pieces.
    pub async fn write_selection(&self, selection: &Selection, bytes: &[u8]) -> Result<()> {
        strided::write(self, &self.cluster.changing(), selection, bytes).await
    }

    /// Sets every element to one value; only the value travels.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::DtypeMismatch`] when the value is of another dtype; those of [`Self::write_bytes`].
    pub async fn fill(&self, value: Scalar) -> Result<()> {
        self.fill_range(.., value).await
    }

    /// Sets the elements of a range to one value.
    ///
    /// # Errors
    ///
    /// As [`Self::fill`], and [`ErrorCode::OutOfRange`].
    pub async fn fill_range(
        &self,
        range: impl RangeBounds<u64> + Send,
        value: Scalar,
    ) -> Result<()> {
        let elems = self.range(range)?;
        self.check_dtype(value)?;
        let (bytes, size) = (value.le_bytes(), self.dtype().size());
        let call = self.cluster.changing();
        transfer::fill(&call, &self.descriptor, elems, &bytes[..size]).await
    }

    /// Sets the elements of a selection to one value.
    ///
    /// # Errors
    ///
    /// As [`Self::fill`], and [`ErrorCode::TooLarge`] for a selection of very many separate pieces.
    pub async fn fill_selection(&self, selection: &Selection, value: Scalar) -> Result<()> {
        self.check_dtype(value)?;
        let (bytes, size) = (value.le_bytes(), self.dtype().size());
        strided::fill(self, &self.cluster.changing(), selection, &bytes[..size]).await
    }

    /// Changes one element by a read-modify-write on the node that holds it, exactly once, and returns what it was.
    ///
    /// `expected` is for [`UpdateKind::CompareExchange`], and zero for all others.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::OutOfRange`], [`ErrorCode::DtypeMismatch`] for values of another dtype,
    /// [`ErrorCode::InvalidArgument`] for an update that the dtype does not have;
    /// [`ErrorCode::OutcomeUnknown`] when nobody knows any more whether it was done; those of the link.
    pub async fn update(
        &self,
        index: u64,
        kind: UpdateKind,
        operand: Scalar,
        expected: Option<Scalar>,
    ) -> Result<Scalar> {
        for value in [Some(operand), expected].into_iter().flatten() {
            self.check_dtype(value)?;
        }
        let elems = self.range(index..index.saturating_add(1))?;
        let call = self.cluster.changing();
        atomic::update(&call, &self.descriptor, elems.start, kind, operand, expected).await
    }

    /// An expression in which `x` is this array.
    pub fn expr(&self, text: &str) -> Expression {
        self.cluster.expr(text).input_array("x", self)
    }

    /// One value of all elements, computed where they lie.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::InvalidArgument`] for the smallest or largest of nothing; those of [`Expression::run`].
    pub async fn reduce(&self, reduction: Reduction) -> Result<Scalar> {
        self.cluster.reduction(self, reduction)?.run().await?.into_value()
    }

    /// Checks a range of elements against the array.
    pub(crate) fn range(&self, range: impl RangeBounds<u64>) -> Result<Range<u64>> {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => self.len(),
        };
        if start > end || end > self.len() {
            let message = format!(
                "elements {start}..{end} of array {}, which has {}",
                self.name(),
                self.len()
            );
            return Err(Error::new(ErrorCode::OutOfRange, message)
                .help(format!("ask for 0..{} at most", self.len())));
        }
        Ok(start..end)
    }

    pub(crate) async fn write_source(
        &self,
        call: &Call<'_>,
        start: u64,
        source: Source<'_>,
        progress: &dyn Progress,
    ) -> Result<()> {
        let size = self.dtype().size();
        if !source.len().is_multiple_of(size) {
            let message = format!("{} bytes are no whole {}", source.len(), self.dtype());
            return Err(Error::new(ErrorCode::InvalidArgument, message));
        }
        let elems = self.range(start..start.saturating_add((source.len() / size) as u64))?;
        transfer::write(call, &self.descriptor, elems, source, progress).await
    }

    pub(crate) fn bytes_of(&self, elems: &Range<u64>) -> Result<usize> {
        let bytes = (elems.end - elems.start) * self.dtype().size() as u64;
        usize::try_from(bytes).ok().filter(|bytes| *bytes <= isize::MAX as usize).ok_or_else(|| {
            let message = format!("{bytes} bytes do not fit this machine's memory");
            Error::new(ErrorCode::TooLarge, message)
        })
    }

    fn check_dtype(&self, value: Scalar) -> Result<()> {
        if value.dtype() == self.dtype() {
            return Ok(());
        }
        let message = format!("a {} for array {} of {}", value.dtype(), self.name(), self.dtype());
        Err(Error::new(ErrorCode::DtypeMismatch, message))
    }

    fn check_len(&self, elems: &Range<u64>, len: usize) -> Result<()> {
        let needed = self.bytes_of(elems)?;
        if needed == len {
            return Ok(());
        }
        let message = format!("{len} bytes for elements that have {needed}");
        Err(Error::new(ErrorCode::InvalidArgument, message))
    }
}

/// An array that is about to be made; see [`Cluster::array`].
#[derive(Clone, Debug)]
#[must_use = "nothing is made before `create`"]
pub struct ArrayBuilder {
    cluster: Cluster,
    name: String,
    shape: Option<Vec<u64>>,
    shard_elems: u64,
    like: String,
    replicas: u32,
    min_in_sync: u32,
}

impl ArrayBuilder {
    pub(crate) fn new(cluster: Cluster, name: &str) -> Self {
        Self {
            cluster,
            name: name.to_owned(),
            shape: None,
            shard_elems: 0,
            like: String::new(),
            replicas: 0,
            min_in_sync: 0,
        }
    }

    /// Extents, outermost first. Without them the array has those of the one that it is `like`.
    pub fn shape(mut self, dims: impl AsRef<[u64]>) -> Self {
        self.shape = Some(dims.as_ref().to_vec());
        self
    }

    /// Elements of a shard; 2^19 unless somebody asks for another count.
    pub fn shard_elems(mut self, elems: u64) -> Self {
        self.shard_elems = elems;
        self
    }

    /// Puts every shard beside the shard of the same index of another array, so that one expression may use both.
    pub fn like(mut self, array: &str) -> Self {
        array.clone_into(&mut self.like);
        self
    }

    /// Copies that the cluster keeps, on as many nodes; 0 for the cluster's default, which is two, as far as so many
    /// are in service when it is made. It stays at that.
    pub fn replicas(mut self, copies: u32) -> Self {
        self.replicas = copies;
        self
    }

    /// Copies that must be in sync for a write to be taken; 0 for the cluster's default. With fewer, reads go on and
    /// writes wait.
    pub fn min_in_sync(mut self, copies: u32) -> Self {
        self.min_in_sync = copies;
        self
    }

    /// Makes the array, all zeros.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::InvalidArgument`] for a bad name or no shape, [`ErrorCode::ShapeOverflow`],
    /// [`ErrorCode::AlreadyExists`], [`ErrorCode::NotFound`] for an unknown `like`, [`ErrorCode::OutOfCapacity`].
    pub async fn create<T: Element>(self) -> Result<SharedArray<T>> {
        Ok(SharedArray::new(self.create_any(T::DTYPE).await?))
    }

    /// [`Self::create`] with a dtype that is known only while the program runs.
    ///
    /// # Errors
    ///
    /// As [`Self::create`].
    pub async fn create_any(self, dtype: DType) -> Result<AnyArray> {
        let name = ArrayName::new(&self.name)?;
        let shape = match self.shape {
            Some(dims) => Shape::new(&dims)?,
            None if self.like.is_empty() => {
                let message = format!("array {name} has no shape");
                return Err(Error::new(ErrorCode::InvalidArgument, message)
                    .help("give it one, or make it like another array"));
            }
            None => self.cluster.open_any(&self.like).await?.layout().shape().clone(),
        };
        let call = self.cluster.changing();
        let (session, deadline) = (call.session(), call.deadline());
        let key = session.keys().take(session, deadline).await?;
        let request = Allocate {
            name: name.as_str().to_owned(),
            shape: shape.dims().to_vec(),
            dtype: u32::from(dtype.to_byte()),
            shard_elems: self.shard_elems,
            like: self.like,
            replicas: self.replicas,
            min_in_sync: self.min_in_sync,
            token: token(&key.body()),
        };
        let info: ArrayInfo =
            session.ask_any(Kind::Allocate, Effect::Keyed, &request, deadline).await?;
        drop((key, call));
        Ok(AnyArray::new(self.cluster, ArrayDescriptor::try_from(info)?))
    }
}

/// Memory for `count` values, all zero: pages that nobody touches cost nothing.
///
/// # Errors
///
/// [`ErrorCode::TooLarge`] when this machine does not give so much.
pub(crate) fn zeroed<T: Zeroable>(count: usize) -> Result<Vec<T>> {
    bytemuck::allocation::try_zeroed_vec(count).map_err(|()| {
        let bytes = count.saturating_mul(size_of::<T>());
        Error::new(ErrorCode::TooLarge, format!("no memory of this machine for {bytes} bytes"))
            .help("read a part of the array at a time")
    })
}

/// What tells a request that makes an array from all others: its key, which nobody else ever has.
fn token(key: &RequestKeyBody) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&key.session.to_le_bytes()).update(&key.number.to_le_bytes());
    let mut token = [0u8; 8];
    hasher.finalize_xof().fill(&mut token);
    u64::from_le_bytes(token).max(1)
}

/// Names an array on the wire.
pub(crate) fn reference(name: &str) -> Result<ArrayRef> {
    Ok(ArrayRef { name: ArrayName::new(name)?.as_str().to_owned(), id: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_there_is_not_is_an_error_and_no_abort() {
        assert_eq!(zeroed::<u64>(3).unwrap(), [0; 3]);
        for count in [1 << 59, usize::MAX / 16, usize::MAX] {
            assert_eq!(zeroed::<u64>(count).unwrap_err().code(), ErrorCode::TooLarge, "{count}");
        }
    }
}
