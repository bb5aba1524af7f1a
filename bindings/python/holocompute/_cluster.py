"""Connecting, and making arrays."""

from __future__ import annotations

import atexit
import html
import os
import secrets
import sysconfig
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from holocompute import _native
from holocompute._array import Array
from holocompute._errors import HoloError
from holocompute._values import check_dtype, literal, readable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType

__all__ = ["Cluster", "connect", "local", "sync"]

_open: weakref.WeakSet[Cluster] = weakref.WeakSet()


def connect(
    addresses: str | Iterable[str] | None = None,
    *,
    identity: str | os.PathLike[str] | None = None,
    node_keys: Iterable[str] | None = None,
    connect_timeout: float | None = None,
    request_timeout: float | None = None,
) -> Cluster:
    """Connects to a running cluster.

    Args:
        addresses: ``"host:port"`` of one or more nodes; ``HOLO_CLUSTER`` when it is not given.
        identity: The client's identity file; ``HOLO_IDENTITY`` when it is not given.
        node_keys: Keys that the first node may have, 64 hexadecimal digits each.
        connect_timeout: Seconds until a silent node counts as unreachable.
        request_timeout: Seconds that one request may take.
    """
    if isinstance(addresses, str):
        addresses = [part.strip() for part in addresses.split(",") if part.strip()]
    native = _native.connect(
        None if addresses is None else list(addresses),
        None if identity is None else os.fspath(identity),
        None if node_keys is None else list(node_keys),
        connect_timeout,
        request_timeout,
    )
    return Cluster(native)


def local(
    nodes: int = 3,
    *,
    binary: str | os.PathLike[str] | None = None,
    connect_timeout: float | None = None,
    request_timeout: float | None = None,
) -> Cluster:
    """Starts a cluster on this machine; its nodes stop with :meth:`Cluster.close`, at exit, or when this process dies.

    Args:
        nodes: How many node processes.
        binary: The ``holo`` program; the one that came with this package when it is not given.
    """
    path = os.fspath(binary) if binary is not None else packaged_binary()
    return Cluster(_native.local(nodes, path, connect_timeout, request_timeout))


def sync() -> None:
    """Waits until every change that this process has begun so far has ended, on all clusters that it uses."""
    for cluster in list(_open):
        if not cluster._native.is_closed:
            cluster.sync()


def packaged_binary() -> str | None:
    """The ``holo`` program that the wheel brought, unless the environment names another."""
    if os.environ.get("HOLO_BIN"):
        return None
    path = Path(sysconfig.get_path("scripts")) / "holo"
    return str(path) if path.is_file() else None


class Cluster:
    """A connection to a cluster; a context manager that closes itself."""

    def __init__(self, native: _native.NativeCluster) -> None:
        self._native = native
        # Names of arrays of each shape, with their copies: a new one is put beside one of them, so that expressions
        # may use both.
        self._beside: dict[tuple[int, ...], dict[str, tuple[int, int]]] = {}
        self._temporary: set[str] = set()
        _open.add(self)

    # -- making arrays -------------------------------------------------------------------------

    def zeros(
        self,
        shape: int | Sequence[int],
        dtype: Any = np.float64,
        *,
        name: str | None = None,
        like: Array | str | None = None,
        shard_elems: int | None = None,
        replicas: int | None = None,
        min_in_sync: int | None = None,
    ) -> Array:
        """An array of zeros; pages that nobody writes take no memory.

        Args:
            shape: Extents, outermost first.
            dtype: bool, an integer or float32/float64.
            name: Name on the cluster; without one it lives as long as the handle.
            like: An array to lie beside. Arrays of one shape that one session makes lie beside each other anyway.
            shard_elems: Elements of one shard.
            replicas: Copies, each on another node; the cluster's default is 2, as far as there are nodes.
            min_in_sync: Copies that must be in sync for a write to be taken.
        """
        copies = (replicas or 0, min_in_sync or 0)
        return self._create(name, as_shape(shape), check_dtype(dtype), like, shard_elems, copies)

    def empty(self, shape: int | Sequence[int], dtype: Any = np.float64, **options: Any) -> Array:
        """The same as :meth:`zeros`: what nobody wrote is zero and takes no memory."""
        return self.zeros(shape, dtype, **options)

    def ones(self, shape: int | Sequence[int], dtype: Any = np.float64, **options: Any) -> Array:
        """An array of ones; options as for :meth:`zeros`."""
        return self.full(shape, 1, dtype, **options)

    def full(self, shape: int | Sequence[int], value: Any, dtype: Any = None, **options: Any) -> Array:
        """An array of one value; options as for :meth:`zeros`."""
        dtype = check_dtype(np.asarray(value).dtype if dtype is None else dtype)
        array = self.zeros(shape, dtype, **options)
        array[...] = value
        return array

    def arange(
        self, start: float, stop: float | None = None, step: float = 1, dtype: Any = None, **options: Any
    ) -> Array:
        """Evenly spaced values, computed on the nodes; options as for :meth:`zeros`."""
        if stop is None:
            start, stop = 0, start
        if step == 0:
            raise ZeroDivisionError("arange() with a step of 0")
        found = np.result_type(*(np.asarray(part).dtype for part in (start, stop, step)))
        dtype = check_dtype(found if dtype is None else dtype)
        count = max(0, -int((start - stop) // step))
        array = self.zeros(count, dtype, **options)
        value = f"{literal(start)} + i * {literal(step)}"
        self._run(f"{dtype.name}({value})", [], array, "auto")
        return array

    def from_numpy(
        self,
        values: Any,
        *,
        name: str | None = None,
        like: Array | str | None = None,
        shard_elems: int | None = None,
        replicas: int | None = None,
        min_in_sync: int | None = None,
    ) -> Array:
        """An array with the elements of what NumPy can make an array of; options as for :meth:`zeros`."""
        values = np.asarray(values)
        dtype = check_dtype(values.dtype)
        flat = np.ascontiguousarray(values, dtype=dtype).reshape(-1)
        copies = (replicas or 0, min_in_sync or 0)
        array = self._create(name, values.shape, dtype, like, shard_elems, copies)
        if flat.size:
            array._native.write(0, flat.view(np.uint8))
        return array

    # -- finding arrays ------------------------------------------------------------------------

    def open(self, name: str) -> Array:
        """An array that exists."""
        return self._known(self._native.open(name))

    def __getitem__(self, name: str) -> Array:
        return self.open(name)

    def arrays(self) -> list[Array]:
        """All arrays that we may read, by name."""
        return [self._known(native) for native in self._native.arrays()]

    def remove(self, array: Array | str) -> None:
        """Removes an array and frees its memory."""
        name = array if isinstance(array, str) else array.name
        self._native.remove(name)
        self._unknown(name)

    # -- programs ------------------------------------------------------------------------------

    def run(self, text: str, *, out: Array | None = None, device: str = "auto", **arrays: Array) -> Any:
        """Runs an expression that is written as text: ``cluster.run("sqrt(x*x + 1)", x=a, out=b)``.

        Returns ``out``, or the value of a reduction such as ``sum(x)`` as a NumPy scalar.
        """
        report = self._run(text, list(arrays.items()), out, device)
        if "value" in report:
            return np.frombuffer(report["value"], dtype=report["dtype"])[0]
        return out

    def run_module(
        self,
        module: bytes | os.PathLike[str],
        inputs: Sequence[Array] = (),
        outputs: Sequence[Array] = (),
        *,
        params: bytes = b"",
        fuel: int | None = None,
        time_limit: float | None = None,
    ) -> dict[str, Any]:
        """Runs a WASM module over arrays, on the nodes that hold them.

        Returns a report with ``shards``, ``fuel``, ``seconds``, ``nodes`` and, for modules that reduce, ``output``
        (combined) or ``partials`` (by shard).

        ``fuel`` counts for each shard, ``time_limit`` is in seconds for each node, rounded up to milliseconds. A node's
        own limits are the most that can be asked for.
        """
        code = module if isinstance(module, bytes) else Path(module).read_bytes()
        return self._native.run_module(
            code,
            [array._native for array in inputs],
            [array._native for array in outputs],
            params,
            (fuel, time_limit),
        )

    # -- the cluster itself --------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Name of the cluster."""
        return self._native.cluster_name

    @property
    def nodes(self) -> list[str]:
        """Names of the nodes."""
        return [name for _, name, _ in self._native.members()]

    def status(self) -> list[dict[str, Any]]:
        """The state of every node; ``error`` says why one does not answer."""
        return self._native.status()

    def sync(self) -> None:
        """Waits until every change that was begun on this cluster so far has ended: also those of other threads."""
        self._native.sync()

    def environment(self) -> dict[str, str]:
        """What another program needs to use a local cluster while it runs: ``HOLO_CLUSTER`` and ``HOLO_IDENTITY``."""
        access = self._native.local_access()
        if access is None:
            raise HoloError("HC1001", "only a local cluster knows its environment")
        addresses, identity = access
        return {"HOLO_CLUSTER": ",".join(addresses), "HOLO_IDENTITY": identity}

    def close(self) -> None:
        """Removes arrays without a name, closes the connections, stops the nodes of a local cluster."""
        if self._native.is_closed:
            return
        try:
            if self._native.local_access() is None:
                for name in list(self._temporary):
                    try:
                        self._native.remove(name)
                    except HoloError:
                        # The cluster is gone or already forgot it: there is nothing left to free.
                        continue
        finally:
            self._native.close()

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        if self._native.is_closed:
            return "<holocompute.Cluster, closed>"
        return f"<holocompute.Cluster {self.name!r} of {len(self.nodes)} nodes>"

    def _repr_html_(self) -> str:
        if self._native.is_closed:
            return html.escape(repr(self))
        rows = []
        for node in self.status():
            used = node.get("frame_bytes")
            memory = "" if used is None else f"{readable(used)} of {readable(node['frame_bytes_max'])}"
            cells = (node["name"], node["address"], node["state"], memory, str(node.get("shards", "")))
            rows.append("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>")
        heads = ("node", "address", "state", "memory", "shards")
        head = "".join(f"<th>{text}</th>" for text in heads)
        return f"<b>{html.escape(self.name)}</b><table><tr>{head}</tr>{''.join(rows)}</table>"

    # -- inside --------------------------------------------------------------------------------

    def _create(
        self,
        name: str | None,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        like: Array | str | None = None,
        shard_elems: int | None = None,
        copies: tuple[int, int] = (0, 0),
    ) -> Array:
        owned = name is None
        if name is None:
            name = f"tmp/{secrets.token_hex(8)}"
        if isinstance(like, Array):
            like = like.name
        native = None
        if like is None and shard_elems is None:
            native = self._create_beside(name, shape, dtype, copies)
        if native is None:
            native = self._native.create(name, list(shape), dtype.name, like, shard_elems, copies)
        self._note(native)
        if owned:
            self._temporary.add(name)
        return Array(self, native, owned=owned)

    def _create_beside(
        self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], copies: tuple[int, int]
    ) -> _native.NativeArray | None:
        known = self._beside.get(shape, {})
        fitting = [other for other, has in known.items() if self._fits(has, copies)]
        for other in fitting:
            try:
                return self._native.create(name, list(shape), dtype.name, other, None, copies)
            except HoloError as error:
                if error.code != "HC1101":
                    raise
                # Somebody else removed it.
                known.pop(other, None)
        return None

    def _fits(self, has: tuple[int, int], wanted: tuple[int, int]) -> bool:
        """Whether an array with these copies is a good neighbour: it gives the new one as many as it has itself."""
        if wanted == (0, 0):
            # Who asks for nothing must not get fewer copies than is usual.
            return has[0] >= min(2, len(self._native.members()))
        return all(want in (0, have) for have, want in zip(has, wanted, strict=True))

    def _note(self, native: _native.NativeArray) -> None:
        copies = (native.replicas, native.min_in_sync)
        self._beside.setdefault(tuple(native.shape), {})[native.name] = copies

    def _known(self, native: _native.NativeArray) -> Array:
        self._note(native)
        return Array(self, native, owned=False)

    def _unknown(self, name: str) -> None:
        self._temporary.discard(name)
        for names in self._beside.values():
            names.pop(name, None)

    def _forget(self, name: str) -> None:
        if name in self._temporary and not self._native.is_closed:
            self._native.forget(name)
        self._unknown(name)

    def _run(self, text: str, arrays: list[tuple[str, Array]], out: Array | None, device: str) -> dict[str, Any]:
        inputs = [(name, array._native) for name, array in arrays]
        output = None if out is None else out._native
        return self._native.run_expression(text, inputs, output, device, (None, None))


def as_shape(shape: int | Sequence[int]) -> tuple[int, ...]:
    """Extents as a tuple."""
    dims = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
    if any(dim < 0 for dim in dims):
        raise ValueError(f"negative extents in shape {dims}")
    return tuple(int(dim) for dim in dims)


@atexit.register
def _close_all() -> None:
    for cluster in list(_open):
        try:
            cluster.close()
        except HoloError:
            # The process ends: nodes that hang notice that we are gone.
            continue
