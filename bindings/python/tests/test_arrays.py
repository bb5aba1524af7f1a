"""Arrays on real nodes: what is written is read, slice by slice, as NumPy would have it."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

import holocompute as hc

DTYPES = [
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float32",
    "float64",
]


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_goes_there_and_back(cluster: hc.Cluster, dtype: str, random: np.random.Generator) -> None:
    values = random.integers(0, 100, size=(37, 11)).astype(dtype)
    array = cluster.from_numpy(values)
    assert (array.shape, array.dtype, array.nbytes) == (values.shape, values.dtype, values.nbytes)
    read = array.to_numpy()
    assert read.dtype == values.dtype
    np.testing.assert_array_equal(read, values)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (2, 3, 4), (1_000_003,)])
def test_every_shape_goes_there_and_back(cluster: hc.Cluster, shape: tuple[int, ...]) -> None:
    values = np.arange(np.prod(shape, dtype=int), dtype="float64").reshape(shape)
    array = cluster.from_numpy(values)
    np.testing.assert_array_equal(array.to_numpy(), values)
    np.testing.assert_array_equal(np.asarray(array), values)


@pytest.mark.parametrize(
    "values",
    [
        np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        np.arange(12, dtype=">i4").reshape(3, 4),
        np.arange(24.0).reshape(4, 6)[::2, ::-3],
        [[1, 2], [3, 4]],
        np.float32(7),
    ],
)
def test_any_memory_order_is_taken(cluster: hc.Cluster, values: Any) -> None:
    np.testing.assert_array_equal(cluster.from_numpy(values).to_numpy(), values)


def test_an_array_over_many_shards_is_whole(cluster: hc.Cluster, random: np.random.Generator) -> None:
    values = random.random(300_000)
    array = cluster.from_numpy(values, shard_elems=10_000)
    assert array.shards == 30
    assert sum(array.placement().values()) == 30
    np.testing.assert_array_equal(array.to_numpy(), values)
    np.testing.assert_array_equal(array[9_990:120_005], values[9_990:120_005])


@pytest.mark.parametrize(
    "key",
    [
        ...,
        3,
        -1,
        (2, 5),
        (slice(1, 4), slice(None, None, 3)),
        (slice(None, None, -1), 2),
        (Ellipsis, slice(7, 2, -2)),
        slice(4, 4),
        (slice(None), slice(3, 9)),
    ],
)
def test_slices_are_read_and_written_as_in_numpy(cluster: hc.Cluster, key: Any, random: np.random.Generator) -> None:
    values = random.integers(-1000, 1000, size=(6, 12))
    array = cluster.from_numpy(values)
    read = array[key]
    np.testing.assert_array_equal(read, values[key])
    assert isinstance(read, np.generic) == (np.ndim(values[key]) == 0)
    fresh = random.integers(-1000, 1000, size=np.shape(values[key]))
    array[key] = fresh
    values[key] = fresh
    np.testing.assert_array_equal(array.to_numpy(), values)
    array[key] = 5
    values[key] = 5
    np.testing.assert_array_equal(array.to_numpy(), values)


def test_rows_are_broadcast_over_a_slice(cluster: hc.Cluster) -> None:
    array, values = cluster.zeros((4, 5)), np.zeros((4, 5))
    array[1:3] = np.arange(5)
    values[1:3] = np.arange(5)
    np.testing.assert_array_equal(array.to_numpy(), values)
    with pytest.raises(ValueError, match="broadcast"):
        array[1:3] = np.arange(4)


def test_values_are_cast_as_numpys_assignment_casts_them(cluster: hc.Cluster) -> None:
    array = cluster.zeros(4, "int32")
    array[1:3] = 2.9
    assert array.to_numpy().tolist() == [0, 2, 2, 0]
    with pytest.raises(OverflowError):
        array[0] = 1 << 40
    with pytest.raises(hc.HoloError):
        array[0] = "text"


def test_constructors_are_numpys(cluster: hc.Cluster) -> None:
    assert cluster.zeros((2, 3)).to_numpy().tolist() == np.zeros((2, 3)).tolist()
    ones = cluster.ones(5, "uint8")
    assert (ones.dtype, ones.to_numpy().tolist()) == (np.uint8, [1] * 5)
    full = cluster.full((2, 2), 2.5, "float32")
    assert (full.dtype, full.to_numpy().tolist()) == (np.float32, [[2.5, 2.5]] * 2)
    for arguments in [(7,), (3, 11), (0, 10, 3), (10, 0, -3), (0.5, 2.0, 0.25), (5, 5)]:
        expected = np.arange(*arguments)
        array = cluster.arange(*arguments)
        assert array.dtype == expected.dtype
        np.testing.assert_allclose(array.to_numpy(), expected)


def test_named_arrays_are_found_listed_and_removed(cluster: hc.Cluster) -> None:
    array = cluster.zeros(10, "int64", name="tests/named")
    array[3] = 4
    again = cluster.open("tests/named")
    assert again.to_numpy().tolist() == array.to_numpy().tolist()
    assert cluster["tests/named"].name in [known.name for known in cluster.arrays()]
    with pytest.raises(hc.HoloError) as taken:
        cluster.zeros(10, name="tests/named")
    assert taken.value.code == "HC1102"
    cluster.remove("tests/named")
    with pytest.raises(hc.HoloError) as gone:
        cluster.open("tests/named")
    assert gone.value.code == "HC1101"


@pytest.mark.parametrize("name", ["", "a b", "../x", "/x", "x" * 201])
def test_a_bad_name_is_refused(cluster: hc.Cluster, name: str) -> None:
    with pytest.raises(hc.HoloError) as refused:
        cluster.zeros(1, name=name)
    assert refused.value.code == "HC1001"


def test_a_shape_that_overflows_is_refused(cluster: hc.Cluster) -> None:
    with pytest.raises(hc.HoloError) as refused:
        cluster.zeros((1 << 40, 1 << 40))
    assert refused.value.code == "HC1002"
    with pytest.raises(ValueError, match="negative"):
        cluster.zeros(-1)


def test_foreign_dtypes_are_refused(cluster: hc.Cluster) -> None:
    for dtype in ["complex128", "U5", "object", "datetime64[s]", "float16"]:
        with pytest.raises(hc.NotSupported):
            cluster.zeros(1, dtype)


def test_arrays_without_a_name_go_with_their_last_handle(cluster: hc.Cluster) -> None:
    name = cluster.zeros(10).name
    # Removal runs in the background, and the machine may be busy elsewhere.
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if name not in [array.name for array in cluster.arrays()]:
            return
        time.sleep(0.02)
    pytest.fail(f"{name} is still there")
