"""Choosing: what the start shall make of the training data, by examples that are left out of it.

Two things differ from data to data, and no shape tells them.

How features are weighted: relevance (see `slidelearn.weighting`) raises P@1 from 58.8 to 59.9 on
commits, from 20.7 to 23.0 on 27,000 passages and from 35.1 to 38.0 on passages of 23,000 pages, and
more of it than suits the data lowers it. Rarity is for features that came without TF-IDF: 18.1 and
44.8 on counts of the words of RFCs.

How far centroids of few examples are doubted: a label with k examples starts with k / (k + doubt)
of its length. Where rare labels are many and seldom right, as among the functions that a function
calls, these must stand back (P@1 on 40,000 of the calls with a doubt of 3, 1 and 0.3: 31.8, 31.0
and 29.7). Where all labels have two to five examples each, they must not (77,180 functions: 29.6,
32.4, 36.1 and, with none, 38.3).
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from slidelearn.config import Config
from slidelearn.leave_one_out import (
    USUAL_DOUBT,
    Metrics,
    as_good,
    asked_rows,
    inverse_lengths,
    rank_left_out,
)
from slidelearn.network import UNWEIGHTED
from slidelearn.weighting import measure_features
from slidelearn.workers import Workers

__all__ = ["choose_start"]

# Powers of relevance and rarity. After training, less of it is right than before: the first is what
# suits most data, and another must be better by more than chance.
_POWERS = ((0.5, 0.0), (1.0, 0.0), (0.0, 0.0), (2.0, 0.0), (1.0, 1.0), (2.0, 2.0))
_DOUBTS = (USUAL_DOUBT, 10.0, 1.0, 0.3, 0.0)  # the first that is as good as the best
# Where centroids of few examples are to be trusted, the wide path starts at twice its length, which
# training has no time to reach: P@1 on 77,180 functions with two to five examples each 44.5 and not
# 38.3, on 32,000 passages (which page?) 10.8 and not 10.3. Elsewhere it costs: 30.6 and not 31.8 on
# 40,000 of the calls. Twice the length of the deep path as well gains nothing more (43.6, 10.7).
_SURE = 2.0
# Examples that ask: for all choices, then for doubts that are open still. What 1,000 choose of them
# differs from seed to seed and costs up to 1.5 of P@1 (definitions of words). Which features ask
# matters little to doubts, and without the smallest it costs little to let more examples ask.
_FEW, _MANY = 1000, 4000
_IGNORED = 0.1


def choose_start(
    X: csr_matrix, Y: csr_matrix, config: Config, workers: Workers
) -> tuple[Config, NDArray[np.float32]]:
    """Choose what features are multiplied by and how far few examples are doubted.

    Parameters
    ----------
    X, Y : csr_matrix of shapes (n, d) and (n, n_labels)
        The examples, of length 1 if the settings say so, and their labels.
    config : Config
        ``relevance`` and ``rarity`` are chosen if both are None, ``doubt`` if it is and there is a
        wide path. See `rank_left_out`, too.
    workers : Workers
        Threads.

    Returns
    -------
    Config, float32 array of shape (d,)
        The settings with the choice, which is by the mean of P@1, P@3 and P@5 of 1,000 examples,
        and of 4,000 for doubts that these leave open; with a doubt below 1, ``wide`` is doubled.
        And the weights of features, at most 1, or none, of shape (0,), if they are alike or
        examples are not scaled to length 1.
    """
    powers, doubts = _open_powers(config), _open_doubts(config)
    if powers == ((0.0, 0.0),) and len(doubts) == 1:
        return replace(config, relevance=0.0, rarity=0.0), UNWEIGHTED
    features = measure_features(X, Y, workers)
    factors = np.stack([features.weights(pair) for pair in powers], axis=1)
    ones = np.ones((X.shape[0], 1), np.float32)
    scales = inverse_lengths(X, factors) if config.normalize else ones
    power, doubt = _choose(X, Y, config, workers, Metrics(factors, scales, doubts))
    config = replace(config, relevance=powers[power][0], rarity=powers[power][1])
    if config.doubt is None and config.wide:
        longer = _SURE if doubt < 1 else 1.0
        config = replace(config, doubt=doubt, wide=longer * config.wide)
    return config, features.weights(powers[power]) if any(powers[power]) else UNWEIGHTED


def _choose(
    X: csr_matrix, Y: csr_matrix, config: Config, workers: Workers, metrics: Metrics
) -> tuple[int, float]:
    """Choose one of some metrics, each with its best doubt, then one of the doubts."""
    (factors, scales, doubts, _), n = metrics, X.shape[0]
    if factors.shape[1] == 1 and len(doubts) == 1:
        return 0, doubts[0]
    sums = rank_left_out(X, Y, asked_rows(n, _FEW, config), config, workers, metrics)
    best = sums.sum(axis=2).argmax(axis=1)
    chosen = as_good(sums[np.arange(len(sums)), best])[0]
    left = as_good(sums[chosen])
    if len(left) > 1:
        one = Metrics(
            factors[:, [chosen]], scales[:, [chosen]], tuple(doubts[d] for d in left), _IGNORED
        )
        sums = rank_left_out(X, Y, asked_rows(n, _MANY, config), config, workers, one)
        left = left[as_good(sums[0])]
    return int(chosen), doubts[left[0]]


def _open_powers(config: Config) -> tuple[tuple[float, float], ...]:
    """Powers of relevance and rarity that there are to choose from."""
    if not config.normalize:
        return ((0.0, 0.0),)
    if config.relevance is None and config.rarity is None:
        return _POWERS
    return ((config.relevance or 0.0, config.rarity or 0.0),)


def _open_doubts(config: Config) -> tuple[float, ...]:
    """Doubts that there are to choose from."""
    if config.doubt is None and config.wide:
        return _DOUBTS
    return (USUAL_DOUBT if config.doubt is None else config.doubt,)
