"""HoloCompute: shared arrays on many machines, and programs that run beside them.

>>> import holocompute as hc
>>> with hc.local(3) as cluster:
...     a = cluster.arange(1_000_000, dtype="float64")
...     b = hc.sqrt(a * a + 1)
...     print(b.sum().item(), b.store("demo/b")[:3])

Slices are read into NumPy arrays and written from them; single elements are changed atomically, as in
``a.fetch_add(i, 1)``. Operators and functions are lazy: the nodes that hold the elements compute them when
``compute``, ``store``, ``item`` or an assignment asks for the result. An array gets two copies of every
element where two nodes are in service (``replicas=`` asks for more or fewer), so that no node takes data with it when
it dies. What distributed arrays cannot do raises :class:`NotSupported`, which names what to use instead.
"""

from holocompute._array import Array
from holocompute._cluster import Cluster, connect, local, sync
from holocompute._errors import HoloError, NotSupported
from holocompute._functions import (
    abs,
    ceil,
    cos,
    exp,
    floor,
    log,
    maximum,
    minimum,
    rint,
    sin,
    sqrt,
    tanh,
    trunc,
    where,
)
from holocompute._lazy import Lazy, Reduction
from holocompute._native import __version__

__all__ = [
    "Array",
    "Cluster",
    "HoloError",
    "Lazy",
    "NotSupported",
    "Reduction",
    "__version__",
    "abs",
    "ceil",
    "connect",
    "cos",
    "exp",
    "floor",
    "local",
    "log",
    "maximum",
    "minimum",
    "rint",
    "sin",
    "sqrt",
    "sync",
    "tanh",
    "trunc",
    "where",
]
