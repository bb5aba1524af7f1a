"""Indexing means what it means in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from stand_in import stand_in

import holocompute as hc
from holocompute._array import Index


def picked(index: Index, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What the nodes would send for an index, put together as the package does it."""
    axes = tuple(slice(*axis) if isinstance(axis, tuple) else axis for axis in index.axes)
    return values[axes].reshape(index.shape)[index.flips]


def random_key(random: np.random.Generator, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """Integers, slices of any direction and perhaps an ellipsis."""
    parts: list[Any] = []
    for dim in shape[: int(random.integers(0, len(shape) + 1))]:
        if dim and random.random() < 0.3:
            parts.append(int(random.integers(-dim, dim)))
            continue
        ends = [None if random.random() < 0.3 else int(random.integers(-dim - 3, dim + 4)) for _ in "ab"]
        step = random.choice([None, 1, 2, 3, -1, -2, dim + 5])
        parts.append(slice(*ends, None if step is None else int(step)))
    if random.random() < 0.3:
        parts.insert(int(random.integers(0, len(parts) + 1)), Ellipsis)
    return tuple(parts)


def test_random_indexes_pick_what_numpy_picks(random: np.random.Generator) -> None:
    for _ in range(2000):
        shape = tuple(int(dim) for dim in random.integers(0, 7, size=random.integers(0, 4)))
        values = np.arange(np.prod(shape, dtype=int)).reshape(shape)
        key = random_key(random, shape)
        try:
            expected = values[key]
        except IndexError:
            with pytest.raises(IndexError):
                Index(key, shape)
            continue
        index = Index(key, shape)
        assert index.shape == np.shape(expected), (shape, key)
        assert index.elems == np.size(expected), (shape, key)
        np.testing.assert_array_equal(picked(index, values), expected, err_msg=f"{shape} {key}")


def test_steps_sent_to_the_nodes_are_positive_and_inside() -> None:
    index = Index((slice(None, None, -2), slice(8, 2)), (10, 5))
    assert index.axes == [(1, 10, 2), (0, 0, 1)]
    assert index.elems == 0


def test_the_whole_array_is_recognised() -> None:
    for key in (Ellipsis, slice(None), (), (slice(0, 4), Ellipsis)):
        assert Index(key if isinstance(key, tuple) else (key,), (4, 5)).is_everything
    for key in (slice(1, None), slice(None, None, -1), 0):
        assert not Index((key,), (4, 5)).is_everything


@pytest.mark.parametrize("key", [10, -11, (0, 0), (Ellipsis, Ellipsis)])
def test_an_index_outside_is_an_index_error(key: Any) -> None:
    with pytest.raises(IndexError):
        stand_in(10)[key]


def test_a_zero_step_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="zero"):
        stand_in(10)[::0]


@pytest.mark.parametrize("key", [[1, 2], np.array([1, 2]), None, True, stand_in(10, bool)])
def test_masks_and_lists_are_refused_with_advice(key: Any) -> None:
    with pytest.raises(hc.NotSupported) as refused:
        stand_in(10)[key]
    assert refused.value.help


def test_a_slice_that_would_flood_this_process_is_refused() -> None:
    huge = stand_in(1 << 40)
    with pytest.raises(hc.HoloError, match="limit=None") as refused:
        huge[...]
    assert refused.value.code == "HC1009"
    with pytest.raises(hc.HoloError):
        np.asarray(huge)
    with pytest.raises(hc.HoloError):
        huge[...] = np.ones(1)
