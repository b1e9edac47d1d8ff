"""Centroids: the nearest of a few learned directions, and the length, as a hash family."""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import sparse

from slidelearn.errors import ConfigError
from slidelearn.hashing.vectors import Vectors, check_range, check_vectors, row_blocks
from slidelearn.heap import heapify, sink
from slidelearn.workers import single_blas

__all__ = ["MOST_LEVELS", "Centroids", "sample_size"]

# With 6 vectors and a round, the 64 best of 598 buckets held 67 % of the top 5 of commits, with 20
# and 3 rounds 88 %, with 70 and 4 rounds 93 %, at three times the cost of a fit.
_PER_CENTROID = 20  # vectors that one is learned from
_LEAST = 2048  # vectors that all are learned from, so that a few buckets have enough
_SPLIT_ROUNDS = 3  # of two means, in every split
_REFINE_ROUNDS = 3  # of all means together, after the splits
_RATIO = 1.2  # of the lengths of two levels, about
MOST_LEVELS = 24
_SHORT = 0.02  # share of the vectors that may be shorter than all levels but the last


@dataclass(frozen=True, eq=False)
class Centroids:
    """The nearest centroid in each of L independent clusterings, and a level of length.

    Vectors are clustered by where they point, and filed under their centroid and their length: a
    bucket is ``direction * n_levels + level``. A query looks for large inner products, so it probes
    the buckets where it expects the largest: that with a centroid, plus one standard deviation
    for the spread around it, times the length of the level. So of every direction it looks at long
    vectors first, of a direction it points to at short ones, too, and the first probe of a vector
    need not be its own bucket.

    Of a layer with 44,658 neurons 2.2 % of the rows are read for 90 % of the top 5, and 5 % where
    rows are filed under the nearest of as many means of any length; of 482,580 neurons 0.07 and
    0.13 % for 99 %, of a million planted rows 0.03 and 0.7 % for 95 %.

    The smaller bucket wins among equals. Scores that are equal up to rounding may swap with the
    number of rows that are hashed together, because a matrix product may add in another order.
    To rank groups of centroids first, and only those of the best groups, lost too much: 0.73 of the
    top 5 of a million planted rows instead of 0.85 where a fifth of the groups was opened.

    Parameters
    ----------
    centroids : float32 array of shape (L, n_directions, n_features)
        Means of the vectors of a direction, each at length 1.
    radii : float32 array of shape (L, n_directions)
        Standard deviation of these in any direction.
    lengths : float32 array of shape (n_levels,)
        Of the vectors of a level, the longest first.

    Examples
    --------
    >>> import numpy as np
    >>> V = np.array([[1, 0], [4, 0.1], [0, 1], [0.1, 3]], dtype=np.float32)
    >>> family = Centroids.fit(V, n_directions=2, l=1, seed=0)
    >>> direction, level = np.divmod(family.codes(V)[:, 0], family.n_levels)
    >>> bool(direction[0] == direction[1] != direction[2] == direction[3])
    True
    >>> bool(level[0] == level[2] > level[3] > level[1] == 0)
    True
    """

    name: ClassVar[str] = "centroids"
    centroids: NDArray[np.float32]
    radii: NDArray[np.float32]
    lengths: NDArray[np.float32]

    @classmethod
    def fit(
        cls,
        V: Vectors,
        *,
        n_directions: int,
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
        n_directions : int
            Centroids per table, at most n. There are so many buckets for every level of length.
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
        if not 1 <= n_directions <= V.shape[0]:
            raise ConfigError(
                f"n_buckets is {n_directions}, choose a value from 1 to the {V.shape[0]} vectors"
            )
        centroids = np.empty((l, n_directions, V.shape[1]), np.float32)
        radii = np.zeros((l, n_directions), np.float32)
        # One BLAS thread: the order of additions must not depend on the number of threads.
        with single_blas():
            for table, rng in enumerate(np.random.default_rng(seed).spawn(l)):
                sample = _at_length_1(_sample(V, sample_size(n_directions), rng))
                centroids[table] = _split_evenly(sample, n_directions, rng)
                for _ in range(_REFINE_ROUNDS):
                    centroids[table], radii[table] = _refine(sample, centroids[table])
        return cls(centroids, radii, _level_lengths(_lengths(V)))

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
        return int(self.centroids.shape[1]) * self.n_levels

    @property
    def n_levels(self) -> int:
        """Levels of length, which every direction is divided into."""
        return len(self.lengths)

    def hashes(self, V: Vectors) -> NDArray[np.int32]:
        """Raw hashes, int32 (n, L, 1): the code itself, since a table has a single hash."""
        return self.codes(V)[:, :, None]

    def codes(self, V: Vectors) -> NDArray[np.int32]:
        """Bucket of each vector in each table, int32 (n, L)."""
        V = check_vectors(V, self.n_features)
        lengths = _lengths(V)
        out = np.empty((V.shape[0], self.n_tables), np.int32)
        for table, centroids in enumerate(self.centroids):
            out[:, table] = _nearest(V, lengths, centroids)
        edges = np.sqrt(self.lengths[1:] * self.lengths[:-1])
        levels = np.searchsorted(-edges, -lengths).astype(np.int32)
        return self.n_levels * out + levels[:, None]

    def probes(
        self, V: Vectors, n_probes: int, filled: NDArray[np.int32] | None = None
    ) -> NDArray[np.int32]:
        """Buckets to look into, int32 (n, L, n_probes): the largest expected inner product first.

        Those that expect a negative one come last. Buckets that hold no neuron are passed over,
        where ``filled`` tells, see `slidelearn.tables.Tables`; -1 where there are no more.

        Raises
        ------
        ConfigError
            If there are fewer buckets.
        """
        check_range("n_probes", n_probes, 1, self.n_buckets)
        V = check_vectors(V, self.n_features)
        out = np.empty((V.shape[0], self.n_tables, n_probes), np.int32)
        if filled is None:
            filled = np.tile(np.arange(self.n_buckets + 1, dtype=np.int32), (self.n_tables, 1))
        lengths = _lengths(V)
        for table, centroids in enumerate(self.centroids):
            for rows in row_blocks(V.shape[0], len(centroids)):
                scores = V[rows] @ centroids.T + lengths[rows, None] * self.radii[table]
                _best_buckets(scores, self.lengths, filled[table], out[rows, table])
        return out

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything that `from_arrays` needs."""
        return {"centroids": self.centroids, "radii": self.radii, "lengths": self.lengths}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> Self:
        """Restore a family from what `arrays` returned."""
        return cls(arrays["centroids"], arrays["radii"], arrays["lengths"])


def sample_size(n_directions: int) -> int:
    """How many vectors are enough to learn the centroids of one table from.

    Examples
    --------
    >>> sample_size(8), sample_size(1000)
    (2048, 20000)
    """
    return max(n_directions * _PER_CENTROID, _LEAST)


def _nearest(
    V: Vectors, lengths: NDArray[np.float32], centroids: NDArray[np.float32]
) -> NDArray[np.int32]:
    """The centroid (C, d) nearest to every vector (n, d) of lengths (n,), brought to length 1."""
    out = np.empty(V.shape[0], np.int32)
    half = _squares(centroids) / 2  # |v/l - c|^2 = 1 - 2 (v.c - l |c|^2 / 2) / l
    for rows in row_blocks(V.shape[0], len(centroids)):
        out[rows] = (V[rows] @ centroids.T - lengths[rows, None] * half).argmax(axis=1)
    return out


@njit(cache=True, nogil=True)
def _best_buckets(
    scores: NDArray[np.float32],
    lengths: NDArray[np.float32],
    filled: NDArray[np.int32],
    best: NDArray[np.int32],
) -> None:
    """Write the filled buckets of the largest scores (n, C) times lengths (S,): best (n, P).

    The best of them is on top of a heap, which holds the next one of every direction.
    """
    n_directions, n_levels = scores.shape[1], len(lengths)
    keys, directions = np.empty(n_directions, np.float32), np.empty(n_directions, np.int32)
    buckets, size = np.empty(n_directions, np.int32), np.int64(n_directions)
    for row in range(len(scores)):
        for c in range(n_directions):
            buckets[c], directions[c] = filled[c * n_levels], -c
            keys[c] = _key(scores[row, c], lengths, buckets[c] - c * n_levels)
        heapify(keys, directions)
        for p in range(best.shape[1]):
            if not keys[0] < np.inf:  # no more, or numbers that are none, as in a damaged file
                best[row, p:] = -1
                break
            c = -directions[0]
            best[row, p] = buckets[c]
            buckets[c] = filled[buckets[c] + 1]
            key = _key(scores[row, c], lengths, buckets[c] - c * n_levels)
            sink(keys, directions, size, key, directions[0])


@njit(cache=True, nogil=True, forceinline=True)
def _key(score: np.float32, lengths: NDArray[np.float32], level: int) -> np.float32:
    """What ranks a level of a direction, the smallest first.

    It is infinite behind the last one.
    """
    return -score * lengths[level] if level < len(lengths) else np.float32(np.inf)


def _lengths(rows: Vectors) -> NDArray[np.float32]:
    """Length of every row, (n,)."""
    return np.sqrt(_squares(rows))


def _level_lengths(lengths: NDArray[np.float32]) -> NDArray[np.float32]:
    """Lengths of the levels for vectors of some lengths (n,), the longest first.

    The last level takes all that are shorter.
    """
    longest, short = float(lengths.max()), float(np.quantile(lengths, _SHORT))
    if longest == 0:
        return np.ones(1, np.float32)
    # Where one vector is far longer than all others, levels lie further apart.
    span = longest / short if short > 0 else _RATIO ** (MOST_LEVELS - 1)
    n = min(MOST_LEVELS, 1 + int(np.rint(np.log(span) / np.log(_RATIO))))
    return np.geomspace(longest, longest / span, n, dtype=np.float32)


def _at_length_1(rows: Vectors) -> Vectors:
    """Rows (n, d) at length 1; those of zeros stay."""
    lengths = _lengths(rows)
    factors = np.divide(1, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    if sparse.issparse(rows):
        return sparse.csr_array(sparse.diags_array(factors) @ rows)
    return rows * factors[:, None]


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
    squares = _squares(sample)
    codes = _nearest(sample, np.sqrt(squares), centroids)
    n, counts = sample.shape[0], np.bincount(codes, minlength=len(centroids))
    shares = np.float32(1) / np.maximum(counts, 1).astype(np.float32)
    members = sparse.csr_array((shares[codes], (codes, np.arange(n))), shape=(len(centroids), n))
    means = members @ sample
    if sparse.issparse(means):
        means = means.toarray()
    variances = members @ squares - _squares(means)
    means[counts == 0] = centroids[counts == 0]
    return means, np.sqrt(np.maximum(variances, 0) / sample.shape[1])
