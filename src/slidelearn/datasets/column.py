"""A column: an array that grows while a file is read, in memory or, if it is large, in a file."""

import os
import tempfile
import weakref
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from slidelearn.errors import DataError
from slidelearn.machine import available_memory, read_by_page

__all__ = ["Column", "is_mapped", "memory_of_column"]

_SHARE = 8  # a file has three large columns, and training needs memory for a model, too


def memory_of_column() -> int | None:
    """Bytes up to which a column stays in memory: an eighth of what is free; None: any number."""
    free = available_memory()
    return None if free is None else free // _SHARE


def is_mapped(array: NDArray) -> bool:
    """Whether an array lies in a file, so that its pages take memory only as long as there is some.

    Examples
    --------
    >>> is_mapped(np.zeros(3))
    False
    """
    base: Any = array
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap):
            return True
        base = base.base
    return False


class Column:
    """A one-dimensional array that grows at its end.

    Beyond ``limit`` bytes it lives in a temporary file without a name, mapped into memory: the
    system then keeps as much of it in memory as it has to spare. The file is gone when nobody uses
    the array any more, whatever happens to the process. Its folder is the one that `tempfile`
    chooses, but /var/tmp instead of /tmp, which may be memory itself; TMPDIR decides if it is set.

    Parameters
    ----------
    dtype : dtype
        Of the items.
    limit : int, optional
        Bytes up to which it stays in memory; None for any number.

    Examples
    --------
    >>> column = Column(np.int32, limit=8)
    >>> column.reserve(3)
    >>> column.array[:3] = 1, 2, 3
    >>> column.finish(3).tolist(), is_mapped(column.array)
    ([1, 2, 3], True)
    """

    def __init__(self, dtype: DTypeLike, limit: int | None) -> None:
        """Begin empty, in memory."""
        self.array: NDArray = np.empty(0, dtype)
        self._limit = limit
        self._file: Any = None

    def reserve(self, size: int) -> None:
        """Make ``array`` hold ``size`` items at least, an eighth more than it did if it grows.

        Raises
        ------
        DataError
            If the disk of temporary files is full.
        """
        if size > self.array.size:
            self._resize(max(size, self.array.size * 9 // 8))

    def finish(self, size: int) -> NDArray:
        """Return the array with exactly ``size`` items, of which training takes some anywhere."""
        self._resize(size)
        if isinstance(self.array.base, np.memmap):
            read_by_page(self.array.base)
        return self.array

    def _resize(self, size: int) -> None:
        n_bytes = size * self.array.itemsize
        if self._file is None and (self._limit is None or n_bytes <= self._limit):
            # Growing in place moves memory pages instead of copying them where the system can.
            self.array.resize(size, refcheck=False)
        elif n_bytes:
            self._map(size, n_bytes)

    def _map(self, size: int, n_bytes: int) -> None:
        """Put the array into its file, at a new size."""
        before, folder = self.array, _folder()
        try:
            first = self._file is None
            if first:
                self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed with us
                weakref.finalize(self, self._file.close)
            _extend(self._file, n_bytes)
        except OSError as error:
            raise DataError(
                f"{folder}: no room for the data, which do not fit into memory "
                f"({error.strerror}); set TMPDIR to a folder on a larger disk"
            ) from None
        mapped = np.memmap(self._file, before.dtype, "r+", shape=(size,))
        self.array = mapped.view(np.ndarray)
        if first:
            self.array[: before.size] = before


def _folder() -> Path:
    if os.environ.get("TMPDIR") or not Path("/var/tmp").is_dir():
        return Path(tempfile.gettempdir())
    return Path("/var/tmp")


def _extend(file: Any, n_bytes: int) -> None:
    """Give a file its size, with room on the disk: a mapped write cannot say that it is full."""
    size = os.fstat(file.fileno()).st_size
    if n_bytes <= size:
        file.truncate(n_bytes)
    elif hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), size, n_bytes - size)
    else:
        file.seek(size)
        file.write(bytes(n_bytes - size))
        file.flush()
