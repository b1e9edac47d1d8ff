"""Calibration: how much votes and margins say, chosen on examples that training left out.

Which of the two is right more often differs from data to data: commits want votes of 1.5 and lose
1.1 of their P@1 with 5, while calls gain 0.4 and sessions 0.2 from these.
"""

from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from slidelearn.metrics import hits
from slidelearn.network import Network
from slidelearn.predicting import Retrieved, keep_best, score_retrieved
from slidelearn.workers import Workers, pieces

__all__ = ["choose_strengths", "hold_out"]

_VOTES = (0.75, 1.5, 3.0, 5.0, 8.0)
_MARGINS = (0.5, 1.0, 1.5, 2.0, 3.0)
_RANKS = (1, 3, 5)  # whose precisions count alike


def hold_out(n: int, size: int, seed: int) -> NDArray[np.bool_]:
    """Mark ``size`` of n examples, or half of them if there are fewer, for calibration.

    Examples
    --------
    >>> int(hold_out(10, 3, seed=0).sum())
    3
    """
    marks = np.zeros(n, np.bool_)
    marks[np.random.default_rng((seed, 4)).permutation(n)[: min(size, n // 2)]] = True
    return marks


def choose_strengths(
    network: Network, X: csr_matrix, Y: csr_matrix, workers: Workers
) -> tuple[float, float]:
    """Choose the strengths of votes and margins with the largest mean of P@1, P@3 and P@5.

    Parameters
    ----------
    network : Network
        With tables, a memory and margins that know nothing of the examples.
    X, Y : csr_matrix of shapes (n, d) and (n, n_labels)
        Examples and their labels.
    workers : Workers
        Threads.

    Returns
    -------
    vote, margin : float
        The smaller ones among equals.
    """
    choices = list(product(_VOTES, _MARGINS))

    def measure(start: int, end: int) -> NDArray[np.float64]:
        found = score_retrieved(network, X[start:end])
        return np.array([_precision(found, choice, Y[start:end]) for choice in choices])

    sums = np.sum(workers.map(measure, pieces(X.shape[0])), axis=0)
    return choices[int(np.argmax(sums))]


def _precision(found: Retrieved, choice: tuple[float, float], Y: csr_matrix) -> float:
    """Precisions with one choice of strengths, summed over ranks and examples."""
    labels = np.full((Y.shape[0], max(_RANKS)), -1, np.int64)
    keep_best(
        found.pairs, found.scores(*choice), labels, np.full(labels.shape, -np.inf, np.float32)
    )
    hit = hits(labels, Y)
    return float(sum(hit[:, :k].sum() / k for k in _RANKS))
