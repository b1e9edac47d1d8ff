"""Rules: settings that are chosen from the shape of the data."""

import math
from typing import Any

from scipy.sparse import csr_matrix

from slidelearn.config import Config

__all__ = ["choose_config"]

_NARROW = 2000  # labels up to which every neuron is active
_VAST = 100_000  # labels from which on more of them are computed


def choose_config(X: csr_matrix, Y: csr_matrix, overrides: dict[str, Any] | None = None) -> Config:
    """Choose every setting for features X (n, d) and labels Y (n, l); ``overrides`` win.

    Raises
    ------
    ConfigError
        If an override is unknown or out of its range.
    """
    chosen = _size_rules(*Y.shape) | _dense_rules(X)
    return Config.from_dict(overrides or {}, base=Config.from_dict(chosen))


def _size_rules(n: int, n_labels: int) -> dict[str, Any]:
    """Settings that follow the numbers of examples and labels.

    All neurons of a narrow output layer are cheaper to compute than to look up, and the exact
    softmax needs no wide path beside it (P@1 with and without: 60.7 and 61.8 on 159 labels, 62.2
    and 66.3 on 983). Among very many labels a few hundred say little of what else scores high: more
    of them raised P@1 on 200,000 of the calls from 41.0 to 41.5. The first pass over many examples
    learns nearly all there is to learn: a second one added 0.2 to a P@1 of 55.9 on 160,000.
    """
    rules: dict[str, Any] = {"epochs": 5 if n < 50_000 else 2 if n < 100_000 else 1}
    if n_labels <= _NARROW:
        return rules | {"tail": _NARROW, "wide": 0.0, "temperature": 10.0}
    # Ranking the centroids must not cost more than the neurons of a bucket: they stop at 1,024.
    n_buckets = min(1024, math.ceil(math.sqrt(8 * n_labels)))
    if n_labels <= _VAST:
        return rules | {"tables": {"n_buckets": n_buckets}}
    return rules | {"tail": 1000, "tables": {"n_buckets": n_buckets, "wide_limit": 64}}


def _dense_rules(X: csr_matrix) -> dict[str, Any]:
    """Settings for features of which more than half are not zero, such as measurements.

    The length of such an example says something, and the wide path would hold a weight for almost
    every pair of a feature and a label. Few examples are seen often, in small batches.
    """
    n, d = X.shape
    if X.nnz <= 0.5 * n * d:
        return {}
    rules: dict[str, Any] = {"normalize": False, "wide": 0.0, "neighbours": 0}
    if n < 5000:
        rules |= {"batch_size": 64, "epochs": min(max(20_000 // n, 5), 30)}
    return rules
