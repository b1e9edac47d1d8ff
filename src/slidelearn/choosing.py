"""Choosing: what the start shall make of the training data, by examples that are left out of it.

Three things differ from data to data, and no shape tells them.

What values of features count: as they are or as their roots, by which a word that is repeated
weighs less. That raises P@1 from 59.5 to 60.5 on commits and from 66.3 to 67.9 on passages of
source files; on passages of 23,000 pages, which differ by how often they say what, it falls from
41.7 to 40.1.

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
from typing import NamedTuple, TypeAlias

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
from slidelearn.weighting import Features, measure_features
from slidelearn.workers import Workers

__all__ = ["choose_start"]

_Pairs: TypeAlias = tuple[tuple[float, float], ...]
_Doubts: TypeAlias = tuple[float, ...]

# Powers of relevance and rarity, by the power that values are raised to. After training, less of
# relevance is right than before: the first is what suits most data, and another must be better by
# more than chance. Values with TF-IDF lose a half of IDF to the root, so rarity may make up for it.
_POWERS: dict[float, _Pairs] = {
    1.0: ((0.5, 0.0), (1.0, 0.0), (0.0, 0.0), (2.0, 0.0), (2.0, 2.0)),
    0.5: ((0.5, 0.0), (0.0, 0.0), (0.5, 1.0), (1.0, 1.0), (2.0, 1.0)),
}
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
        ``relevance`` and ``rarity`` are chosen if both are None, ``value_power`` if it is, too, and
        ``doubt`` if it is and there is a wide path. See `rank_left_out`, too.
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
    if powers == {1.0: ((0.0, 0.0),)} and len(doubts) == 1:
        return replace(config, value_power=1.0, relevance=0.0, rarity=0.0), UNWEIGHTED
    asking = _Asking(X, Y, config, workers, measure_features(X, Y, workers))
    power, pair, doubts = _choose_powers(asking, powers, doubts)
    if len(doubts) > 1:
        (sums,) = asking.sums(power, (pair,), doubts, _MANY, _IGNORED)
        doubts = (doubts[as_good(sums)[0]],)
    config = replace(config, value_power=power, relevance=pair[0], rarity=pair[1])
    if config.doubt is None and config.wide:
        longer = _SURE if doubts[0] < 1 else 1.0
        config = replace(config, doubt=doubts[0], wide=longer * config.wide)
    return config, asking.features.weights(pair) if any(pair) else UNWEIGHTED


class _Asking(NamedTuple):
    """What examples are asked with."""

    X: csr_matrix
    Y: csr_matrix
    config: Config
    workers: Workers
    features: Features

    def sums(
        self, power: float, pairs: _Pairs, doubts: _Doubts, most: int, ignored: float = 0.0
    ) -> NDArray[np.float64]:
        """Precisions of examples by pairs of powers and doubts, (n_pairs, n_doubts, n_asked)."""
        X, config = self.X, self.config
        factors = np.stack([self.features.weights(pair) for pair in pairs], axis=1)
        scales = np.ones((X.shape[0], len(pairs)), np.float32)
        if config.normalize:
            scales = inverse_lengths(X, factors, power)
        metrics = Metrics(factors, scales, doubts, power, ignored)
        rows = asked_rows(X.shape[0], most, config)
        return rank_left_out(X, self.Y, rows, config, self.workers, metrics)


def _choose_powers(
    asking: _Asking, powers: dict[float, _Pairs], doubts: _Doubts
) -> tuple[float, tuple[float, float], _Doubts]:
    """Choose a power of values by its best pair of the others, then a pair, each by its best doubt.

    Returns the doubts that are as good then, too.
    """
    if len(powers) == 1 and len(doubts) == 1 and all(len(pairs) == 1 for pairs in powers.values()):
        ((power, (pair,)),) = powers.items()
        return power, pair, doubts
    found = []
    for power, pairs in powers.items():
        sums = asking.sums(power, pairs, doubts, _FEW)
        best = sums.sum(axis=2).argmax(axis=1)
        found.append((power, pairs, sums, sums[np.arange(len(pairs)), best]))
    tops = np.stack([by_pair[by_pair.sum(axis=1).argmax()] for *_, by_pair in found])
    power, pairs, sums, by_pair = found[as_good(tops, errors=1)[0]]
    chosen = as_good(by_pair)[0]
    return power, pairs[chosen], tuple(doubts[d] for d in as_good(sums[chosen]))


def _open_powers(config: Config) -> dict[float, _Pairs]:
    """Powers of values, and for each those of relevance and rarity, that may be chosen."""
    given = config.value_power
    if not config.normalize:
        return {1.0: ((0.0, 0.0),)}
    if config.relevance is not None or config.rarity is not None:
        return {1.0 if given is None else given: ((config.relevance or 0.0, config.rarity or 0.0),)}
    return _POWERS if given is None else {given: _POWERS[1.0 if given == 1 else 0.5]}


def _open_doubts(config: Config) -> _Doubts:
    """Doubts that there are to choose from."""
    if config.doubt is None and config.wide:
        return _DOUBTS
    return (USUAL_DOUBT if config.doubt is None else config.doubt,)
