"""Lazy values: what operators and functions build, and what the nodes compute."""

from __future__ import annotations

import math
import numbers
from typing import TYPE_CHECKING, Any, NoReturn, cast

import numpy as np

from holocompute import _native
from holocompute._errors import HoloError, NotSupported, NotSupportedAttribute
from holocompute._values import (
    IMPLICIT_BYTES_MAX,
    INSTEAD,
    LINE_CHARS_MAX,
    OPERATIONS_MAX,
    SHIPPED_BYTES_MAX,
    TEXT_BYTES_MAX,
    check_dtype,
    check_limit,
    literal,
    readable,
    shortened,
)

if TYPE_CHECKING:
    from holocompute._array import Array
    from holocompute._cluster import Cluster


class Lazy:
    """What has a shape and a dtype and can be computed element by element on the nodes."""

    __slots__ = ("__weakref__",)
    __array_priority__ = 1000
    __hash__ = object.__hash__

    # Given by the subclasses.
    shape: tuple[int, ...]
    _cluster: Cluster

    _operands: tuple[Lazy, ...] = ()

    # -- description ---------------------------------------------------------------------------

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype, as NumPy 2 would promote it."""
        text, arrays = self._program()
        inputs = [(name, array.dtype.name) for name, array in arrays]
        return np.dtype(_native.expression_dtype(text, inputs))

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of an array without axes")
        return self.shape[0]

    def __repr__(self) -> str:
        try:
            text, arrays = self._program()
        except HoloError:
            return f"<holocompute.Expr of too many operations, shape={self.shape}, lazy>"
        where = ", ".join(f"{name}={array.name}" for name, array in arrays)
        return f"<holocompute.Expr {shortened(text)} with {where} shape={self.shape} {self.dtype}, lazy>"

    def _repr_html_(self) -> str:
        import html

        return f"<code>{html.escape(repr(self))}</code>"

    # -- results -------------------------------------------------------------------------------

    def compute(self, *, limit: int | None = IMPLICIT_BYTES_MAX, device: str = "auto") -> np.ndarray[Any, Any]:
        """Computes on the nodes and reads the result into this process.

        Args:
            limit: Bytes that the result may have; ``None`` for any number.
            device: ``"auto"``, ``"cpu"`` or ``"gpu"``.
        """
        check_limit(self.nbytes, limit, "this result")
        return self.store(device=device).to_numpy(limit=None)

    def to_numpy(self, *, limit: int | None = IMPLICIT_BYTES_MAX) -> np.ndarray[Any, Any]:
        """The elements in this process; the same as :meth:`compute`."""
        return self.compute(limit=limit)

    def store(self, name: str | None = None, *, out: Array | None = None, device: str = "auto") -> Array:
        """Computes on the nodes and leaves the result there.

        Args:
            name: Name of the array that is made; without one it lives as long as the handle.
            out: An array that exists, instead.
            device: ``"auto"``, ``"cpu"`` or ``"gpu"``.
        """
        text, arrays = self._program()
        if out is None:
            beside = arrays[0][1].name
            out = self._cluster._create(name, self.shape, self.dtype, like=beside)
        elif name is not None:
            raise TypeError("store() takes a name or an array, not both")
        elif out.shape != self.shape:
            raise ValueError(f"shape {self.shape} does not fit the array's {out.shape}")
        self._cluster._run(text, arrays, out, device)
        return out

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        if copy is False:
            raise ValueError("elements of a distributed array cannot be had without a copy")
        values = self.to_numpy()
        return values if dtype is None else values.astype(dtype, copy=False)

    def item(self) -> Any:
        """The value of an array with one element."""
        if self.size != 1:
            raise ValueError("item() needs an array with exactly one element")
        return self.to_numpy().reshape(()).item()

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ValueError("the truth of an array with several elements is ambiguous; use x.any() or x.all()")
        return bool(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __iter__(self) -> NoReturn:
        raise NotSupported("iterating over a distributed array", "iterate over to_numpy() or slices")

    def __contains__(self, value: object) -> NoReturn:
        raise NotSupported("`in` on a distributed array", "(a == value).any()")

    def __getitem__(self, key: Any) -> Any:
        raise NotSupported("slicing an expression", "compute() it, or store(name) it and slice the array")

    def __setitem__(self, key: Any, value: Any) -> None:
        raise NotSupported("writing to an expression", "store(name) it and write to the array")

    # -- reductions ----------------------------------------------------------------------------

    def sum(self, axis: None = None) -> Reduction:
        """Sum of all elements; integers wrap at 64 bits."""
        return Reduction("sum", self, axis)

    def prod(self, axis: None = None) -> Reduction:
        """Product of all elements; integers wrap at 64 bits."""
        return Reduction("prod", self, axis)

    def min(self, axis: None = None) -> Reduction:
        """The smallest element; NaN when there is one."""
        return Reduction("min", self, axis)

    def max(self, axis: None = None) -> Reduction:
        """The largest element; NaN when there is one."""
        return Reduction("max", self, axis)

    def mean(self, axis: None = None) -> Reduction:
        """Arithmetic mean of all elements, summed in float64."""
        return Reduction("mean", self, axis)

    def any(self, axis: None = None) -> Reduction:
        """Whether any element is not zero."""
        return Reduction("any", self, axis)

    def all(self, axis: None = None) -> Reduction:
        """Whether every element is not zero."""
        return Reduction("all", self, axis)

    # -- element by element --------------------------------------------------------------------

    def astype(self, dtype: Any) -> Lazy:
        """Every element converted: integers wrap, floats are cut towards zero."""
        return Call(check_dtype(dtype).name, self)

    def __add__(self, other: Any) -> Lazy:
        return binary("+", self, other)

    def __radd__(self, other: Any) -> Lazy:
        return binary("+", other, self)

    def __sub__(self, other: Any) -> Lazy:
        return binary("-", self, other)

    def __rsub__(self, other: Any) -> Lazy:
        return binary("-", other, self)

    def __mul__(self, other: Any) -> Lazy:
        return binary("*", self, other)

    def __rmul__(self, other: Any) -> Lazy:
        return binary("*", other, self)

    def __truediv__(self, other: Any) -> Lazy:
        return binary("/", self, other)

    def __rtruediv__(self, other: Any) -> Lazy:
        return binary("/", other, self)

    def __floordiv__(self, other: Any) -> Lazy:
        return binary("//", self, other)

    def __rfloordiv__(self, other: Any) -> Lazy:
        return binary("//", other, self)

    def __mod__(self, other: Any) -> Lazy:
        return binary("%", self, other)

    def __rmod__(self, other: Any) -> Lazy:
        return binary("%", other, self)

    def __pow__(self, other: Any) -> Lazy:
        return binary("**", self, other)

    def __rpow__(self, other: Any) -> Lazy:
        return binary("**", other, self)

    def __and__(self, other: Any) -> Lazy:
        return binary("&", self, other)

    def __rand__(self, other: Any) -> Lazy:
        return binary("&", other, self)

    def __or__(self, other: Any) -> Lazy:
        return binary("|", self, other)

    def __ror__(self, other: Any) -> Lazy:
        return binary("|", other, self)

    def __xor__(self, other: Any) -> Lazy:
        return binary("^", self, other)

    def __rxor__(self, other: Any) -> Lazy:
        return binary("^", other, self)

    def __lshift__(self, other: Any) -> Lazy:
        return binary("<<", self, other)

    def __rlshift__(self, other: Any) -> Lazy:
        return binary("<<", other, self)

    def __rshift__(self, other: Any) -> Lazy:
        return binary(">>", self, other)

    def __rrshift__(self, other: Any) -> Lazy:
        return binary(">>", other, self)

    def __lt__(self, other: Any) -> Lazy:
        return binary("<", self, other)

    def __le__(self, other: Any) -> Lazy:
        return binary("<=", self, other)

    def __gt__(self, other: Any) -> Lazy:
        return binary(">", self, other)

    def __ge__(self, other: Any) -> Lazy:
        return binary(">=", self, other)

    def __eq__(self, other: object) -> Lazy:  # type: ignore[override]
        return binary("==", self, other)

    def __ne__(self, other: object) -> Lazy:  # type: ignore[override]
        return binary("!=", self, other)

    def __neg__(self) -> Lazy:
        return Unary("-", self)

    def __pos__(self) -> Lazy:
        return self

    def __invert__(self) -> Lazy:
        return Unary("~", self)

    def __abs__(self) -> Lazy:
        return Call("abs", self)

    def __matmul__(self, other: Any) -> NoReturn:
        raise NotSupported("matrix multiplication", "(a * b).sum() for vectors, or a WASM module")

    __rmatmul__ = __matmul__

    def __getattr__(self, name: str) -> NoReturn:
        if name in INSTEAD:
            raise NotSupportedAttribute(f"{type(self).__name__}.{name}", INSTEAD[name])
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    # -- NumPy's own functions on our arrays ----------------------------------------------------

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        from holocompute import _functions

        if method != "__call__":
            instead = "sum(), prod(), min(), max() and mean() reduce whole arrays"
            raise NotSupported(f"numpy.{ufunc.__name__}.{method} on a distributed array", instead)
        out = kwargs.pop("out", None)
        if kwargs:
            instead = "convert with astype(), choose with hc.where()"
            raise NotSupported(f"{', '.join(kwargs)} in numpy.{ufunc.__name__}", instead)
        value = _functions.apply_ufunc(ufunc, inputs)
        if out is None:
            return value
        (target,) = out
        from holocompute._array import Array

        if not isinstance(target, Array):
            raise NotSupported("out= of another kind", "store(out=array), or compute()")
        target[...] = value
        return target

    def __array_function__(self, function: Any, types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        from holocompute import _functions

        return _functions.apply_function(function, args, kwargs)

    # -- text ----------------------------------------------------------------------------------

    def _program(self) -> tuple[str, list[tuple[str, Array]]]:
        return write_program(self)


class Const(Lazy):
    """One value, wherever an operand may stand."""

    __slots__ = ("shape", "text")

    def __init__(self, value: Any) -> None:
        self.text = literal(value)
        self.shape = ()


class Compound(Lazy):
    """A value computed from others."""

    __slots__ = ("_cluster", "_operands", "shape")

    def __init__(self, *operands: Lazy) -> None:
        arrays = [operand for operand in operands if not isinstance(operand, Const)]
        first = arrays[0]
        for other in arrays[1:]:
            if other._cluster is not first._cluster:
                raise ValueError("the arrays belong to different clusters")
            if other.shape != first.shape:
                raise NotSupported(
                    f"broadcasting shape {other.shape} to {first.shape}",
                    "operands have the same shape, or are single values",
                )
        self._operands = operands
        self._cluster = first._cluster
        self.shape = first.shape

    def _format(self, operands: list[str]) -> str:
        raise NotImplementedError


class Binary(Compound):
    """An operator between two operands."""

    __slots__ = ("_operator",)

    def __init__(self, operator: str, left: Lazy, right: Lazy) -> None:
        super().__init__(left, right)
        self._operator = operator

    def _format(self, operands: list[str]) -> str:
        return f"({operands[0]} {self._operator} {operands[1]})"


class Unary(Compound):
    """An operator before one operand."""

    __slots__ = ("_operator",)

    def __init__(self, operator: str, operand: Lazy) -> None:
        super().__init__(operand)
        self._operator = operator

    def _format(self, operands: list[str]) -> str:
        return f"({self._operator}{operands[0]})"


class Call(Compound):
    """A function of operands."""

    __slots__ = ("_function",)

    def __init__(self, function: str, *operands: Any) -> None:
        super().__init__(*as_operands(*operands))
        self._function = function

    def _format(self, operands: list[str]) -> str:
        return f"{self._function}({', '.join(operands)})"


def write_program(root: Lazy, function: str | None = None) -> tuple[str, list[tuple[str, Array]]]:
    """The text of a lazy value and the arrays that its names stand for.

    What is used twice or is long becomes a statement of its own, so the text grows with the number of operations and
    not with the number of paths through them, and nothing nests deeply.
    """
    order, uses = operations(root)
    texts: dict[int, str] = {}
    statements: list[str] = []
    arrays: list[tuple[str, Array]] = []
    names: dict[int, str] = {}
    for node in order:
        if isinstance(node, Const):
            text = node.text
        elif isinstance(node, Compound):
            text = node._format([texts[id(operand)] for operand in node._operands])
            if node is not root and (uses[id(node)] > 1 or len(text) > LINE_CHARS_MAX):
                statements.append(f"t{len(statements)} = {text}")
                text = f"t{len(statements) - 1}"
        else:
            array = cast("Array", node)
            if array._id not in names:
                names[array._id] = f"a{len(names)}"
                arrays.append((names[array._id], array))
            text = names[array._id]
        texts[id(node)] = text
    value = texts[id(root)]
    if function is not None:
        value = f"{function}({value})"
    elif isinstance(root, (Binary, Unary)):
        value = value[1:-1]
    # Lines, so that an error of the nodes' parser points into a short one.
    text = "\n".join([*statements, value])
    count = sum(isinstance(node, Compound) for node in order)
    if len(text) > TEXT_BYTES_MAX or count > OPERATIONS_MAX:
        raise HoloError(
            "HC1009",
            f"an expression of {count} operations",
            "store() a part of it and go on from there",
        )
    return text, arrays


def operations(root: Lazy) -> tuple[list[Lazy], dict[int, int]]:
    """Everything that a value needs, operands first, and how often each is used."""
    order: list[Lazy] = []
    uses: dict[int, int] = {}
    seen: set[int] = set()
    stack: list[tuple[Lazy, bool]] = [(root, False)]
    while stack:
        node, ready = stack.pop()
        if ready:
            order.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            for operand in node._operands:
                uses[id(operand)] = uses.get(id(operand), 0) + 1
                stack.append((operand, False))
    return order, uses


def first_array(value: Lazy) -> Array:
    """An array that a value is computed from."""
    return write_program(value)[1][0][1]


_OF_NOTHING = {"mean": math.nan, "any": False, "all": True}


class Reduction:
    """One value of all elements, computed by the nodes when it is asked for."""

    __slots__ = ("_kind", "_operand")

    def __init__(self, kind: str, operand: Lazy, axis: None) -> None:
        if axis is not None:
            raise NotSupported(f"{kind}(axis=...)", "reduce slices one by one, or the whole array")
        self._kind = kind
        self._operand = operand

    @property
    def shape(self) -> tuple[()]:
        """No axes."""
        return ()

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the value."""
        if self._kind in ("any", "all"):
            return np.dtype(np.bool_)
        if self._kind == "mean":
            element = self._operand.dtype
            return element if element == np.float32 else np.dtype(np.float64)
        text, arrays = self._program()
        return np.dtype(_native.expression_dtype(text, [(n, a.dtype.name) for n, a in arrays]))

    def compute(self, *, device: str = "auto") -> Any:
        """The value, as a NumPy scalar."""
        operand = self._operand
        if operand.size == 0 and self._kind in _OF_NOTHING:
            return self.dtype.type(_OF_NOTHING[self._kind])
        text, arrays = self._program()
        report = operand._cluster._run(text, arrays, None, device)
        value = np.frombuffer(report["value"], dtype=report["dtype"])[0]
        return self.dtype.type(value / operand.size) if self._kind == "mean" else value

    def item(self) -> Any:
        """The value, as a Python number."""
        return self.compute().item()

    def _program(self) -> tuple[str, list[tuple[str, Array]]]:
        if self._kind == "mean":
            return write_program(Call("float64", self._operand), "sum")
        if self._kind in ("any", "all"):
            return write_program(Call("bool", self._operand), "max" if self._kind == "any" else "min")
        return write_program(self._operand, self._kind)

    def __float__(self) -> float:
        return float(self.compute())

    def __int__(self) -> int:
        return int(self.compute())

    def __bool__(self) -> bool:
        return bool(self.compute())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        return np.asarray(self.compute(), dtype=dtype)

    def __repr__(self) -> str:
        text, arrays = self._program()
        where = ", ".join(f"{name}={array.name}" for name, array in arrays)
        return f"<holocompute.Reduction {shortened(text)} with {where}, lazy; .item() computes it>"

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a lazy {self._kind} has no attribute {name!r}; .item() computes it")

    def _refuse(self, *_other: Any) -> NoReturn:
        raise NotSupported("arithmetic with a lazy reduction", "compute it first: x.sum().item()")

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _refuse
    __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = _refuse
    __mod__ = __rmod__ = __pow__ = __rpow__ = __neg__ = __abs__ = _refuse
    __lt__ = __le__ = __gt__ = __ge__ = _refuse

    def __eq__(self, other: object) -> bool:
        self._refuse(other)

    __hash__ = object.__hash__
    __array_ufunc__ = None


def binary(operator: str, left: Any, right: Any) -> Lazy:
    """An operator between operands, at least one of them lazy."""
    return Binary(operator, *as_operands(left, right))


def as_operands(*values: Any) -> list[Lazy]:
    """Makes lazy values of numbers and small NumPy arrays beside lazy ones."""
    lazies = [value for value in values if isinstance(value, Lazy)]
    if not lazies:
        raise TypeError("at least one operand must be a holocompute array")
    return [as_operand(value, lazies[0]) for value in values]


def as_operand(value: Any, beside: Lazy) -> Lazy:
    """Makes a lazy value of one operand, near another one."""
    if isinstance(value, Lazy):
        return value
    if isinstance(value, Reduction):
        raise NotSupported("a lazy reduction as an operand", "compute it first: x.sum().item()")
    if isinstance(value, (numbers.Number, np.generic)) or np.ndim(value) == 0:
        return Const(value)
    values = np.asarray(value)
    check_dtype(values.dtype)
    if values.shape != beside.shape:
        raise NotSupported(
            f"broadcasting shape {values.shape} to {beside.shape}",
            "operands have the same shape, or are single values",
        )
    if values.nbytes > SHIPPED_BYTES_MAX:
        raise NotSupported(
            f"an implicit upload of {readable(values.nbytes)}",
            "put it on the nodes once with cluster.from_numpy(values, like=array)",
        )
    return beside._cluster.from_numpy(values, like=first_array(beside))
