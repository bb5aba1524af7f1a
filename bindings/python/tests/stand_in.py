"""Arrays without a cluster, for what is decided on this side."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from holocompute import Array

_ids = itertools.count(1)


@dataclass
class StandInNative:
    """What :class:`holocompute.Array` asks of a handle."""

    name: str
    shape: list[int]
    dtype: str
    shards: int = 2
    colocation: int = 1
    array_id: int = field(default_factory=lambda: next(_ids))
    replicas: int = 2
    min_in_sync: int = 1
    updates: list[tuple[int, str, bytes, bytes | None]] = field(default_factory=list)
    fills: list[Any] = field(default_factory=list)

    def update(self, index: int, kind: str, operand: bytes, expected: bytes | None = None) -> bytes:
        """Notes what it is asked for; the element was 7."""
        self.updates.append((index, kind, operand, expected))
        return np.asarray(7, dtype=self.dtype).tobytes()

    def fill(self, value: bytes) -> None:
        """Notes that everything was filled."""
        self.fills.append(("everything", value))

    def fill_selection(self, axes: list[Any], value: bytes) -> None:
        """Notes what was filled."""
        self.fills.append((axes, value))


class StandInCluster:
    """Notes what it is asked to run."""

    def __init__(self) -> None:
        self.runs: list[tuple[str, list[str]]] = []

    def _run(self, text: str, arrays: list[tuple[str, Array]], out: Any, device: str) -> dict[str, Any]:
        self.runs.append((text, [array.name for _, array in arrays]))
        return {"value": np.int64(42).tobytes(), "dtype": "int64"}


def stand_in(shape: int | tuple[int, ...] = 10, dtype: Any = "float64", cluster: Any = None, name: str = "x") -> Array:
    """An array that no node has."""
    dims = [shape] if isinstance(shape, int) else list(shape)
    native = StandInNative(name, dims, np.dtype(dtype).name)
    return Array(cluster or SHARED, native, owned=False)  # type: ignore[arg-type]


SHARED = StandInCluster()
