"""What operators and functions build: text for the nodes, checked without any node."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import pytest
from stand_in import StandInCluster, stand_in

import holocompute as hc


def text(value: Any) -> str:
    return str(value._program()[0])


def test_operators_become_text() -> None:
    x = stand_in()
    assert text(x + 1) == "a0 + 1"
    assert text(1 - x) == "1 - a0"
    assert text((x + 1) * -x) == "(a0 + 1) * (-a0)"
    assert text(hc.sqrt(x * x + 1)) == "sqrt(((a0 * a0) + 1))"
    assert text(x**2 // 3 % 5) == "((a0 ** 2) // 3) % 5"
    assert text(hc.where(x > 0, x, -1.5)) == "where((a0 > 0), a0, (-1.5))"
    assert text(x.astype("int32")) == "int32(a0)"
    assert text(abs(x)) == "abs(a0)"
    assert text(x.sum()) == "sum(a0)"
    assert text((x > 1).any()) == "max(bool((a0 > 1)))"
    assert text(x.mean()) == "sum(float64(a0))"


def test_an_array_has_one_name_however_often_it_is_used() -> None:
    x, y = stand_in(name="x"), stand_in(name="y")
    program, arrays = (x * y + x)._program()
    assert program == "(a0 * a1) + a0"
    assert [(name, array.name) for name, array in arrays] == [("a0", "x"), ("a1", "y")]


def test_what_is_used_twice_is_written_once() -> None:
    value = stand_in()
    for _ in range(60):
        value = value + value
    program = text(value)
    assert len(program) < 2000, "doubling 60 times must not double the text 60 times"
    assert value.dtype == np.float64


def test_long_chains_neither_nest_nor_recurse() -> None:
    value = stand_in()
    for step in range(300):
        value = value * 2 + step
    assert value.dtype == np.float64


def test_an_expression_that_is_too_long_says_what_to_do() -> None:
    value = stand_in()
    for step in range(4000):
        value = value + step
    with pytest.raises(hc.HoloError, match="store") as refused:
        value.compute()
    assert refused.value.code == "HC1009"
    assert "too many" in repr(value)


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


@pytest.mark.parametrize("left", DTYPES)
@pytest.mark.parametrize("right", DTYPES)
def test_sums_and_products_have_the_dtype_that_numpy_gives(left: str, right: str) -> None:
    if left == right == "bool":
        return
    a, b = stand_in(dtype=left), stand_in(dtype=right)
    expected = np.empty(1, left) * np.empty(1, right)
    assert (a + b).dtype == expected.dtype
    assert (a * b).dtype == expected.dtype
    assert (a < b).dtype == np.bool_


@pytest.mark.parametrize("dtype", DTYPES[1:])
def test_plain_numbers_adapt_as_in_numpy_2(dtype: str) -> None:
    x, like = stand_in(dtype=dtype), np.ones(1, dtype)
    for number in (1, 1.5):
        assert (x + number).dtype == (like + number).dtype
        assert (number * x).dtype == (number * like).dtype
    assert (x / 2).dtype == (like.astype("float64") / 2).dtype or dtype == "float32"
    assert (x + np.float64(1)).dtype == (like + np.float64(1)).dtype
    assert (x + np.int8(1)).dtype == (like + np.int8(1)).dtype


@pytest.mark.parametrize("dtype", DTYPES)
def test_reductions_have_the_dtype_that_numpy_gives(dtype: str) -> None:
    x, like = stand_in(dtype=dtype), np.ones(1, dtype)
    assert x.sum().dtype == like.sum().dtype
    assert x.prod().dtype == like.prod().dtype
    assert x.max().dtype == like.max().dtype
    assert x.mean().dtype == like.mean().dtype


def test_numpys_own_functions_build_the_same() -> None:
    x = stand_in()
    assert text(np.sqrt(x)) == "sqrt(a0)"
    assert text(np.add(1, x)) == "1 + a0"
    assert text(np.float32(2) * x) == "float32(2.0) * a0"
    assert text(np.where(x > 1, x, 0)) == "where((a0 > 1), a0, 0)"
    assert text(np.sum(x)) == "sum(a0)"
    assert text(np.negative(x)) == "-a0"
    assert text(np.square(x)) == "a0 * a0"


@pytest.mark.parametrize(
    "attempt",
    [
        np.tan,
        np.cumsum,
        np.sort,
        np.concatenate,
        np.add.reduce,
        lambda x: np.allclose(x, x),
        np.fft.fft,
        lambda x: np.sum(x, axis=0),
        lambda x: np.add(x, 1, where=np.ones(10, bool)),
        lambda x: x @ x,
        lambda x: x.T,
        lambda x: x.reshape(2, 5),
        lambda x: x.sum(axis=0),
        lambda x: x.sum() + 1,
        lambda x: x + x.sum(),
        lambda x: x + np.ones(3),
        lambda x: x + np.ones((10, 1)),
        lambda x: x + stand_in(11),
        lambda x: x + 1j,
        lambda x: x.astype("complex64"),
        lambda x: list(x),
        lambda x: 3 in x,
        lambda x: x + np.zeros(10, "U3"),
    ],
)
def test_what_there_is_not_is_refused_with_advice(attempt: Any) -> None:
    with pytest.raises(hc.NotSupported) as refused:
        attempt(stand_in())
    assert refused.value.help, "it must say what to use instead"
    assert refused.value.code == "HC1801"
    assert isinstance(refused.value, NotImplementedError)


def test_a_missing_attribute_is_missing() -> None:
    assert not hasattr(stand_in(), "reshape")
    assert not hasattr(stand_in(), "no_such_thing")


def test_big_operands_are_not_uploaded_in_passing() -> None:
    with pytest.raises(hc.NotSupported, match="upload"):
        stand_in(1_000_000) + np.ones(1_000_000)


def test_truth_is_refused_where_it_is_ambiguous() -> None:
    with pytest.raises(ValueError, match="ambiguous"):
        bool(stand_in() > 1)


@pytest.mark.parametrize("compare", [operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne])
def test_comparisons_are_lazy_from_both_sides(compare: Any) -> None:
    x = stand_in()
    assert compare(x, 1).dtype == np.bool_
    assert compare(1, x).dtype == np.bool_


def test_reductions_ask_the_nodes_once_and_only_when_told_to() -> None:
    cluster = StandInCluster()
    total = (stand_in(dtype="int64", cluster=cluster) + 1).sum()
    repr(total)
    assert cluster.runs == []
    assert total.item() == 42
    assert cluster.runs == [("sum((a0 + 1))", ["x"])]


def test_means_of_nothing_are_what_numpy_says() -> None:
    assert np.isnan(stand_in(0).mean().item())
    assert stand_in(0).any().item() is False
    assert stand_in(0).all().item() is True


def test_reprs_say_what_it_is() -> None:
    x = stand_in((3, 4), name="demo/x")
    assert repr(x) == "<holocompute.Array 'demo/x' shape=(3, 4) float64, 96 B in 2 shards>"
    assert "a0 + 1" in repr(x + 1)
    assert "lazy" in repr(x.sum())
