"""DWTA: densified winner-take-all, for sparse activations compared by the order of their values."""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numba import njit
from numpy.typing import NDArray

from slidelearn.hashing.mixing import below, mix_pair
from slidelearn.hashing.multiprobe import fold_probes
from slidelearn.hashing.vectors import Vectors, as_csr, check_range, check_vectors, row_blocks

__all__ = ["DWTA"]

_MAX_ATTEMPTS = 100  # bins asked in vain before a hash stays absent


@dataclass(frozen=True, eq=False)
class DWTA:
    """Which of a few random features is the largest; empty bins borrow from others.

    Random permutations of the features are cut into bins of ``bin_size``. A hash is the place of
    the largest non-zero value in its bin (the smaller place among equals). A bin without a
    non-zero value borrows the hash of another bin, found by a universal hash of its number; a
    vector without a single hash goes to bucket 0 of every table, which is kept for such vectors.
    For vectors without zeros, two agree in a hash with the probability that the largest of
    ``bin_size`` features drawn at random is the same feature in both.

    Parameters
    ----------
    bins : int32 array of shape (n_features, n_permutations)
        The hash that a feature takes part in, -1 for none.
    places : int32 array of shape (n_features, n_permutations)
        Its place in that bin.
    shape : int64 array of 4
        L, K, number of buckets, seed.

    Examples
    --------
    >>> import numpy as np
    >>> family = DWTA.create(16, k=2, l=3, seed=0, bits=6, bin_size=4)
    >>> V = np.arange(32, dtype=np.float32).reshape(2, 16)
    >>> codes = family.codes(V)
    >>> codes.shape, bool((codes[0] == codes[1]).all())
    ((2, 3), True)
    """

    name: ClassVar[str] = "dwta"
    bins: NDArray[np.int32]
    places: NDArray[np.int32]
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
        bin_size: int = 8,
    ) -> Self:
        """Draw permutations at random.

        Parameters
        ----------
        n_features : int
            Width of the vectors.
        k, l : int
            Hashes per table and tables.
        seed : int
            The same seed gives the same permutations.
        bits : int
            A table has 2**bits buckets.
        bin_size : int
            Features in a bin: a large bin makes a selective hash, and an empty bin rarer.

        Raises
        ------
        ConfigError
            If a setting is out of its range.
        """
        check_range("n_features", n_features, 1, 2**31 - 1)
        check_range("k", k, 1, 32)
        check_range("l", l, 1, 2**16)
        check_range("bits", bits, 1, 24)
        check_range("bin_size", bin_size, 1, n_features)
        rng = np.random.default_rng(seed)
        per_permutation = n_features // bin_size
        n_permutations = -(-k * l // per_permutation)
        bins = np.full((n_features, n_permutations), -1, np.int32)
        places = np.zeros((n_features, n_permutations), np.int32)
        slots = np.arange(per_permutation * bin_size)
        for p in range(n_permutations):
            features = rng.permutation(n_features)[: len(slots)]
            hashes = p * per_permutation + slots // bin_size
            bins[features, p] = np.where(hashes < k * l, hashes, -1)
            places[features, p] = slots % bin_size
        return cls(bins, places, np.array([l, k, 1 << bits, seed], np.int64))

    @property
    def n_features(self) -> int:
        """Width of the vectors."""
        return int(self.bins.shape[0])

    @property
    def n_tables(self) -> int:
        """Number of tables, L."""
        return int(self.shape[0])

    @property
    def n_hashes(self) -> int:
        """Hashes per table, K."""
        return int(self.shape[1])

    @property
    def n_buckets(self) -> int:
        """Buckets per table, 2**bits."""
        return int(self.shape[2])

    def hashes(self, V: Vectors) -> NDArray[np.int32]:
        """Raw hashes, places of the winners, int32 (n, L, K); -1 where no bin could be asked."""
        V = check_vectors(V, self.n_features)
        out = np.empty((V.shape[0], self.n_tables, self.n_hashes), np.int32)
        for rows in row_blocks(V.shape[0], 3 * self.n_tables * self.n_hashes):
            out[rows] = self._winners(V[rows])[0]
        return out

    def codes(self, V: Vectors) -> NDArray[np.int32]:
        """Bucket of each vector in each table, int32 (n, L)."""
        return self.probes(V, 1)[:, :, 0]

    def probes(
        self, V: Vectors, n_probes: int, filled: NDArray[np.int32] | None = None
    ) -> NDArray[np.int32]:
        """Buckets to look into, int32 (n, L, n_probes): runners-up replace the closest winners.

        The cost of a bucket is the sum of the leads of the winners that it replaces. Ends with -1
        where the vector has too few runners-up.
        """
        check_range("n_probes", n_probes, 1, self.n_buckets)
        V = check_vectors(V, self.n_features)
        out = np.empty((V.shape[0], self.n_tables, n_probes), np.int32)
        for rows in row_blocks(V.shape[0], 3 * self.n_tables * self.n_hashes):
            first, second, leads = self._winners(V[rows])
            fold_probes(first, second, leads, int(self.shape[3]), self.n_buckets, out[rows])
        return out

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything that `from_arrays` needs."""
        return {"bins": self.bins, "places": self.places, "shape": self.shape}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> Self:
        """Restore a family from what `arrays` returned."""
        return cls(arrays["bins"], arrays["places"], arrays["shape"])

    def _winners(
        self, V: Vectors
    ) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]:
        """Winners, runners-up and the lead between them, each (n, L, K)."""
        rows = as_csr(V)
        hashes = (rows.shape[0], self.n_tables * self.n_hashes)
        first, second = np.empty(hashes, np.int32), np.empty(hashes, np.int32)
        leads = np.empty(hashes, np.float32)
        _find_winners(
            (rows.indptr, rows.indices, rows.data), self.bins, self.places, first, second, leads
        )
        _borrow(first, second, leads, int(self.shape[3]))
        tables = (rows.shape[0], self.n_tables, self.n_hashes)
        return first.reshape(tables), second.reshape(tables), leads.reshape(tables)


@njit(cache=True, nogil=True)
def _find_winners(
    rows: tuple[NDArray[np.integer], NDArray[np.integer], NDArray[np.float32]],
    bins: NDArray[np.int32],
    places: NDArray[np.int32],
    first: NDArray[np.int32],
    second: NDArray[np.int32],
    leads: NDArray[np.float32],
) -> None:
    """Find the two largest non-zero values of every bin of every CSR row.

    Writes (n, K * L) places, -1 for none, and leads, infinite without a runner-up.
    """
    indptr, indices, values = rows
    n_hashes = first.shape[1]
    best = np.empty(n_hashes, np.float32)
    runner_up = np.empty(n_hashes, np.float32)
    first[:] = -1
    second[:] = -1
    for row in range(first.shape[0]):
        for j in range(indptr[row], indptr[row + 1]):
            value, feature = values[j], indices[j]
            if value == 0:
                continue
            for p in range(bins.shape[1]):
                h, place = bins[feature, p], places[feature, p]
                if h < 0:
                    continue
                leader, next_best = first[row, h], second[row, h]
                # The smaller place wins among equals, so the order of a row does not matter.
                if leader < 0 or value > best[h] or (value == best[h] and place < leader):
                    runner_up[h], second[row, h] = best[h], leader
                    best[h], first[row, h] = value, place
                elif (
                    next_best < 0
                    or value > runner_up[h]
                    or (value == runner_up[h] and place < next_best)
                ):
                    runner_up[h], second[row, h] = value, place
        for h in range(n_hashes):
            leads[row, h] = best[h] - runner_up[h] if second[row, h] >= 0 else np.inf


@njit(cache=True, nogil=True)
def _borrow(
    first: NDArray[np.int32], second: NDArray[np.int32], leads: NDArray[np.float32], seed: int
) -> None:
    """Give every empty bin the hash of a bin that is not: densification.

    Which bins are asked depends on the bin and the seed only, so two vectors ask alike.
    """
    n_hashes = first.shape[1]
    filled = np.empty(n_hashes, np.bool_)
    for row in range(first.shape[0]):
        n_filled = 0
        for h in range(n_hashes):
            filled[h] = first[row, h] >= 0
            n_filled += filled[h]
        if n_filled == 0 or n_filled == n_hashes:
            continue
        for h in range(n_hashes):
            if filled[h]:
                continue
            for attempt in range(_MAX_ATTEMPTS):
                source = below(mix_pair(mix_pair(seed, h), attempt), n_hashes)
                if filled[source]:
                    first[row, h] = first[row, source]
                    second[row, h] = second[row, source]
                    leads[row, h] = leads[row, source]
                    break
