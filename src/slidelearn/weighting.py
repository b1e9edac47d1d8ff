"""Weighting: how much every feature says about labels, measured on the training data.

TF-IDF knows how rare a feature is, but not whether examples that share it share labels, too. Of the
words of a manual's page, some come back on the same page and few others do, some on all pages that
were made from the same template. So a feature's relevance is by how much likelier another example
of a label has it, if one has it, than any example does. Values of features are raised to a power
and multiplied by one of that before an example is scaled to length 1, for all that follows.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from slidelearn.csr import count_ids
from slidelearn.layers import Pairs, examples_of
from slidelearn.rows import Rows, sparse_rows
from slidelearn.workers import Workers, pieces

__all__ = ["Features", "measure_features", "raise_values", "raised"]

_EXPECTED = 2.0  # examples by which a feature seems as relevant as features are on average
_RANGES = 16  # of labels, each of which one thread counts


class Features(NamedTuple):
    """What every feature is worth, (d,), above 0.

    Attributes
    ----------
    relevance : float64 array of shape (d,)
        With b the share of the examples that have the feature, and q that among the other examples
        of a label of one that has it: the root of log(1 + q / b) over log(1 + 1 / b).
    rarity : float64 array of shape (d,)
        The root of log(1 + 1 / b).
    """

    relevance: NDArray[np.float64]
    rarity: NDArray[np.float64]

    def weights(self, powers: tuple[float, float]) -> NDArray[np.float32]:
        """Weights (d,), the largest 1: the product of both, to these powers.

        Examples
        --------
        >>> Features(np.array([1.0, 0.5]), np.array([1.0, 4.0])).weights((2.0, 1.0)).tolist()
        [1.0, 1.0]
        """
        product = self.relevance ** powers[0] * self.rarity ** powers[1]
        return np.asarray(product / product.max(), np.float32)


@njit(cache=True, nogil=True, forceinline=True)
def raised(value: np.float32, power: float) -> np.float32:
    """Raise the size of a value to a power; it keeps its sign, and 0 stays 0.

    Examples
    --------
    >>> [float(raised(np.float32(value), 0.5)) for value in (4, 0, -9)]
    [2.0, 0.0, -3.0]
    """
    if power == 1 or value == 0:
        return value
    size = np.sqrt(abs(value)) if power == 0.5 else np.float32(abs(value) ** power)
    return size if value > 0 else -size


@njit(cache=True, nogil=True)
def raise_values(values: NDArray[np.float32], power: float) -> None:
    """Raise all of some values to a power, in place; see `raised`."""
    if power != 1:
        for e in range(len(values)):
            values[e] = raised(values[e], power)


def measure_features(X: csr_matrix, Y: csr_matrix, workers: Workers) -> Features:
    """Measure what the features of examples X (n, d) say about their labels Y (n, n_labels).

    Where features and labels never come back together, all features are as relevant.

    Examples
    --------
    >>> X = csr_matrix(np.array([[1, 0, 1], [1, 1, 0], [0, 1, 1], [0, 0, 1]], np.float32))
    >>> with Workers(1) as workers:
    ...     found = measure_features(X, csr_matrix([[1, 0], [1, 0], [0, 1], [0, 1]]), workers)
    >>> found.relevance.round(2).tolist()
    [0.93, 0.64, 0.85]
    """
    n, d = X.shape
    x, members = sparse_rows(X), examples_of(Y)

    def count(first: int, last: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        shared, met = np.zeros(d), np.zeros(d)
        _count_shared(x, members, (first, last), shared, met)
        return shared, met

    parts = workers.map(count, pieces(Y.shape[1], -(-Y.shape[1] // _RANGES)))
    shared, met = (np.sum(part, axis=0) for part in zip(*parts, strict=True))
    share = np.maximum(count_ids(X.indices, d), 1) / n
    rarity = np.sqrt(np.log1p(1 / share))
    if not shared.any():
        return Features(np.ones(d), rarity)
    usual = shared.sum() / met.sum()
    again = (shared + _EXPECTED * usual) / (met + _EXPECTED)
    return Features(np.sqrt(np.log1p(again / share)) / rarity, rarity)


@njit(cache=True, nogil=True)
def _count_shared(
    x: Rows,
    members: Pairs,
    ends: tuple[int, int],
    shared: NDArray[np.float64],
    met: NDArray[np.float64],
) -> None:
    """Count by feature, (d,), examples that have it in the labels between two ends.

    ``shared`` gains, for each of these, the share of the label's other examples that have it, too.
    Labels of one example say nothing.
    """
    counts, features = np.zeros(x.width, np.int64), np.empty(x.width, np.int64)
    for label in range(ends[0], ends[1]):
        own = members.neurons[members.indptr[label] : members.indptr[label + 1]]
        if len(own) < 2:
            continue
        size = 0
        for i in own:
            for f in x.indices[x.indptr[i] : x.indptr[i + 1]]:
                if counts[f] == 0:
                    features[size] = f
                    size += 1
                counts[f] += 1
        for f in features[:size]:
            met[f] += counts[f]
            shared[f] += counts[f] * (counts[f] - 1) / (len(own) - 1)
            counts[f] = 0
