"""MinHash: the least of the hashed features, for sets compared by their Jaccard similarity."""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numba import njit
from numpy.typing import NDArray

from slidelearn.hashing.mixing import mix32
from slidelearn.hashing.multiprobe import fold_probes
from slidelearn.hashing.vectors import Vectors, as_csr, check_range, check_vectors, row_blocks

__all__ = ["MinHash"]


@dataclass(frozen=True, eq=False)
class MinHash:
    """The feature that comes first in a random order: equal with the probability of Jaccard.

    Only which features are non-zero counts, not their values. A vector without a non-zero feature
    has hashes -1 and goes to bucket 0 of every table, which is kept for such vectors.

    Parameters
    ----------
    seeds : int64 array of shape (L * K,)
        One random order of the features per hash.
    shape : int64 array of 5
        n_features, L, K, number of buckets, seed.

    Examples
    --------
    >>> from scipy import sparse
    >>> family = MinHash.create(5, k=1, l=4, seed=0, bits=8)
    >>> V = sparse.csr_array([[1.0, 0, 3, 0, 0], [2.0, 0, 1, 0, 0], [0, 0, 0, 0, 0]])
    >>> codes = family.codes(V)
    >>> bool((codes[0] == codes[1]).all()), codes[2].tolist()
    (True, [0, 0, 0, 0])
    """

    name: ClassVar[str] = "minhash"
    seeds: NDArray[np.int64]
    shape: NDArray[np.int64]

    @classmethod
    def create(
        cls,
        n_features: int,
        *,
        k: int,
        l: int,  # noqa: E741
        seed: int,
        bits: int = 12,
    ) -> Self:
        """Draw orders of the features at random.

        Parameters
        ----------
        n_features : int
            Width of the vectors.
        k, l : int
            Hashes per table and tables.
        seed : int
            The same seed gives the same orders.
        bits : int
            A table has 2**bits buckets.

        Raises
        ------
        ConfigError
            If a setting is out of its range.
        """
        check_range("n_features", n_features, 1, 2**31 - 1)
        check_range("k", k, 1, 32)
        check_range("l", l, 1, 2**16)
        check_range("bits", bits, 1, 24)
        seeds = np.random.default_rng(seed).integers(0, 2**32, k * l)
        return cls(seeds, np.array([n_features, l, k, 1 << bits, seed], np.int64))

    @property
    def n_features(self) -> int:
        """Width of the vectors."""
        return int(self.shape[0])

    @property
    def n_tables(self) -> int:
        """Number of tables, L."""
        return int(self.shape[1])

    @property
    def n_hashes(self) -> int:
        """Hashes per table, K."""
        return int(self.shape[2])

    @property
    def n_buckets(self) -> int:
        """Buckets per table, 2**bits."""
        return int(self.shape[3])

    def hashes(self, V: Vectors) -> NDArray[np.int32]:
        """Raw hashes, the first feature in each order, int32 (n, L, K); -1 for an empty vector."""
        V = check_vectors(V, self.n_features)
        out = np.empty((V.shape[0], self.n_tables, self.n_hashes), np.int32)
        for rows in row_blocks(V.shape[0], 3 * len(self.seeds)):
            out[rows] = self._minima(V[rows])[0]
        return out

    def codes(self, V: Vectors) -> NDArray[np.int32]:
        """Bucket of each vector in each table, int32 (n, L)."""
        return self.probes(V, 1)[:, :, 0]

    def probes(
        self, V: Vectors, n_probes: int, filled: NDArray[np.int32] | None = None
    ) -> NDArray[np.int32]:
        """Buckets to look into, int32 (n, L, n_probes): as if some first features were missing.

        Fewest features missing come first. Ends with -1 where the vector has too few features.
        """
        check_range("n_probes", n_probes, 1, self.n_buckets)
        V = check_vectors(V, self.n_features)
        out = np.empty((V.shape[0], self.n_tables, n_probes), np.int32)
        for rows in row_blocks(V.shape[0], 3 * len(self.seeds)):
            first, second = self._minima(V[rows])
            costs = np.where(second >= 0, np.float32(1), np.float32(np.inf))
            fold_probes(first, second, costs, int(self.shape[4]), self.n_buckets, out[rows])
        return out

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything that `from_arrays` needs."""
        return {"seeds": self.seeds, "shape": self.shape}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> Self:
        """Restore a family from what `arrays` returned."""
        return cls(arrays["seeds"], arrays["shape"])

    def _minima(self, V: Vectors) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """First and second feature in each order, each (n, L, K)."""
        rows = as_csr(V)
        hashes = (rows.shape[0], len(self.seeds))
        first, second = np.empty(hashes, np.int32), np.empty(hashes, np.int32)
        _find_minima((rows.indptr, rows.indices, rows.data), self.seeds, first, second)
        tables = (rows.shape[0], self.n_tables, self.n_hashes)
        return first.reshape(tables), second.reshape(tables)


@njit(cache=True, nogil=True)
def _find_minima(
    rows: tuple[NDArray[np.integer], NDArray[np.integer], NDArray[np.float32]],
    seeds: NDArray[np.int64],
    first: NDArray[np.int32],
    second: NDArray[np.int32],
) -> None:
    """Find the two features of every CSR row that come first in each random order.

    Writes (n, K * L) features, -1 for none.
    """
    indptr, indices, values = rows
    n_hashes = len(seeds)
    least = np.empty(n_hashes, np.int64)
    runner_up = np.empty(n_hashes, np.int64)
    first[:] = -1
    second[:] = -1
    for row in range(first.shape[0]):
        least[:] = 1 << 32  # above every rank
        runner_up[:] = 1 << 32
        for j in range(indptr[row], indptr[row + 1]):
            if values[j] == 0:
                continue
            for h in range(n_hashes):
                # One to one for each seed, so no two features share a rank.
                rank = mix32(np.int64(indices[j]) ^ seeds[h])
                if rank < least[h]:
                    runner_up[h], second[row, h] = least[h], first[row, h]
                    least[h], first[row, h] = rank, indices[j]
                elif rank < runner_up[h]:
                    runner_up[h], second[row, h] = rank, indices[j]
