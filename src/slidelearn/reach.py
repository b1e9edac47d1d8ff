"""Reach: how far a search goes to find as much of the exact top as somebody asks for."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from slidelearn.csr import slice_rows
from slidelearn.errors import ConfigError
from slidelearn.metrics import recall_at_k
from slidelearn.network import Network
from slidelearn.predicting import predict_topk
from slidelearn.workers import Workers

__all__ = ["DEEPEST", "Reach", "check_recall", "choose_reach", "measure_reaches", "reaches_for"]

_SCALES = (0.5, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0, 16.0, 32.0)
_FAR = _SCALES.index(8.0)  # what is tried first as the furthest
_FAR_ENOUGH = 0.992  # recall from which on nothing further is the furthest
_ENOUGH = 0.999  # and nothing further is tried
# Share of what may be missing that may be in the sample, so that other examples keep the promise:
# without, 0.990 of it was 0.987 of 4,000 others on commits.
_MISSING = 0.8
# Places of an exact top that are compared. To find 0.99 of the best 50 takes as long as a scan.
DEEPEST = 20
_DEPTHS = (5, DEEPEST)


class Reach(NamedTuple):
    """What one scale of a search finds.

    Attributes
    ----------
    scale : float
        Times as many neurons as the settings say may be found, and be left by each stage.
    recall : float
        Share of the exact top that is found, by which scales are chosen.
    checked : float
        The same on other examples.
    k : int
        Places of that top.
    """

    scale: float
    recall: float
    checked: float
    k: int = 5


def measure_reaches(
    network: Network, X: csr_matrix, exact: NDArray[np.int64], workers: Workers
) -> list[Reach]:
    """Measure what searches of examples X (n, d) find of the exact top 5 and 20, scaled.

    Every other example is for choosing, the rest for checking. Exact tops (m, 20) of the first m
    examples, m <= n, tell what the furthest search finds of them, and that what others find of it:
    256 of them alone, of which only half choose, left a recall@5 of 0.99 open by 0.01, and a
    thousand would be scanned for as long as a tenth of the training takes.

    Returns
    -------
    list of Reach
        By places, then the least scale first; no more of them once enough is found.
    """
    depths = sorted({min(k, network.n_labels) for k in _DEPTHS})
    return [reach for k in depths for reach in _measure(network, X, exact, k, workers)]


def _measure(
    network: Network, X: csr_matrix, exact: NDArray[np.int64], k: int, workers: Workers
) -> Iterator[Reach]:
    """Measure what is found of the exact top k; more places take fewer examples."""
    X = slice_rows(X, 0, max(len(exact), X.shape[0] * _DEPTHS[0] // k))

    def find(scale: float) -> NDArray[np.int64]:
        return predict_topk(network, X, k, exact=False, workers=workers, scale=scale).labels

    far = dict[float, NDArray[np.int64]]()
    for scale in _SCALES[_FAR:]:
        furthest = far[scale] = find(scale)
        share = _halves(furthest[: len(exact)], exact, k)
        if min(share) >= _FAR_ENOUGH:
            break
    for scale in (*_SCALES[:_FAR], *far):
        found = far[scale] if scale in far else find(scale)
        recall, checked = share * _halves(found, furthest, k)
        yield Reach(scale, float(recall), float(checked), k)
        if min(recall, checked) >= _ENOUGH:
            return


def _halves(found: NDArray[np.int64], best: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """Recall of the best k, (n, k or more), on every other example, and on the rest: (2,)."""
    return np.array([recall_at_k(found[i::2], best[i::2], k) for i in (0, 1)])


def reaches_for(reaches: Sequence[Reach], k: int) -> list[Reach]:
    """Those measured for k places, or for the least number above that; none if there are none.

    Examples
    --------
    >>> reaches = [Reach(1.0, 0.95, 0.95, 5), Reach(1.0, 0.9, 0.9, 20)]
    >>> [[reach.k for reach in reaches_for(reaches, k)] for k in (1, 6, 21)]
    [[5], [20], []]
    """
    least = min((reach.k for reach in reaches if reach.k >= k), default=None)
    return [reach for reach in reaches if reach.k == least]


def choose_reach(reaches: Sequence[Reach], recall: float) -> Reach | None:
    """Choose how far a search goes that finds so much, and a little more; None if no one does.

    Between two that were measured, recalls are taken to lie on a line, under which they seldom are.

    Examples
    --------
    >>> reaches = [Reach(1.0, 0.8, 0.8), Reach(4.0, 0.96, 0.94)]
    >>> choose_reach(reaches, 0.85), choose_reach(reaches, 0.99)
    (Reach(scale=2.0, recall=0.88, checked=0.87, k=5), None)
    """
    enough = 1 - _MISSING * (1 - recall)
    before: Reach | None = None
    for reach in reaches:
        if reach.recall >= enough:
            return reach if before is None else _between(before, reach, enough)
        before = reach
    return None


def _between(near: Reach, far: Reach, recall: float) -> Reach:
    """The one that finds so much, of those between two."""
    part = (recall - near.recall) / (far.recall - near.recall)
    scale = near.scale * (far.scale / near.scale) ** part
    checked = near.checked + part * (far.checked - near.checked)
    return Reach(round(scale, 2), round(recall, 4), round(checked, 4), far.k)


def check_recall(recall: float) -> None:
    """Refuse what is no recall.

    Raises
    ------
    ConfigError
        If it is not above 0 and at most 1.
    """
    if not 0 < recall <= 1:
        raise ConfigError(
            f"recall is {recall!r}, ask for a share above 0 and up to 1, such as 0.99"
        )
