"""Centroids: the nearest of a few learned points, a hash family that follows the data."""

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

# With 6 vectors and a round, the 64 best of 598 buckets held 67 % of the top 5 of commits, with 20
# and 3 rounds 88 %, with 70 and 4 rounds 93 %, at three times the cost of a fit.
_PER_BUCKET = 20  # vectors that a bucket is learned from
_LEAST = 2048  # vectors that all are learned from, so that a few buckets have enough
_SPLIT_ROUNDS = 3  # of two means, in every split
_REFINE_ROUNDS = 3  # of all means together, after the splits


@dataclass(frozen=True, eq=False)
class Centroids:
    """The nearest centroid in each of L independent clusterings.

    A vector is filed under the centroid at the least Euclidean distance. A query looks for large
    inner products, so it probes the buckets where it expects the largest: that with the centroid is
    the mean of those with the bucket's vectors, and one standard deviation is added for their
    spread. So the first probe of a vector need not be its own code. By direction alone, without
    lengths, 8 % of the rows of a layer with 482,580 neurons had to be read for 99 % of the top 5,
    now 0.1 %; of a layer with 44,658, 15 and 13 % for 90 %.

    The smaller bucket wins among equals. Scores that are equal up to rounding may swap with the
    number of rows that are hashed together, because a matrix product may add in another order.
    To rank groups of centroids first, and only those of the best groups, lost too much: 0.73 of the
    top 5 of a million planted rows instead of 0.85 where a fifth of the groups was opened.

    Parameters
    ----------
    centroids : float32 array of shape (L, n_buckets, n_features)
        Means of the buckets.
    radii : float32 array of shape (L, n_buckets)
        Standard deviation of a bucket's vectors in any direction.

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
    radii: NDArray[np.float32]

    @classmethod
    def fit(
        cls,
        V: Vectors,
        *,
        n_buckets: int,
        l: int,  # noqa: E741
        seed: int,
    ) -> Self:
        """Learn centroids: balanced splits in two of a sample, then k-means rounds.

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
        radii = np.zeros((l, n_buckets), np.float32)
        # One BLAS thread: the order of additions must not depend on the number of threads.
        with single_blas():
            for table, rng in enumerate(np.random.default_rng(seed).spawn(l)):
                sample = _sample(V, sample_size(n_buckets), rng)
                centroids[table] = _split_evenly(sample, n_buckets, rng)
                for _ in range(_REFINE_ROUNDS):
                    centroids[table], radii[table] = _refine(sample, centroids[table])
        return cls(centroids, radii)

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
        return self.codes(V)[:, :, None]

    def codes(self, V: Vectors) -> NDArray[np.int32]:
        """Bucket of each vector in each table, int32 (n, L)."""
        V = check_vectors(V, self.n_features)
        out = np.empty((V.shape[0], self.n_tables, 1), np.int32)
        half = np.full(V.shape[0], -0.5, np.float32)  # |v - c|^2 = |v|^2 - 2 (v.c - |c|^2 / 2)
        for table, centroids in enumerate(self.centroids):
            _best_products(V, centroids, half, _squares(centroids), out[:, table])
        return out[:, :, 0]

    def probes(self, V: Vectors, n_probes: int) -> NDArray[np.int32]:
        """Buckets to look into, int32 (n, L, n_probes): the largest expected inner product first.

        Raises
        ------
        ConfigError
            If there are fewer buckets.
        """
        check_range("n_probes", n_probes, 1, self.n_buckets)
        V = check_vectors(V, self.n_features)
        out = np.empty((V.shape[0], self.n_tables, n_probes), np.int32)
        lengths = np.sqrt(_squares(V))
        for table, centroids in enumerate(self.centroids):
            _best_products(V, centroids, lengths, self.radii[table], out[:, table])
        return out

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything that `from_arrays` needs."""
        return {"centroids": self.centroids, "radii": self.radii}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> Self:
        """Restore a family from what `arrays` returned."""
        return cls(arrays["centroids"], arrays["radii"])


def sample_size(n_buckets: int) -> int:
    """How many vectors are enough to learn the centroids of one table from.

    Examples
    --------
    >>> sample_size(8), sample_size(1000)
    (2048, 20000)
    """
    return max(n_buckets * _PER_BUCKET, _LEAST)


def _best_products(
    V: Vectors,
    centroids: NDArray[np.float32],
    factors: NDArray[np.float32],
    offsets: NDArray[np.float32],
    best: NDArray[np.int32],
) -> None:
    """Write the centroids (C, d) of the largest V (n, d) . c + factors (n,) * offsets (C,)."""
    for rows in row_blocks(V.shape[0], len(centroids)):
        _best_columns(V[rows] @ centroids.T, factors[rows], offsets, best[rows])


@njit(cache=True, nogil=True)
def _best_columns(
    scores: NDArray[np.float32],
    factors: NDArray[np.float32],
    offsets: NDArray[np.float32],
    best: NDArray[np.int32],
) -> None:
    """Write the P columns of (n, C) scores, plus factors (n,) times offsets (C,), that are largest.

    ``best`` is (n, P), largest first; the smaller column comes first among equals.
    """
    n_best = best.shape[1]
    keys = np.empty(n_best, np.float32)
    for row in range(len(scores)):
        found, worst = 0, np.float32(-np.inf)
        for column in range(scores.shape[1]):
            key = scores[row, column] + factors[row] * offsets[column]
            if found == n_best and not key > worst:
                continue
            place = found if found < n_best else n_best - 1
            while place > 0 and key > keys[place - 1]:
                keys[place], best[row, place] = keys[place - 1], best[row, place - 1]
                place -= 1
            keys[place], best[row, place] = key, column
            found = min(found + 1, n_best)
            worst = keys[found - 1]


def _squares(rows: Vectors) -> NDArray[np.float32]:
    """Squared length of every row, (n,)."""
    if sparse.issparse(rows):
        return np.asarray(rows.power(2).sum(axis=1), np.float32).ravel()
    return np.einsum("ij,ij->i", rows, rows)  # type: ignore[no-any-return]


def _sample(V: Vectors, size: int, rng: np.random.Generator) -> Vectors:
    """At most ``size`` random rows."""
    return V if size >= V.shape[0] else V[np.sort(rng.choice(V.shape[0], size, replace=False))]


def _split_evenly(sample: Vectors, n_leaves: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Split (n, d) rows in two until ``n_leaves`` equal parts are left; their means."""
    means = np.empty((n_leaves, sample.shape[1]), np.float32)
    pending = [(np.arange(sample.shape[0]), 0, n_leaves)]
    while pending:
        members, first_leaf, leaves = pending.pop()
        # Only the rows of one part are ever copied, and never those of the whole.
        rows = sample if leaves == n_leaves else sample[members]
        if leaves == 1:
            means[first_leaf] = np.full(rows.shape[0], 1 / rows.shape[0], np.float32) @ rows
            continue
        left_leaves = leaves // 2
        size = rows.shape[0] * left_leaves // leaves
        members = members[_two_means(rows, size, rng)]
        pending.append((members[:size], first_leaf, left_leaves))
        pending.append((members[size:], first_leaf + left_leaves, leaves - left_leaves))
    return means


def _two_means(rows: Vectors, size: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Order rows so that the first ``size`` of them are one cluster and the rest the other."""
    n = rows.shape[0]
    weights = np.zeros(n, np.float32)
    weights[rng.choice(n, 2, replace=False)] = 1, -1
    direction = weights @ rows
    total = np.ones_like(weights) @ rows
    for _ in range(_SPLIT_ROUNDS):
        order = np.argpartition(rows @ direction, size)
        weights[:] = 0
        weights[order[:size]] = 1
        left = weights @ rows
        direction = (total - left) / np.float32(n - size) - left / np.float32(size)
    return np.argpartition(rows @ direction, size)


def _refine(
    sample: Vectors, centroids: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """One round of k-means: means of the nearest vectors, and radii; without any, both stay."""
    codes = Centroids(centroids[None], np.zeros((1, len(centroids)), np.float32)).codes(sample)
    n, counts = sample.shape[0], np.bincount(codes[:, 0], minlength=len(centroids))
    shares = np.float32(1) / np.maximum(counts, 1).astype(np.float32)
    members = sparse.csr_array(
        (shares[codes[:, 0]], (codes[:, 0], np.arange(n))), shape=(len(centroids), n)
    )
    means = members @ sample
    if sparse.issparse(means):
        means = means.toarray()
    variances = members @ _squares(sample) - _squares(means)
    means[counts == 0] = centroids[counts == 0]
    return means, np.sqrt(np.maximum(variances, 0) / sample.shape[1])
