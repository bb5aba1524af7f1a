"""Arrays that lie on the nodes."""

from __future__ import annotations

import html
import operator
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

from holocompute._errors import HoloError, NotSupported
from holocompute._lazy import (
    Binary,
    Compound,
    Lazy,
    Reduction,
    as_operands,
)
from holocompute._values import IMPLICIT_BYTES_MAX, check_limit, readable

if TYPE_CHECKING:
    from holocompute import _native
    from holocompute._cluster import Cluster

#: Bytes that a copy through this process moves at a time.
COPY_BYTES = 32 << 20


class Array(Lazy):
    """An array on the nodes of a cluster.

    Slices are read into NumPy arrays and written from them; operators and functions build lazy values that the nodes
    compute. Made by the methods of :class:`Cluster`.
    """

    __slots__ = ("_cluster", "_dtype", "_native", "_owned", "_whole", "shape")

    def __init__(self, cluster: Cluster, native: _native.NativeArray, *, owned: bool) -> None:
        self._cluster = cluster
        self._native = native
        self._dtype = np.dtype(native.dtype)
        self.shape = tuple(native.shape)
        # Of a handle with a deadline: the one that it was made from.
        self._whole: Array | None = None
        # An array without a name of its own goes with its last handle.
        self._owned = weakref.finalize(self, cluster._forget, native.name) if owned else None

    @property
    def name(self) -> str:
        """Its name on the cluster."""
        return self._native.name

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of its elements."""
        return self._dtype

    @property
    def shards(self) -> int:
        """How many pieces it is cut into."""
        return self._native.shards

    @property
    def replicas(self) -> int:
        """Copies that the cluster keeps, each on another node."""
        return self._native.replicas

    @property
    def min_in_sync(self) -> int:
        """Copies that must be in sync for a write to be taken."""
        return self._native.min_in_sync

    def with_deadline(self, seconds: float) -> Array:
        """The same array, each of whose reads, writes and updates ends within so many seconds or fails."""
        limited = Array(self._cluster, self._native.with_deadline(seconds), owned=False)
        limited._whole = self
        return limited

    @property
    def _id(self) -> int:
        return self._native.array_id

    def placement(self) -> dict[str, int]:
        """Shards per node."""
        return dict(self._native.placement())

    # -- reading -------------------------------------------------------------------------------

    def to_numpy(self, *, limit: int | None = IMPLICIT_BYTES_MAX) -> np.ndarray[Any, Any]:
        """All elements, in this process.

        Args:
            limit: Bytes that the array may have; ``None`` for any number.
        """
        check_limit(self.nbytes, limit, f"array {self.name}")
        return self._native.read(0, self.size).view(self._dtype).reshape(self.shape)

    def compute(self, *, limit: int | None = IMPLICIT_BYTES_MAX, device: str = "auto") -> np.ndarray[Any, Any]:
        """All elements, in this process; there is nothing to compute."""
        return self.to_numpy(limit=limit)

    def store(self, name: str | None = None, *, out: Array | None = None, device: str = "auto") -> Array:
        """A copy of the array on the cluster."""
        if out is not None and out._id == self._id:
            return self
        return super().store(name, out=out, device=device)

    def copy(self, name: str | None = None, *, like: Array | None = None) -> Array:
        """A copy of the array, beside another one when ``like`` is given.

        A copy that moves to other nodes passes through this process, a piece at a time.
        """
        if like is None or like._native.colocation == self._native.colocation:
            return self.store(name)
        copied = self._cluster._create(name, self.shape, self.dtype, like=like.name)
        step = max(1, COPY_BYTES // self.dtype.itemsize)
        for start in range(0, self.size, step):
            stop = min(start + step, self.size)
            copied._native.write(start, self._native.read(start, stop))
        return copied

    def __getitem__(self, key: Any) -> Any:
        """Reads a slice into a NumPy array, or one element as a NumPy scalar."""
        index = Index(key, self.shape)
        check_limit(index.elems * self._dtype.itemsize, IMPLICIT_BYTES_MAX, "this slice")
        packed = self._native.read_selection(index.axes).view(self._dtype)
        values = packed.reshape(index.shape)[index.flips]
        return values[()] if not index.shape else values

    # -- writing -------------------------------------------------------------------------------

    def __setitem__(self, key: Any, value: Any) -> None:
        """Writes a NumPy array, a number or a lazy value over a slice; values are broadcast and cast as in NumPy."""
        index = Index(key, self.shape)
        if isinstance(value, Reduction):
            value = value.compute()
        if isinstance(value, Compound) or (isinstance(value, Array) and index.is_everything):
            self._assign(index, value)
            return
        if isinstance(value, Lazy):
            value = value.to_numpy()
        values = cast(value, self._dtype)
        if values.ndim == 0:
            # Only the value travels.
            if index.is_everything:
                self._native.fill(values.tobytes())
            else:
                self._native.fill_selection(index.axes, values.tobytes())
            return
        check_limit(index.elems * self._dtype.itemsize, IMPLICIT_BYTES_MAX, "this slice")
        packed = np.ascontiguousarray(np.broadcast_to(values, index.shape)[index.flips])
        self._native.write_selection(index.axes, packed.reshape(-1).view(np.uint8))

    def fill(self, value: Any) -> None:
        """Sets every element to one value."""
        self[...] = value

    # -- changing single elements ---------------------------------------------------------------

    def fetch_add(self, index: Any, value: Any) -> Any:
        """Adds to one element and returns what it was; integers wrap.

        This and its kin happen on the node that holds the element, exactly once, however often they had to be sent.
        """
        return self._update("add", index, value)

    def fetch_min(self, index: Any, value: Any) -> Any:
        """Keeps the smaller of an element and a value, and returns what it was; a NaN loses against a number."""
        return self._update("min", index, value)

    def fetch_max(self, index: Any, value: Any) -> Any:
        """Keeps the larger of an element and a value, and returns what it was; a NaN loses against a number."""
        return self._update("max", index, value)

    def fetch_and(self, index: Any, value: Any) -> Any:
        """Keeps the bits that an element and a value both have, and returns what it was; not for floats."""
        return self._update("and", index, value)

    def fetch_or(self, index: Any, value: Any) -> Any:
        """Adds the bits of a value to an element, and returns what it was; not for floats."""
        return self._update("or", index, value)

    def swap(self, index: Any, value: Any) -> Any:
        """Sets one element and returns what it was."""
        return self._update("swap", index, value)

    def compare_exchange(self, index: Any, expected: Any, new: Any) -> tuple[bool, Any]:
        """Sets one element if its bits are those of ``expected``.

        Returns whether it was set, and what it was.
        """
        expected = self._element(expected)
        found = self._update("compare_exchange", index, new, expected)
        return found.tobytes() == expected, found

    def _update(self, kind: str, index: Any, value: Any, expected: bytes | None = None) -> Any:
        axes = Index(index, self.shape).axes
        flat = 0
        for at, dim in zip(axes, self.shape, strict=True):
            if not isinstance(at, int):
                raise TypeError("an update is of one element: give an index for each axis")
            flat = flat * dim + at
        previous = self._native.update(flat, kind, self._element(value), expected)
        return np.frombuffer(previous, dtype=self._dtype)[0]

    def _element(self, value: Any) -> bytes:
        given = np.asarray(value)
        if given.ndim != 0 or (given.dtype.kind == "f" and self._dtype.kind != "f"):
            raise TypeError(f"{value!r} is no element of an array of {self._dtype}")
        return cast(value, self._dtype).tobytes()

    def _assign(self, index: Index, value: Lazy) -> None:
        if not index.is_everything:
            raise NotSupported(
                "storing a lazy value into a part of an array",
                "a[...] = value, or a[part] = value.compute()[part]",
            )
        if value.dtype != self._dtype:
            value = value.astype(self._dtype)
        value.store(out=self)

    def _in_place(self, symbol: str, other: Any) -> Array:
        value = Binary(symbol, *as_operands(self, other))
        if not np.can_cast(value.dtype, self._dtype, "same_kind"):
            raise TypeError(f"cannot store {value.dtype} into {self._dtype}; use a[...] = a {symbol} b")
        self[...] = value
        return self

    def __iadd__(self, other: Any) -> Array:
        return self._in_place("+", other)

    def __isub__(self, other: Any) -> Array:
        return self._in_place("-", other)

    def __imul__(self, other: Any) -> Array:
        return self._in_place("*", other)

    def __itruediv__(self, other: Any) -> Array:
        return self._in_place("/", other)

    def __ifloordiv__(self, other: Any) -> Array:
        return self._in_place("//", other)

    def __imod__(self, other: Any) -> Array:
        return self._in_place("%", other)

    def __ipow__(self, other: Any) -> Array:
        return self._in_place("**", other)

    def __iand__(self, other: Any) -> Array:
        return self._in_place("&", other)

    def __ior__(self, other: Any) -> Array:
        return self._in_place("|", other)

    def __ixor__(self, other: Any) -> Array:
        return self._in_place("^", other)

    def __ilshift__(self, other: Any) -> Array:
        return self._in_place("<<", other)

    def __irshift__(self, other: Any) -> Array:
        return self._in_place(">>", other)

    # -- for people ----------------------------------------------------------------------------

    def __repr__(self) -> str:
        shards = "1 shard" if self.shards == 1 else f"{self.shards} shards"
        return f"<holocompute.Array {self.name!r} shape={self.shape} {self.dtype}, {readable(self.nbytes)} in {shards}>"

    def _repr_html_(self) -> str:
        rows = [
            ("name", html.escape(self.name)),
            ("shape", str(self.shape)),
            ("dtype", str(self.dtype)),
            ("size", readable(self.nbytes)),
            ("copies", str(self.replicas)),
        ]
        total = max(self.shards, 1)
        for node, shards in self.placement().items():
            bar = f"<progress value='{shards}' max='{total}'></progress> {shards} of {self.shards} shards"
            rows.append((html.escape(node), bar))
        body = "".join(f"<tr><th>{head}</th><td>{cell}</td></tr>" for head, cell in rows)
        return f"<table>{body}</table>"

    def __reduce__(self) -> Any:
        raise NotSupported("pickling a distributed array", f"open it by its name in the other process: {self.name!r}")


class Index:
    """NumPy's basic indexing, resolved against a shape."""

    __slots__ = ("axes", "elems", "flips", "is_everything", "shape")

    def __init__(self, key: Any, shape: tuple[int, ...]) -> None:
        keys = expand(key if isinstance(key, tuple) else (key,), len(shape))
        self.axes: list[tuple[int, int, int] | int] = []
        kept: list[int] = []
        flips: list[slice] = []
        whole = True
        for axis, (part, dim) in enumerate(zip(keys, shape, strict=True)):
            if isinstance(part, slice):
                start, stop, step = part.indices(dim)
                count = len(range(start, stop, step))
                flips.append(slice(None, None, -1 if step < 0 else 1))
                if count == 0:
                    start, stop, step = 0, 0, 1
                elif step < 0:
                    # The same elements from the other end; they are turned round on our side.
                    start, stop, step = start + (count - 1) * step, start + 1, -step
                self.axes.append((start, stop, step))
                kept.append(count)
                whole = whole and count == dim and step == 1 and flips[-1].step == 1
            else:
                at = operator.index(part)
                if not -dim <= at < dim:
                    raise IndexError(f"index {at} is out of bounds for axis {axis} with size {dim}")
                self.axes.append(at + dim if at < 0 else at)
                whole = False
        self.shape = tuple(kept)
        self.flips = tuple(flips)
        self.elems = int(np.prod(kept, dtype=object)) if kept else 1
        self.is_everything = whole


def expand(keys: tuple[Any, ...], ndim: int) -> list[Any]:
    """One key for each axis: puts slices where an ellipsis or nothing stands."""
    for part in keys:
        if part is None:
            raise NotSupported("numpy.newaxis in an index", "index first, then reshape what was read")
        if isinstance(part, (bool, np.bool_, list, np.ndarray, Lazy)):
            raise NotSupported(
                "an index of several positions or a mask",
                "slices; or hc.where(mask, x, y) and (x * mask).sum()",
            )
    dots = [position for position, part in enumerate(keys) if part is Ellipsis]
    if len(dots) > 1:
        raise IndexError("an index can only have one ellipsis ('...')")
    given = len(keys) - len(dots)
    if given > ndim:
        raise IndexError(f"{given} indices for an array with {ndim} axes")
    fill = [slice(None)] * (ndim - given)
    at = dots[0] if dots else len(keys)
    return [*keys[:at], *fill, *keys[at + len(dots) :]]


def cast(value: Any, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """A value as elements of a dtype, as NumPy's own assignment does it."""
    values = np.asarray(value)
    if values.dtype == object or values.dtype.kind not in "biuf":
        raise HoloError("HC1004", f"elements of {values.dtype} cannot be stored as {dtype}")
    if values.ndim == 0 and isinstance(value, int):
        # Python's own integers must fit, as in NumPy 2.
        return np.asarray(value, dtype=dtype)
    return values.astype(dtype, copy=False)
