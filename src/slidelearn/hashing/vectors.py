"""What a hash family is, and the vectors that it takes: dense float32 or CSR, in blocks of rows."""

from collections.abc import Iterator
from typing import Any, Protocol, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from slidelearn.errors import ConfigError, DataError

__all__ = ["HashFamily", "Vectors", "as_csr", "check_range", "check_vectors", "row_blocks"]

# A float32 array or a SciPy CSR matrix (n, d); SciPy comes without types, so a union says no more.
Vectors: TypeAlias = Any

_BLOCK_BYTES = 8 << 20  # what one block of rows may produce: small enough to stay near the cache


class HashFamily(Protocol):
    """Maps vectors to K hashes in each of L tables, and these to one bucket in each table.

    Vectors are a float32 array or a SciPy CSR matrix of shape (n, n_features).
    """

    @property
    def n_features(self) -> int:
        """Width of the vectors."""

    @property
    def n_tables(self) -> int:
        """Number of tables, L."""

    @property
    def n_buckets(self) -> int:
        """Number of buckets in each table."""

    def hashes(self, V: Vectors) -> NDArray[np.int32]:
        """Raw hashes of each vector, int32 (n, L, K); -1 where a sparse vector gives none."""

    def codes(self, V: Vectors) -> NDArray[np.int32]:
        """Bucket of each vector in each table, int32 (n, L)."""

    def probes(
        self, V: Vectors, n_probes: int, filled: NDArray[np.int32] | None = None
    ) -> NDArray[np.int32]:
        """Distinct buckets to look into, best first, int32 (n, L, n_probes).

        The first is the code, but of centroids, where queries look elsewhere than neurons are
        filed. A family that runs out of buckets worth a look ends with -1; it may pass over those
        that hold no neuron, where ``filled`` tells, see `slidelearn.tables.Tables`.
        """

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything that `from_arrays` needs to restore this family."""

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> Self:
        """Restore a family from what `arrays` returned."""


def check_vectors(V: Vectors, n_features: int) -> Vectors:
    """Bring vectors to C-contiguous float32 or canonical float32 CSR; copy only if needed.

    Raises
    ------
    DataError
        If the vectors are not a table of ``n_features`` columns.
    """
    if len(V.shape) != 2 or V.shape[1] != n_features:
        raise DataError(f"vectors have shape {V.shape}, this hash family takes (n, {n_features})")
    if not sparse.issparse(V):
        return np.ascontiguousarray(V, dtype=np.float32)
    rows = sparse.csr_array(V, dtype=np.float32)
    if not rows.has_canonical_format:
        rows = rows.copy()
        rows.sum_duplicates()
    return rows


def as_csr(V: Vectors) -> sparse.csr_array:
    """Return checked vectors as CSR: what a kernel for sparse rows takes."""
    return V if sparse.issparse(V) else sparse.csr_array(V)


def row_blocks(n_rows: int, values_per_row: int) -> Iterator[slice]:
    """Cut rows into blocks whose 4-byte results take a few MiB."""
    step = max(1, _BLOCK_BYTES // (4 * max(1, values_per_row)))
    for start in range(0, n_rows, step):
        yield slice(start, min(start + step, n_rows))


def check_range(name: str, value: int | float, least: int | float, most: int | float) -> None:
    """Refuse a setting outside of ``[least, most]``.

    Raises
    ------
    ConfigError
        Naming the setting, its value and the range.
    """
    if not least <= value <= most:
        raise ConfigError(f"{name} is {value}, choose a value from {least} to {most}")
