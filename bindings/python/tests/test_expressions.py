"""Expressions on real nodes give what NumPy gives."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import pytest

import holocompute as hc

SIZE = 50_000

ARITHMETIC = [operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod]
BITWISE = [operator.and_, operator.or_, operator.xor]
COMPARISONS = [operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne]


def operands(random: np.random.Generator, dtype: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Two arrays of a dtype; the second one without zeros, which NumPy warns of."""
    if np.dtype(dtype).kind == "f":
        return random.normal(size=SIZE).astype(dtype), random.normal(size=SIZE).astype(dtype) + 10
    low = 0 if np.dtype(dtype).kind == "u" else -100
    left = random.integers(low, 100, size=SIZE).astype(dtype)
    return left, random.integers(1, 100, size=SIZE).astype(dtype)


@pytest.mark.parametrize("apply", ARITHMETIC + COMPARISONS)
@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "uint8", "uint64", "float32", "float64"])
def test_operators_give_what_numpy_gives(
    cluster: hc.Cluster, apply: Any, dtype: str, random: np.random.Generator
) -> None:
    x, y = operands(random, dtype)
    a = cluster.from_numpy(x, shard_elems=1 << 14)
    b = cluster.from_numpy(y, like=a)
    if apply is operator.truediv and np.dtype(dtype).kind in "iu":
        # NumPy divides 8-bit integers in float16; we divide all integers in float64.
        x = x.astype("float64")
    for found, expected in [(apply(a, b), apply(x, y)), (apply(a, 3), apply(x, 3))]:
        computed = found.compute()
        assert computed.dtype == expected.dtype
        np.testing.assert_array_equal(computed, expected)


@pytest.mark.parametrize("apply", BITWISE)
@pytest.mark.parametrize("dtype", ["bool", "int16", "uint64"])
def test_bitwise_operators_give_what_numpy_gives(
    cluster: hc.Cluster, apply: Any, dtype: str, random: np.random.Generator
) -> None:
    x, y = (random.integers(0, 2, size=SIZE).astype(dtype) for _ in "xy")
    a = cluster.from_numpy(x)
    b = cluster.from_numpy(y, like=a)
    np.testing.assert_array_equal(apply(a, b).compute(), apply(x, y))
    np.testing.assert_array_equal((~a).compute(), ~x)


@pytest.mark.parametrize("name", ["sqrt", "exp", "log", "sin", "cos", "tanh", "abs", "floor", "ceil", "trunc", "rint"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_functions_give_what_numpy_gives(
    cluster: hc.Cluster, name: str, dtype: str, random: np.random.Generator
) -> None:
    x = (random.random(SIZE) * 20 + 0.01).astype(dtype)
    found = getattr(hc, name)(cluster.from_numpy(x)).compute()
    assert found.dtype == x.dtype
    np.testing.assert_allclose(found, getattr(np, name)(x), rtol=4 * np.finfo(dtype).eps, atol=4 * np.finfo(dtype).eps)


def test_where_minimum_and_maximum_choose_as_numpy_does(cluster: hc.Cluster, random: np.random.Generator) -> None:
    x, y = random.normal(size=(2, SIZE))
    a = cluster.from_numpy(x)
    b = cluster.from_numpy(y, like=a)
    np.testing.assert_array_equal(hc.where(a > b, a, -1).compute(), np.where(x > y, x, -1))
    np.testing.assert_array_equal(hc.minimum(a, b).compute(), np.minimum(x, y))
    np.testing.assert_array_equal(np.maximum(a, 0).compute(), np.maximum(x, 0))


def test_casts_are_numpys(cluster: hc.Cluster) -> None:
    x = np.array([0.0, 1.9, -1.9, 100.5])
    a = cluster.from_numpy(x)
    for dtype in ("int32", "float32", "bool", "int64"):
        found = a.astype(dtype).compute()
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, x.astype(dtype))


@pytest.mark.parametrize("dtype", ["bool", "int8", "int64", "uint16", "float32", "float64"])
def test_reductions_give_what_numpy_gives(cluster: hc.Cluster, dtype: str, random: np.random.Generator) -> None:
    x = random.integers(0, 3, size=SIZE).astype(dtype)
    a = cluster.from_numpy(x, shard_elems=7_000)
    for name in ("sum", "min", "max"):
        found, expected = getattr(a, name)().compute(), getattr(x, name)()
        assert found.dtype == expected.dtype, name
        assert found == expected, name
    assert a.mean().item() == pytest.approx(x.mean(dtype="float64"), rel=1e-6)
    assert a.any().item() is True
    assert a.all().item() is bool(x.all())
    assert (a.astype("int64") + 1).prod().item() == np.prod(x.astype("int64") + 1)


def test_integer_sums_wrap_and_float_sums_are_exact_to_rounding(cluster: hc.Cluster) -> None:
    big = cluster.full(4, (1 << 62), "int64")
    assert big.sum().item() == 0
    x = np.full(100_000, 0.1)
    assert cluster.from_numpy(x).sum().item() == pytest.approx(10_000, rel=1e-12)


def test_nothing_has_no_smallest_element(cluster: hc.Cluster) -> None:
    assert cluster.zeros(0).sum().item() == 0
    with pytest.raises(hc.HoloError, match="empty"):
        cluster.zeros(0).min().item()


def test_results_are_stored_under_a_name(cluster: hc.Cluster) -> None:
    a = cluster.arange(1000, dtype="float64")
    stored = hc.sqrt(a * a + 1).store("tests/stored")
    expected = np.sqrt(np.arange(1000.0) ** 2 + 1)
    np.testing.assert_allclose(stored.to_numpy(), expected)
    np.testing.assert_allclose(cluster.open("tests/stored")[10:20], expected[10:20])
    cluster.remove(stored)


def test_lazy_values_are_assigned_and_updated_in_place(cluster: hc.Cluster) -> None:
    a = cluster.arange(100)
    b = cluster.zeros(100, "float32")
    b[...] = a * 2
    np.testing.assert_array_equal(b.to_numpy(), np.arange(100, dtype="float32") * 2)
    a += 1
    a *= a
    np.testing.assert_array_equal(a.to_numpy(), (np.arange(100) + 1) ** 2)
    with pytest.raises(TypeError, match="float64"):
        a += 0.5
    with pytest.raises(hc.NotSupported):
        a[:10] = a * 2
    with pytest.raises(hc.NotSupported, match="slicing an expression"):
        (a * 2)[3:6]
    with pytest.raises(hc.NotSupported, match="writing to an expression"):
        (a * 2)[3:6] = 1


def test_small_numpy_operands_are_shipped(cluster: hc.Cluster) -> None:
    a = cluster.arange(1000)
    y = np.arange(1000)[::-1]
    np.testing.assert_array_equal((a + y).compute(), np.arange(1000) + y)
    np.testing.assert_array_equal((y - a).compute(), y - np.arange(1000))


def test_arrays_of_one_shape_meet_and_others_can_be_brought_together(cluster: hc.Cluster) -> None:
    x, y = np.arange(40_000.0), np.ones(40_000)
    a = cluster.from_numpy(x)
    b = cluster.from_numpy(y)
    np.testing.assert_array_equal((a + b).compute(), x + y)
    far = cluster.from_numpy(y, shard_elems=10_000)
    with pytest.raises(hc.HoloError) as apart:
        (a + far).compute()
    assert apart.value.code == "HC1007"
    np.testing.assert_array_equal((a + far.copy(like=a)).compute(), x + y)


def test_text_runs_too(cluster: hc.Cluster) -> None:
    a = cluster.arange(10)
    out = cluster.zeros(10, "int64")
    assert cluster.run("y = x*x + i", x=a, out=out) is out
    np.testing.assert_array_equal(out.to_numpy(), np.arange(10) ** 2 + np.arange(10))
    assert cluster.run("sum(x)", x=a) == 45
    with pytest.raises(hc.HoloError) as refused:
        cluster.run("sum(x + yy)", x=a)
    assert refused.value.code == "HC1005"


def test_a_result_that_would_flood_this_process_is_refused_before_it_is_computed(cluster: hc.Cluster) -> None:
    huge = cluster.zeros(1 << 30, "int8", name="tests/huge")
    before = {array.name for array in cluster.arrays()}
    with pytest.raises(hc.HoloError, match="limit=None"):
        (huge + 1).compute()
    assert {array.name for array in cluster.arrays()} <= before
    cluster.remove(huge)


def test_bytes_that_are_no_module_are_refused(cluster: hc.Cluster) -> None:
    with pytest.raises(hc.HoloError) as refused:
        cluster.run_module(b"nonsense", [cluster.zeros(3)])
    assert refused.value.code == "HC1602"
