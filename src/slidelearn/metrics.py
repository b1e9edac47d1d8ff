"""Ranking metrics on sparse labels: P@k, PSP@k, nDCG@k and the recall@k of an index.

Every metric takes `top`, an integer array (n, columns) with the label ids of each example from
best to worst, where -1 means "no more", and `Y`, a CSR matrix (n, n_labels) whose non-zero entries
are the true labels. Nothing of size n times n_labels is ever made dense.

The functions for one metric return fractions between 0 and 1; `report` returns the same numbers in
percent, as papers print them.
"""

from collections.abc import Sequence

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from slidelearn.csr import count_ids, make_csr
from slidelearn.datasets import as_csr_labels
from slidelearn.errors import ConfigError, DataError

__all__ = [
    "RANKS",
    "hits",
    "ndcg_at_k",
    "precision_at_k",
    "propensity",
    "psp_at_k",
    "recall_at_k",
    "report",
    "sum_precisions",
]

RANKS = (1, 3, 5)  # whose precisions count alike where a setting is chosen by them

Hits = NDArray[np.bool_]
Ids = NDArray[np.integer]
Floats = NDArray[np.floating]


def hits(top: Ids, Y: csr_matrix) -> Hits:
    """Tell which ranked labels are true.

    Parameters
    ----------
    top : int array (n, columns)
        Ranked label ids; -1 is never a hit, and an id that a row repeats is a hit only once.
    Y : csr_matrix (n, n_labels)
        True labels.

    Returns
    -------
    bool array (n, columns)

    Raises
    ------
    DataError
        If the shapes disagree, or an id is not a label of `Y`.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.sparse import csr_matrix
    >>> hits(np.array([[2, 0], [1, -1]]), csr_matrix([[0, 0, 1], [0, 1, 0]]))
    array([[ True, False],
           [ True, False]])
    """
    top, Y = _checked(top, Y)
    return _hits(top, Y)


def precision_at_k(top: Ids, Y: csr_matrix, k: int) -> float:
    """Share of the first k ranked labels that are true, over all examples.

    The divisor is k * n: an example with fewer than k labels cannot score 1, and one without any
    label counts as k misses. This is how the field reports P@k.

    Parameters
    ----------
    top : int array (n, at least k columns)
        Ranked label ids; fewer columns are accepted when `Y` has fewer than k labels.
    Y : csr_matrix (n, n_labels)
        True labels.
    k : int
        How many ranks to look at.

    Raises
    ------
    DataError
        If the shapes disagree, or an id is not a label of `Y`.
    ConfigError
        If k is below 1.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.sparse import csr_matrix
    >>> precision_at_k(np.array([[2, 0], [1, -1]]), csr_matrix([[0, 0, 1], [0, 1, 0]]), 2)
    0.5
    """
    top, Y = _checked(top, Y, k)
    return _precision(_hits(top[:, :k], Y), k)


def ndcg_at_k(top: Ids, Y: csr_matrix, k: int) -> float:
    """Discounted gain of the first k ranked labels over the best possible, averaged over examples.

    A hit at rank r (from 1) gains 1 / log2(r + 1). The best possible gain of an example is that of
    min(k, its labels) hits in front. An example without labels contributes 0.

    Parameters
    ----------
    top, Y, k
        As for `precision_at_k`.

    Raises
    ------
    DataError
        If the shapes disagree, or an id is not a label of `Y`.
    ConfigError
        If k is below 1.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.sparse import csr_matrix
    >>> ndcg_at_k(np.array([[2, 0], [1, -1]]), csr_matrix([[0, 0, 1], [0, 1, 0]]), 2)
    1.0
    """
    top, Y = _checked(top, Y, k)
    return _ndcg(_hits(top[:, :k], Y), np.diff(Y.indptr), k)


def propensity(Y_train: csr_matrix, a: float = 0.55, b: float = 1.5) -> NDArray[np.float64]:
    """Inverse propensity of every label, from how often it occurs in training.

    1 + C (frequency + b)^-a with C = (log N - 1) (b + 1)^a and N training examples (Jain et al.,
    2016). With N below 3 the formula would give propensities above 1; C is 0 there.

    Parameters
    ----------
    Y_train : csr_matrix (n, n_labels)
        Labels of the training examples.
    a, b : float
        Constants of the propensity model; the defaults are those in general use.

    Returns
    -------
    float64 array (n_labels,), never below 1

    Raises
    ------
    DataError
        If `Y_train` is not a matrix of zeros and ones.

    Examples
    --------
    >>> from scipy.sparse import csr_matrix
    >>> propensity(csr_matrix([[1, 0], [1, 0], [1, 1], [1, 0]])).round(3).tolist()
    [1.25, 1.386]
    """
    Y_train = as_csr_labels(Y_train, name="Y_train")
    n, n_labels = Y_train.shape
    frequency = count_ids(Y_train.indices, n_labels)  # (n_labels,)
    c = max(np.log(max(n, 1)) - 1.0, 0.0) * (b + 1.0) ** a
    return np.asarray(1.0 + c * (frequency + b) ** -a, dtype=np.float64)


def psp_at_k(top: Ids, Y: csr_matrix, inverse_propensity: Floats, k: int) -> float:
    """Propensity-scored precision: rare labels weigh more.

    The inverse propensities of all hits in the first k ranks, summed over examples, divided by the
    largest sum that k ranks could have reached. 0 if no example has a label.

    Parameters
    ----------
    top, Y, k
        As for `precision_at_k`.
    inverse_propensity : float array (n_labels,)
        What `propensity` returned for the training labels.

    Raises
    ------
    DataError
        If the shapes disagree, or an id is not a label of `Y`.
    ConfigError
        If k is below 1.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.sparse import csr_matrix
    >>> top, Y = np.array([[0], [0]]), csr_matrix([[1, 0], [0, 1]])
    >>> psp_at_k(top, Y, np.array([1.0, 3.0]), 1)
    0.25
    """
    top, Y = _checked(top, Y, k)
    weights = _checked_propensity(inverse_propensity, Y)
    top = top[:, :k]
    return _psp(top, _hits(top, Y), weights, _best_by_rank(Y.indptr, Y.indices, weights, k), k)


def recall_at_k(top: Ids, exact_top: Ids, k: int) -> float:
    """Recall@k of an index: share of the exact top k that is in the retrieved top k.

    Parameters
    ----------
    top : int array (n, columns)
        Ranked ids that the index retrieved; -1 means "no more".
    exact_top : int array (n, columns)
        Ranked ids of an exact scan; -1 is not counted as an id to be found.
    k : int
        How many ranks to look at, in both.

    Returns
    -------
    float
        A fraction; 1.0 if there is nothing to be found.

    Raises
    ------
    DataError
        If the arrays are not two-dimensional integer arrays with as many rows.
    ConfigError
        If k is below 1.

    Examples
    --------
    >>> import numpy as np
    >>> recall_at_k(np.array([[7, 1, 3]]), np.array([[7, 3, 9]]), 3)
    0.6666666666666666
    """
    _check_k(k)
    top, exact_top = _ranking(top)[:, :k], _ranking(exact_top)[:, :k]
    if len(top) != len(exact_top):
        raise DataError(
            f"top has {len(top)} rows but exact_top has {len(exact_top)}; search the same examples"
        )
    n_ids = 1 + max(int(top.max(initial=-1)), int(exact_top.max(initial=-1)), 0)
    ids = np.sort(exact_top, axis=1)
    counted = ids >= 0
    counted[:, 1:] &= ids[:, 1:] != ids[:, :-1]
    indptr = np.concatenate(([0], np.cumsum(counted.sum(axis=1))))
    exact = make_csr(np.ones(indptr[-1]), ids[counted], indptr, (len(ids), n_ids))
    return float(_hits(top, exact).sum() / exact.nnz) if exact.nnz else 1.0


def report(
    top: Ids,
    Y: csr_matrix,
    inverse_propensity: Floats | None = None,
    ks: Sequence[int] = (1, 3, 5),
) -> dict[str, float]:
    """All metrics at every k, in percent (0 to 100, not rounded).

    Parameters
    ----------
    top : int array (n, at least max(ks) columns)
        Ranked label ids; fewer columns are accepted when `Y` has fewer than max(ks) labels.
    Y : csr_matrix (n, n_labels)
        True labels.
    inverse_propensity : float array (n_labels,), optional
        What `propensity` returned for the training labels; without it there is no PSP@k.
    ks : sequence of int
        The ranks to report at.

    Returns
    -------
    dict
        Keys 'p@1', 'p@3', ..., 'ndcg@1', ... and, with propensities, 'psp@1', ...

    Raises
    ------
    DataError
        If the shapes disagree, or an id is not a label of `Y`.
    ConfigError
        If `ks` is empty or holds a k below 1.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.sparse import csr_matrix
    >>> report(np.array([[2, 0], [1, -1]]), csr_matrix([[0, 0, 1], [0, 1, 0]]), ks=(1, 2))
    {'p@1': 100.0, 'p@2': 50.0, 'ndcg@1': 100.0, 'ndcg@2': 100.0}
    """
    if not len(ks):
        raise ConfigError("ks is empty; name at least one k, for example ks=(1, 3, 5)")
    for k in ks:
        _check_k(k)
    deepest = max(ks)
    top, Y = _checked(top, Y, deepest)
    top = top[:, :deepest]
    hit = _hits(top, Y)
    counts = np.diff(Y.indptr)
    scores = {f"p@{k}": _precision(hit, k) for k in ks}
    scores |= {f"ndcg@{k}": _ndcg(hit, counts, k) for k in ks}
    if inverse_propensity is not None:
        weights = _checked_propensity(inverse_propensity, Y)
        best = _best_by_rank(Y.indptr, Y.indices, weights, deepest)
        scores |= {f"psp@{k}": _psp(top, hit, weights, best, k) for k in ks}
    return {name: 100.0 * score for name, score in scores.items()}


def sum_precisions(hit: Hits, axis: int | None = None) -> NDArray[np.float64]:
    """Sum P@1, P@3 and P@5 of hits (n, 5) over all examples, or for each of them if axis is 1.

    Examples
    --------
    >>> sum_precisions(np.array([[True, False], [False, True]]), axis=1).round(2).tolist()
    [1.53, 0.53]
    """
    return np.asarray(sum(hit[:, :k].sum(axis=axis) / k for k in RANKS))


def _precision(hit: Hits, k: int) -> float:
    return float(hit[:, :k].sum() / (k * len(hit)))


def _ndcg(hit: Hits, counts: Ids, k: int) -> float:
    gains = 1.0 / np.log2(np.arange(2, k + 2))  # (k,)
    ideal = np.concatenate([[1.0], np.cumsum(gains)])  # by number of labels; 1 guards the division
    reached = hit[:, :k] @ gains[: hit.shape[1]]  # (n,)
    return float((reached / ideal[np.minimum(counts, k)]).mean())


def _psp(top: Ids, hit: Hits, weights: Floats, best_by_rank: Floats, k: int) -> float:
    best = best_by_rank[:k].sum()
    return float(weights[top[:, :k][hit[:, :k]]].sum() / best) if best > 0 else 0.0


def _hits(top: Ids, Y: csr_matrix) -> Hits:
    found = np.zeros(top.shape, dtype=np.bool_)
    _mark_hits(top, Y.indptr, Y.indices, found)
    return found


@njit(cache=True, nogil=True)
def _mark_hits(top: Ids, indptr: Ids, indices: Ids, found: Hits) -> None:
    """Set found[i, j] where top[i, j] is a label of row i and was not ranked before in that row.

    top, found: (n, columns); indptr: (n + 1,); indices: (nnz,), ascending within a row.
    """
    for i in range(top.shape[0]):
        for j in range(top.shape[1]):
            label = top[i, j]
            low, high = indptr[i], indptr[i + 1]
            while low < high:
                middle = (low + high) // 2
                if indices[middle] < label:
                    low = middle + 1
                else:
                    high = middle
            hit = low < indptr[i + 1] and indices[low] == label
            for earlier in range(j):
                if hit and top[i, earlier] == label:
                    hit = False
            found[i, j] = hit


@njit(cache=True, nogil=True)
def _best_by_rank(indptr: Ids, indices: Ids, weights: Floats, k: int) -> Floats:
    """Sum over examples of the weight at each rank when the heaviest true labels come first.

    indptr: (n + 1,); indices: (nnz,); weights: (n_labels,); returns (k,).
    """
    best = np.zeros(k)
    for i in range(indptr.shape[0] - 1):
        ascending = np.sort(weights[indices[indptr[i] : indptr[i + 1]]])
        for rank in range(min(k, ascending.shape[0])):
            best[rank] += ascending[ascending.shape[0] - 1 - rank]
    return best


def _checked(top: Ids, Y: csr_matrix, k: int | None = None) -> tuple[Ids, csr_matrix]:
    """`top` as int64 and `Y` in canonical form, after checking that they (and k) fit."""
    top, Y = _ranking(top), as_csr_labels(Y)
    n, n_labels = Y.shape
    if len(top) != n:
        raise DataError(f"top has {len(top)} rows but Y has {n}; rank the labels of every example")
    if n == 0:
        raise DataError("there are 0 examples to score; pass at least one row")
    wrong = np.argwhere((top < -1) | (top >= n_labels))
    if len(wrong):
        row, column = wrong[0]
        raise DataError(
            f"top[{row}, {column}] is {top[row, column]} but Y has {n_labels} labels; "
            f"use ids 0 to {n_labels - 1}, or -1 for no more"
        )
    if k is not None:
        _check_k(k)
        if top.shape[1] < min(k, n_labels):
            raise DataError(
                f"top has {top.shape[1]} columns, too few for k={k}; "
                f"rank at least {min(k, n_labels)} labels, or fill up with -1"
            )
    return top, Y


def _ranking(top: Ids) -> Ids:
    top = np.asarray(top)
    if top.ndim != 2 or top.dtype.kind not in "iu":
        raise DataError(
            f"top has shape {top.shape} and dtype {top.dtype}; pass integer ids, (examples, ranks)"
        )
    return np.ascontiguousarray(top, dtype=np.int64)


def _check_k(k: int) -> None:
    if k < 1:
        raise ConfigError(f"k is {k}; it must be at least 1")


def _checked_propensity(inverse_propensity: Floats, Y: csr_matrix) -> NDArray[np.float64]:
    weights = np.ascontiguousarray(inverse_propensity, dtype=np.float64)
    if weights.shape != (Y.shape[1],):
        raise DataError(
            f"inverse_propensity has shape {weights.shape} but Y has {Y.shape[1]} labels; "
            "pass one value per label"
        )
    return weights
