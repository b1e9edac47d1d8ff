"""Centroids: the nearest of a few learned directions, a hash family that follows the data."""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import sparse

from slidelearn.errors import ConfigError
from slidelearn.hashing.vectors import Vectors, check_range, check_vectors, row_blocks
from slidelearn.workers import single_blas

__all__ = ["Centroids", "sample_size"]

# With 50 vectors, 6 rounds and 2 a fit takes five times as long, and trained output layers are
# searched no better: recall@5 of 0.960 on commits and 0.974 on calls both ways.
_PER_BUCKET = 6  # vectors that a bucket is learned from
_LEAST = 2048  # vectors that all are learned from, so that a few buckets have enough
_SPLIT_ROUNDS = 3  # of two means, in every split
_REFINE_ROUNDS = 1  # of all means together, after the splits


@dataclass(frozen=True, eq=False)
class Centroids:
    """The unit centroid with the largest inner product, in each of L independent clusterings.

    An inner product with unit centroids looks at the direction of a vector only. So a neuron and a
    query that point the same way share a bucket whatever their lengths are; by Euclidean distance
    a long query would prefer the longest centroids. The smaller bucket wins among equals. Scores
    that are equal up to rounding may swap with the number of rows that are hashed together,
    because a matrix product may add in another order.

    Parameters
    ----------
    centroids : float32 array of shape (L, n_buckets, n_features)
        Of length 1, or 0 for a bucket that nothing points to.

    Examples
    --------
    >>> import numpy as np
    >>> V = np.array([[1, 0], [2, 0.1], [0, 1], [0.1, 3]], dtype=np.float32)
    >>> family = Centroids.fit(V, n_buckets=2, l=1, seed=0)
    >>> codes = family.codes(V)[:, 0]
    >>> bool(codes[0] == codes[1] != codes[2] == codes[3])
    True
    """

    name: ClassVar[str] = "centroids"
    centroids: NDArray[np.float32]

    @classmethod
    def fit(
        cls,
        V: Vectors,
        *,
        n_buckets: int,
        l: int,  # noqa: E741
        seed: int,
    ) -> Self:
        """Learn centroids: balanced splits in two of a sample, then spherical k-means rounds.

        The splits cost little, since every level reads the sample a few times, and they leave all
        buckets equally full; the rounds trade a little of that balance for nearer neighbours.

        Parameters
        ----------
        V : float32 array or CSR matrix of shape (n, n_features)
            Vectors to learn from; `sample_size` of them are looked at.
        n_buckets : int
            Buckets per table, at most n.
        l : int
            Tables, each a clustering of its own sample.
        seed : int
            The same seed gives the same centroids, whatever the number of threads.

        Raises
        ------
        ConfigError
            If a setting is out of its range.
        """
        V = check_vectors(V, V.shape[-1])
        check_range("l", l, 1, 2**16)
        if not 1 <= n_buckets <= V.shape[0]:
            raise ConfigError(
                f"n_buckets is {n_buckets}, choose a value from 1 to the {V.shape[0]} vectors"
            )
        centroids = np.empty((l, n_buckets, V.shape[1]), np.float32)
        # One BLAS thread: the order of additions must not depend on the number of threads.
        with single_blas():
            for table, rng in enumerate(np.random.default_rng(seed).spawn(l)):
                sample = _unit_sample(V, sample_size(n_buckets), rng)
                centroids[table] = _split_evenly(sample, n_buckets, rng)
                for _ in range(_REFINE_ROUNDS):
                    centroids[table] = _refine(sample, centroids[table])
        return cls(centroids)

    @property
    def n_features(self) -> int:
        """Width of the vectors."""
        return int(self.centroids.shape[2])

    @property
    def n_tables(self) -> int:
        """Number of tables, L."""
        return int(self.centroids.shape[0])

    @property
    def n_buckets(self) -> int:
        """Buckets per table."""
        return int(self.centroids.shape[1])

    def hashes(self, V: Vectors) -> NDArray[np.int32]:
        """Raw hashes, int32 (n, L, 1): the code itself, since a table has a single hash."""
        return self.probes(V, 1)

    def codes(self, V: Vectors) -> NDArray[np.int32]:
        """Bucket of each vector in each table, int32 (n, L)."""
        return self.probes(V, 1)[:, :, 0]

    def probes(self, V: Vectors, n_probes: int) -> NDArray[np.int32]:
        """Buckets to look into, int32 (n, L, n_probes): largest inner product first."""
        check_range("n_probes", n_probes, 1, self.n_buckets)
        V = check_vectors(V, self.n_features)
        out = np.empty((V.shape[0], self.n_tables, n_probes), np.int32)
        for table in range(self.n_tables):
            for rows in row_blocks(V.shape[0], self.n_buckets):
                _best_columns(V[rows] @ self.centroids[table].T, out[rows, table])
        return out

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything that `from_arrays` needs."""
        return {"centroids": self.centroids}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> Self:
        """Restore a family from what `arrays` returned."""
        return cls(arrays["centroids"])


def sample_size(n_buckets: int) -> int:
    """How many vectors are enough to learn the centroids of one table from.

    Examples
    --------
    >>> sample_size(8), sample_size(1000)
    (2048, 6000)
    """
    return max(n_buckets * _PER_BUCKET, _LEAST)


@njit(cache=True, nogil=True)
def _best_columns(scores: NDArray[np.float32], best: NDArray[np.int32]) -> None:
    """Write the P columns of (n, C) scores that are largest in each row, largest first.

    ``best`` is (n, P); the smaller column comes first among equals.
    """
    n_best = best.shape[1]
    for row in range(scores.shape[0]):
        found, worst = 0, np.float32(-np.inf)
        for column in range(scores.shape[1]):
            score = scores[row, column]
            if found == n_best and not score > worst:
                continue
            place = found if found < n_best else n_best - 1
            while place > 0 and score > scores[row, best[row, place - 1]]:
                best[row, place] = best[row, place - 1]
                place -= 1
            best[row, place] = column
            found = min(found + 1, n_best)
            worst = scores[row, best[row, found - 1]]


def _unit_sample(V: Vectors, size: int, rng: np.random.Generator) -> Vectors:
    """At most ``size`` random rows, scaled to length 1."""
    if size < V.shape[0]:
        V = V[np.sort(rng.choice(V.shape[0], size, replace=False))]
    if not sparse.issparse(V):
        return _unit_rows(V)
    lengths = np.sqrt(np.asarray(V.power(2).sum(axis=1)).ravel())
    scale = np.divide(1, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    values = V.data * np.repeat(scale, np.diff(V.indptr)).astype(np.float32)
    return sparse.csr_array((values, V.indices, V.indptr), shape=V.shape)


def _unit_rows(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows, or one row, scaled to length 1; zeros stay."""
    lengths = np.sqrt(np.einsum("...i,...i->...", rows, rows))[..., None]
    return rows / np.maximum(lengths, np.finfo(np.float32).tiny)  # type: ignore[no-any-return]


def _split_evenly(sample: Vectors, n_leaves: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Split (n, d) rows in two until ``n_leaves`` equal parts are left; their unit means."""
    means = np.empty((n_leaves, sample.shape[1]), np.float32)
    pending = [(np.arange(sample.shape[0]), 0, n_leaves)]
    while pending:
        members, first_leaf, leaves = pending.pop()
        # Only the rows of one part are ever copied, and never those of the whole.
        rows = sample if leaves == n_leaves else sample[members]
        if leaves == 1:
            means[first_leaf] = np.ones(rows.shape[0], np.float32) @ rows
            continue
        left_leaves = leaves // 2
        size = rows.shape[0] * left_leaves // leaves
        members = members[_two_means(rows, size, rng)]
        pending.append((members[:size], first_leaf, left_leaves))
        pending.append((members[size:], first_leaf + left_leaves, leaves - left_leaves))
    return _unit_rows(means)


def _two_means(rows: Vectors, size: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Order rows so that the first ``size`` of them are one cluster and the rest the other."""
    weights = np.zeros(rows.shape[0], np.float32)
    weights[rng.choice(rows.shape[0], 2, replace=False)] = 1, -1
    direction = weights @ rows
    total = np.ones_like(weights) @ rows
    for _ in range(_SPLIT_ROUNDS):
        order = np.argpartition(rows @ direction, size)
        weights[:] = 0
        weights[order[:size]] = 1
        left = weights @ rows
        direction = _unit_rows(total - left) - _unit_rows(left)
    return np.argpartition(rows @ direction, size)


def _refine(sample: Vectors, centroids: NDArray[np.float32]) -> NDArray[np.float32]:
    """One round of spherical k-means; a centroid that lost all its rows stays."""
    codes = Centroids(centroids[None]).codes(sample)[:, 0]
    n = sample.shape[0]
    members = sparse.csr_array(
        (np.ones(n, np.float32), (codes, np.arange(n))), shape=(len(centroids), n)
    )
    sums = members @ sample
    if sparse.issparse(sums):
        sums = sums.toarray()
    lost = np.bincount(codes, minlength=len(centroids)) == 0
    sums[lost] = centroids[lost]
    return _unit_rows(sums)
