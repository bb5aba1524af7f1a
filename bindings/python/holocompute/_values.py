"""Numbers, dtypes and limits: what needs no array."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np

from holocompute._errors import HoloError, NotSupported

#: Bytes that land in this process without being asked for by name.
IMPLICIT_BYTES_MAX = 256 << 20
#: Bytes of a NumPy operand that are sent to the nodes without being asked for by name.
SHIPPED_BYTES_MAX = 4 << 20
#: Bytes of an expression's text that the nodes accept.
TEXT_BYTES_MAX = 16 << 10
#: Operations of an expression that the nodes accept.
OPERATIONS_MAX = 1024
#: Characters of an expression above which it becomes a statement of its own.
LINE_CHARS_MAX = 100

DTYPES = (
    *(np.dtype(kind) for kind in (np.bool_, np.int8, np.int16, np.int32, np.int64)),
    *(np.dtype(kind) for kind in (np.uint8, np.uint16, np.uint32, np.uint64, np.float32, np.float64)),
)

#: What to use instead of NumPy's methods that there are not.
INSTEAD = {
    "T": "read it with to_numpy() and transpose there",
    "transpose": "read it with to_numpy() and transpose there",
    "reshape": "create an array of the other shape and write slices into it",
    "ravel": "flat C-order elements are what slices of a 1-d array give",
    "flatten": "to_numpy().ravel()",
    "dot": "use (a * b).sum() for vectors",
    "argmax": "read the maximum with max() and compare: (a == m)",
    "argmin": "read the minimum with min() and compare: (a == m)",
    "cumsum": "read slices and use numpy.cumsum on them",
    "cumprod": "read slices and use numpy.cumprod on them",
    "sort": "read slices and use numpy.sort on them",
    "std": "math.sqrt(((a - m) * (a - m)).mean().item()) with m = a.mean().item()",
    "var": "((a - m) * (a - m)).mean() with m = a.mean().item()",
    "tolist": "to_numpy().tolist()",
    "round": "holocompute.rint(a)",
    "clip": "hc.minimum(hc.maximum(a, low), high)",
    "nonzero": "read slices and use numpy.nonzero on them",
    "tobytes": "to_numpy().tobytes()",
    "view": "astype converts values; the bits of an array cannot be viewed as another dtype",
}


def literal(value: Any) -> str:
    """A number as text. Python's own numbers adapt to the other operand's dtype, as in NumPy 2."""
    if isinstance(value, np.ndarray):
        value = value[()]
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    if isinstance(value, np.generic):
        return f"{check_dtype(value.dtype).name}({literal(value.item())})"
    if isinstance(value, numbers.Integral):
        text = str(int(value))
    elif isinstance(value, numbers.Real):
        text = repr(float(value))
    else:
        raise NotSupported(f"an operand of {type(value).__name__}", "use numbers or arrays of numbers")
    return f"({text})" if text.startswith("-") else text


def check_dtype(dtype: Any) -> np.dtype[Any]:
    """One of the dtypes that arrays may have, in the machine's byte order."""
    found: np.dtype[Any] = np.dtype(dtype).newbyteorder("=")
    if found not in DTYPES:
        known = ", ".join(known.name for known in DTYPES)
        raise NotSupported(f"dtype {np.dtype(dtype)}", f"one of {known}")
    return found


def check_limit(nbytes: int, limit: int | None, what: str) -> None:
    """Keeps huge arrays from landing in this process by accident."""
    if limit is not None and nbytes > limit:
        raise HoloError(
            "HC1009",
            f"{what} has {readable(nbytes)}, more than the {readable(limit)} that may land here",
            "read slices, reduce it on the nodes, keep it there with store(), or pass limit=None",
        )


def shortened(text: str) -> str:
    """The beginning of a text, enough to recognise it."""
    text = text.replace("\n", "; ")
    return text if len(text) <= 200 else f"{text[:197]}..."


def readable(nbytes: float) -> str:
    """Bytes for people."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if nbytes < 1024:
            return f"{nbytes:.0f} {unit}" if unit == "B" else f"{nbytes:.1f} {unit}"
        nbytes /= 1024
    return f"{nbytes:.1f} TiB"
