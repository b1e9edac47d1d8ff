"""Validation: what is measured after an epoch, and on which examples."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from slidelearn.config import Config
from slidelearn.csr import slice_rows, take_rows
from slidelearn.datasets import Dataset
from slidelearn.datasets.dataset import check_dataset
from slidelearn.errors import DataError
from slidelearn.metrics import recall_at_k, report
from slidelearn.model import prepare_features
from slidelearn.predicting import predict_topk
from slidelearn.reach import DEEPEST, Reach, measure_reaches
from slidelearn.training import Trainer
from slidelearn.workers import Workers

__all__ = ["SAMPLE", "Check", "make_check"]

SAMPLE = 256  # examples that recall@5 of the index is measured on
# That tell how far searches must go, half of them to choose by. So one search in eight finds less
# than the 0.99 that was asked for, where 640 left one in four, for 0.3 to 0.5 s more.
_SEARCHED = 1280
_K = 5  # labels that metrics and recall look at
_SCORES = 2 * 10**9  # most logits of a validation: a minute or so on two cores
_METRICS = ("p@1", "p@3", "p@5", "psp@1", "psp@3", "psp@5")


class Check(NamedTuple):
    """What is measured after an epoch, and on which examples.

    Without labels Y, a sample of the training examples serves to measure the index alone.
    """

    X: csr_matrix
    Y: csr_matrix | None
    inverse_propensity: NDArray[np.float64]

    def measure(
        self, trainer: Trainer, workers: Workers, *, last: bool = False
    ) -> tuple[dict[str, float], list[Reach]]:
        """Score the network; percent for P@k and PSP@k, a share for the recall.

        Also what searches of every scale find, if this is the ``last`` time.
        """
        network = trainer.network
        hashed = network.indexes[-1] is not None
        if self.Y is None and not hashed:
            return {}, []
        X = prepare_features(self.X, trainer.config, network.feature_weights)
        sample = slice_rows(X, 0, SAMPLE)
        scanned, depth = sample if self.Y is None else X, DEEPEST if last and hashed else _K
        exact = predict_topk(network, scanned, depth, exact=True, workers=workers).labels
        measured: dict[str, float] = {}
        reaches: list[Reach] = []
        if hashed:
            if last:
                searched = slice_rows(X, 0, _SEARCHED)
                reaches = measure_reaches(network, searched, exact[:SAMPLE], workers)
            found = predict_topk(network, sample, _K, exact=False, workers=workers).labels
            measured["recall@5"] = recall_at_k(found, exact[:SAMPLE], _K)
        if self.Y is not None:
            scores = report(exact[:, :_K], self.Y, self.inverse_propensity)
            measured |= {name: scores[name] for name in _METRICS} | {"n_valid": len(exact)}
        return measured, reaches


def make_check(
    data: Dataset, valid: Dataset | None, config: Config, weights: NDArray[np.float64]
) -> Check:
    """Choose what to measure: the validation examples, or a fixed sample of the training data."""
    if valid is None:
        X = take_rows(data.X, _sample(data.X.shape[0], _SEARCHED, config.seed))
        return Check(X, None, weights)
    valid = check_dataset(valid)
    if valid.X.shape[0] == 0:
        raise DataError("the validation data have 0 examples; give at least 1, or none of them")
    if (valid.X.shape[1], valid.Y.shape[1]) != (data.X.shape[1], data.Y.shape[1]):
        raise DataError(
            f"the validation data have {valid.X.shape[1]} features and {valid.Y.shape[1]} labels, "
            f"the training data {data.X.shape[1]} and {data.Y.shape[1]}; they must agree"
        )
    size = max(_SCORES // valid.Y.shape[1], SAMPLE)
    rows = _sample(valid.X.shape[0], size, config.seed)
    X, Y = take_rows(valid.X, rows), take_rows(valid.Y, rows)
    return Check(X, Y, weights)


def _sample(n: int, size: int, seed: int) -> NDArray[np.int64]:
    """At most ``size`` of n rows, in random order, so that the first are a sample, too."""
    return np.random.default_rng(seed).choice(n, min(n, size), replace=False)
