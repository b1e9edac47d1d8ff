"""Rules: settings that are chosen from the shape of the data."""

import dataclasses
import math
from typing import Any

from scipy.sparse import csr_matrix

from slidelearn.config import Config

__all__ = ["choose_config"]

_NARROW = 2000  # labels, and features unless they are dense, up to which every neuron is active
_VAST = 100_000  # labels from which on more of them are computed, where an example has ``_SEVERAL``
_SEVERAL = 2  # labels of an example, on average
_MANY = 500_000  # examples from which on a wider hidden layer costs too much time
# What tables of the output layer find where those of the wide path found less. In training they are
# not asked: beside the wide path's, they changed nothing (P@1 on commits 56.2 with 8 neurons and
# without, in four fifths of the time).
_BESIDE_WIDE: dict[str, Any] = {"limit": 0, "predict_limit": 8}
_ENOUGH = 50_000  # examples from which on 1,000 of them can be spared
_LARGE = 100_000  # examples that need neither a long tail nor many rivals
_LONE = 1.5  # labels of an example, on average, up to which it is taken to have one
_WEIGHTS = 300_000_000  # of all layers: 1.2 GB
_NARROWEST = 128  # hidden neurons, however many weights that makes


def choose_config(X: csr_matrix, Y: csr_matrix, overrides: dict[str, Any] | None = None) -> Config:
    """Choose every setting for features X (n, d) and labels Y (n, l); ``overrides`` win.

    Raises
    ------
    ConfigError
        If an override is unknown or out of its range.
    """
    chosen, given = _size_rules(X, Y) | _dense_rules(X), overrides or {}
    config = Config.from_dict(given, base=Config.from_dict(chosen))
    kept = {"vote", "twin", "margin", "calibration"} & set(given)
    if not kept and not given.get("cooccurrence"):  # 0 leaves nothing to choose, but the others
        config = dataclasses.replace(config, calibration=_calibration(config, *Y.shape))
    if config.calibration:  # twins are weighed then
        config = dataclasses.replace(config, twin=config.twin or 0.0)
    if config.wide == 0:
        return config
    found = {name: n for name, n in _BESIDE_WIDE.items() if name not in given.get("tables", {})}
    return dataclasses.replace(config, tables=dataclasses.replace(config.tables, **found))


def _calibration(config: Config, n: int, n_labels: int) -> int:
    """Examples that are left out for calibration: of many, where there is something to choose."""
    return max(1000, n // 100) if config.calibrates(n_labels) and n >= _ENOUGH else 0


def _size_rules(X: csr_matrix, Y: csr_matrix) -> dict[str, Any]:
    """Settings that follow the numbers of examples, features and labels.

    Where features and labels are few, all neurons are cheaper to compute than to look up, and the
    exact softmax needs no wide path beside it (P@1 with and without: 63.9 and 64.9 on 1,836
    features and 159 labels, 67.6 and 68.8 on 500 and 983), nor what labels say of each other
    (bibtex: 64.9 without, 64.7 with). Few labels of many features need it: 90.2 and 89.4 on 7,462
    features and 100 labels, 35.7 and 33.8 on 97,087 and 1,000, 72.1 and 65.3 on 7,462 and 1,800,
    46.4 and 22.9 on 1,500 labels with 2 to 4 examples each, in a third of the time. Among very many
    labels more hard negatives, 64 and not 16, raised P@1 on 200,000 of the calls from 41.0 to 41.5;
    where an example has one label or two they only take time (9.0 and 9.1 on 145,473 glosses, 15.2
    and 9.7 s). A longer tail changes nothing on the calls (54.9, 40.2 and 32.0 with 200 and with
    1,000). Beside a wide path, one pass learns nearly all there is to learn: a second one added 0.2
    to a P@1 of 55.9 on 160,000 examples, 0.1 to 27.2 on 10,000 of these and 0.2 to 10.4 on 32,000
    passages, and took 0.9 from 40.5 and 0.2 from 62.3 on docstrings, 0.3 from 32.1 on 40,000 of the
    calls.
    """
    (n, n_features), n_labels = X.shape, Y.shape[1]
    if n_labels <= _NARROW and (n_features <= _NARROW or _is_dense(X)):
        return {
            "hidden": [_fitting(2048, n_features, n_labels)],
            "epochs": _passes(n),
            "tail": _NARROW,
            "wide": 0.0,
            "temperature": 10.0,
            "cooccurrence": 0.0,
        }
    # Ranking the centroids must not cost more than the neurons of a bucket: they stop at 1,024.
    tables = {"n_buckets": min(1024, math.ceil(math.sqrt(8 * n_labels)))}
    if n_labels > _VAST and Y.nnz >= _SEVERAL * n:
        tables["wide_limit"] = 64
    lone = Y.nnz < _LONE * n
    return {
        "hidden": [_fitting(_width(n, n_labels, lone=lone), n_features, n_labels)],
        "epochs": 1,
        "tables": tables,
        "tail": 200 if n >= _LARGE else 300,
    } | _margin_rules(n, n_labels, lone=lone)


def _margin_rules(n: int, n_labels: int, *, lone: bool) -> dict[str, Any]:
    """How much the labels' classifiers are to learn and weigh beside a wide path.

    Where examples are too few to calibrate, a strength of 3 instead of 1 raised P@1 on seven of
    eight sets of 10,000 to 36,000 by 0.1 to 0.9; narrow data keep 1 and lose 0.5 with 2. Where
    examples have several labels, 40 rivals and a cost of 1 instead of 15 and 0.5 raised P@1, P@3
    and P@5 from 50.4, 36.9, 29.1 to 51.5, 37.4, 29.4 on 94,000 of the calls, for a tenth of the
    time; on 173,000 commits they changed nothing, for a fifth, nor on 1,500 labels, for a half.
    """
    more = n < _LARGE and n_labels > _NARROW and not lone
    return {"margin": 3.0} | ({"rivals": 40, "margin_cost": 1.0} if more else {})


def _passes(n: int) -> int:
    """Passes over n examples where no wide path knows most before the first one."""
    return 5 if n < _ENOUGH else 2 if n < _LARGE else 1


def _width(n: int, n_labels: int, *, lone: bool) -> int:
    """Width of the hidden layer of many labels or features: what still paid, as far as time allows.

    P@1 with 512, 1,024 and 2,048: 63.4, 63.4 and 63.6 on 159 labels, 69.2, 69.0 and 69.7 on 983;
    with 512 and 1,024: 57.9 and 58.8 on 44,658. Where examples have one label, 1,024 gain nothing:
    with 256, 512 and 1,024 42.0, 42.4 and 41.9 on 26,735 labels, 56.3, 56.8 and 56.5 on 12,932,
    10.0, 10.2 and 10.4 on 12,510. On 200,000 of the calls, with 482,580 labels, 1,024 lost 0.4 to
    512 and took a third longer; many examples would take too long.
    """
    return 1024 if n_labels <= _VAST and n < _MANY and not lone else 512


def _fitting(width: int, n_features: int, n_labels: int) -> int:
    """Halve a width until all weights fit into memory."""
    while width > _NARROWEST and (n_features + n_labels) * width > _WEIGHTS:
        width //= 2
    return width


def _is_dense(X: csr_matrix) -> bool:
    """Whether more than half of the features (n, d) are not zero."""
    return bool(X.nnz > 0.5 * X.shape[0] * X.shape[1])


def _dense_rules(X: csr_matrix) -> dict[str, Any]:
    """Settings for features of which more than half are not zero, such as measurements.

    The length of such an example says something, and the wide path would hold a weight for almost
    every pair of a feature and a label. Few examples are seen often, in small batches.
    """
    n = X.shape[0]
    if not _is_dense(X):
        return {}
    rules: dict[str, Any] = {
        "hidden": [512],
        "normalize": False,
        "value_power": 1.0,
        "relevance": 0.0,
        "rarity": 0.0,
        "wide": 0.0,
        "neighbours": 0,
        "margin": 0.0,
        "epochs": _passes(n),
    }
    if n < 5000:
        rules |= {"batch_size": 64, "epochs": min(max(20_000 // n, 5), 30)}
    return rules
