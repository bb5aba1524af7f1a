"""Functions of lazy values, and what NumPy's own functions do with them."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from holocompute._errors import NotSupported
from holocompute._lazy import Call, Lazy, Reduction, Unary, binary
from holocompute._values import INSTEAD

__all__ = [
    "abs",
    "ceil",
    "cos",
    "exp",
    "floor",
    "log",
    "maximum",
    "minimum",
    "rint",
    "sin",
    "sqrt",
    "tanh",
    "trunc",
    "where",
]


def sqrt(x: Lazy) -> Lazy:
    """Square root."""
    return Call("sqrt", x)


def exp(x: Lazy) -> Lazy:
    """e to the power of x."""
    return Call("exp", x)


def log(x: Lazy) -> Lazy:
    """Natural logarithm."""
    return Call("log", x)


def sin(x: Lazy) -> Lazy:
    """Sine of radians."""
    return Call("sin", x)


def cos(x: Lazy) -> Lazy:
    """Cosine of radians."""
    return Call("cos", x)


def tanh(x: Lazy) -> Lazy:
    """Hyperbolic tangent."""
    return Call("tanh", x)


def abs(x: Lazy) -> Lazy:
    """Absolute value."""
    return Call("abs", x)


def floor(x: Lazy) -> Lazy:
    """Largest integer below, as a float."""
    return Call("floor", x)


def ceil(x: Lazy) -> Lazy:
    """Smallest integer above, as a float."""
    return Call("ceil", x)


def trunc(x: Lazy) -> Lazy:
    """Cut towards zero, as a float."""
    return Call("trunc", x)


def rint(x: Lazy) -> Lazy:
    """Nearest integer, ties to the even one, as a float."""
    return Call("round", x)


def minimum(x: Any, y: Any) -> Lazy:
    """The smaller of two, element by element; NaN wins."""
    return Call("minimum", x, y)


def maximum(x: Any, y: Any) -> Lazy:
    """The larger of two, element by element; NaN wins."""
    return Call("maximum", x, y)


def where(condition: Any, x: Any, y: Any) -> Lazy:
    """``x`` where the condition is true, ``y`` elsewhere."""
    return Call("where", condition, x, y)


_BINARY = {
    np.add: "+",
    np.subtract: "-",
    np.multiply: "*",
    np.true_divide: "/",
    np.floor_divide: "//",
    np.remainder: "%",
    np.power: "**",
    np.bitwise_and: "&",
    np.bitwise_or: "|",
    np.bitwise_xor: "^",
    np.left_shift: "<<",
    np.right_shift: ">>",
    np.equal: "==",
    np.not_equal: "!=",
    np.less: "<",
    np.less_equal: "<=",
    np.greater: ">",
    np.greater_equal: ">=",
}

_CALLS = {
    np.sqrt: "sqrt",
    np.exp: "exp",
    np.log: "log",
    np.sin: "sin",
    np.cos: "cos",
    np.tanh: "tanh",
    np.absolute: "abs",
    np.floor: "floor",
    np.ceil: "ceil",
    np.trunc: "trunc",
    np.rint: "round",
    np.minimum: "minimum",
    np.maximum: "maximum",
}

_UFUNC_INSTEAD = {
    "tan": "hc.sin(x) / hc.cos(x)",
    "log2": "hc.log(x) / math.log(2)",
    "log10": "hc.log(x) / math.log(10)",
    "log1p": "hc.log(x + 1)",
    "expm1": "hc.exp(x) - 1",
    "isnan": "x != x",
    "isfinite": "(x - x) == 0",
    "sign": "hc.where(x > 0, 1, hc.where(x < 0, -1, 0))",
    "reciprocal": "1 / x",
    "fabs": "hc.abs(x)",
    "sinh": "(hc.exp(x) - hc.exp(-x)) / 2",
    "cosh": "(hc.exp(x) + hc.exp(-x)) / 2",
    "logical_and": "x & y on bool arrays",
    "logical_or": "x | y on bool arrays",
    "logical_not": "~x on bool arrays",
    "matmul": "(a * b).sum() for vectors, or a WASM module",
}

_KNOWN = "sqrt, exp, log, sin, cos, tanh, abs, floor, ceil, trunc, rint, minimum, maximum, where"


def apply_ufunc(ufunc: np.ufunc, inputs: tuple[Any, ...]) -> Lazy:
    """A NumPy ufunc of lazy values."""
    if ufunc in _BINARY:
        return binary(_BINARY[ufunc], *inputs)
    if ufunc in _CALLS:
        return Call(_CALLS[ufunc], *inputs)
    if ufunc is np.negative:
        return Unary("-", inputs[0])
    if ufunc is np.invert:
        return Unary("~", inputs[0])
    if ufunc is np.square:
        return binary("*", inputs[0], inputs[0])
    name = ufunc.__name__
    refuse(f"numpy.{name}", _UFUNC_INSTEAD.get(name, f"one of {_KNOWN}, or read slices with a[...]"))


_NO_VALUE = getattr(np, "_NoValue", None)

_REDUCTIONS = {
    np.sum: "sum",
    np.prod: "prod",
    np.min: "min",
    np.max: "max",
    np.mean: "mean",
    np.any: "any",
    np.all: "all",
}

_FUNCTION_INSTEAD = {
    "concatenate": "create the longer array and write both parts as slices",
    "stack": "create the larger array and write the parts as slices",
    "dot": "(a * b).sum()",
    "vdot": "(a * b).sum()",
    "std": "math.sqrt(((a - m) * (a - m)).mean().item()) with m = a.mean().item()",
    "var": "((a - m) * (a - m)).mean() with m = a.mean().item()",
    "clip": "hc.minimum(hc.maximum(a, low), high)",
    "zeros_like": "cluster.zeros(a.shape, a.dtype, like=a)",
    "ones_like": "cluster.ones(a.shape, a.dtype, like=a)",
    "full_like": "cluster.full(a.shape, value, a.dtype, like=a)",
    "allclose": "(hc.abs(a - b) > tolerance).any()",
    "array_equal": "(a == b).all()",
}


def apply_function(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A NumPy function of lazy values."""
    # NumPy fills in its own marker where the caller said nothing.
    given = {key: value for key, value in kwargs.items() if value is not _NO_VALUE}
    if function in _REDUCTIONS and len(args) == 1 and not set(given) - {"axis"}:
        return Reduction(_REDUCTIONS[function], args[0], given.get("axis"))
    if function is np.where and len(args) == 3 and not given:
        return where(*args)
    if function is np.shape:
        return args[0].shape
    if function is np.ndim:
        return args[0].ndim
    if function is np.size and len(args) == 1:
        return args[0].size
    name = getattr(function, "__name__", str(function))
    instead = _FUNCTION_INSTEAD.get(name) or INSTEAD.get(name) or "a.to_numpy(), or slices a[...], first"
    refuse(f"numpy.{name}", instead)


def refuse(what: str, instead: str) -> NoReturn:
    """Says what to use instead."""
    raise NotSupported(f"{what} on a distributed array", instead)
