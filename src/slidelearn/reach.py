"""Reach: how far a search goes to find as much of the exact top as somebody asks for."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from slidelearn.errors import ConfigError
from slidelearn.metrics import recall_at_k
from slidelearn.network import Network
from slidelearn.predicting import predict_topk
from slidelearn.workers import Workers

__all__ = ["Reach", "check_recall", "choose_scale", "measure_reaches"]

_SCALES = (0.25, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0)
_ENOUGH = 0.999  # recall from which on nothing further is tried


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
    """

    scale: float
    recall: float
    checked: float


def measure_reaches(
    network: Network, X: csr_matrix, exact: NDArray[np.int64], workers: Workers
) -> list[Reach]:
    """Measure what searches of examples X (n, d) find of the exact top k, scaled.

    Every other example is for choosing, the rest for checking. Exact tops (m, k) of the first m
    examples, m <= n, tell what the furthest search finds of them, and that what others find of it:
    256 of them alone, of which only half choose, left a recall of 0.99 open by 0.01, and 2,048
    would be scanned for as long as a tenth of the training takes.

    Returns
    -------
    list of Reach
        The least scale first; no more of them once enough is found.
    """
    k, reaches = exact.shape[1], list[Reach]()

    def find(scale: float) -> NDArray[np.int64]:
        return predict_topk(network, X, k, exact=False, workers=workers, scale=scale).labels

    furthest = find(_SCALES[-1])
    of_exact = [recall_at_k(furthest[: len(exact)][i::2], exact[i::2], k) for i in (0, 1)]
    for scale in _SCALES:
        found = furthest if scale == _SCALES[-1] else find(scale)
        recall, checked = (
            of_exact[i] * recall_at_k(found[i::2], furthest[i::2], k) for i in (0, 1)
        )
        reaches.append(Reach(scale, recall, checked))
        if min(recall, checked) >= _ENOUGH:
            break
    return reaches


def choose_scale(reaches: Sequence[Reach], recall: float) -> float | None:
    """Choose the least scale that finds so much; None if no one does.

    Examples
    --------
    >>> reaches = [Reach(0.5, 0.8, 0.8), Reach(1.0, 0.95, 0.94)]
    >>> choose_scale(reaches, 0.9), choose_scale(reaches, 0.99)
    (1.0, None)
    """
    return next((reach.scale for reach in reaches if reach.recall >= recall), None)


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
