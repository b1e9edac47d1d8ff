"""Compiling: run every kernel that a training run will need once, on a problem of no size."""

import time
from dataclasses import replace

import numpy as np
from scipy.sparse import csr_matrix

from slidelearn.choosing import choose_start
from slidelearn.config import Config, TableConfig
from slidelearn.leave_one_out import plain_metric, rank_left_out
from slidelearn.model import prepare_features
from slidelearn.predicting import predict_topk
from slidelearn.searching import score_retrieved
from slidelearn.training import Trainer
from slidelearn.workers import Workers

__all__ = ["compile_kernels"]

_EXAMPLES, _FEATURES, _HIDDEN, _LABELS, _TAIL = 96, 8192, 24, 32, 8
_done: set[tuple[Config, int, int]] = set()  # problems that this process has compiled for


def compile_kernels(config: Config, n_features: int, n_labels: int) -> float:
    """Compile, or load from Numba's cache, what a run with these settings will call.

    A tiny network with the same kinds of layers, tables, loss and optimizer is trained for two
    steps and asked for predictions.

    Returns
    -------
    float
        Seconds that it took; 0 if this process has done it before.

    Examples
    --------
    >>> _ = compile_kernels(Config(hidden=(8,)), n_features=5, n_labels=3)
    >>> compile_kernels(Config(hidden=(8,)), n_features=5, n_labels=3)
    0.0
    """
    d, n_neurons = min(n_features, _FEATURES), min(n_labels, _LABELS)
    tiny = _shrink(config, searched=config.tail < n_labels)
    key = tiny, d, n_neurons
    if key in _done:
        return 0.0
    began = time.perf_counter()
    X, Y = _problem(d, n_neurons)
    with Workers(1) as workers:
        ready = prepare_features(X, tiny)
        # of one metric: choosing may stop at several, and kernels are compiled for each number
        rank_left_out(ready, Y, np.arange(_EXAMPLES), tiny, workers, plain_metric(X.shape, 0.0))
        tiny, weights = choose_start(ready, Y, tiny, workers)
        trainer = Trainer.start(tiny, ready, Y, workers, weights)
        trainer.run_epoch(ready, Y, workers)
        trainer.fit_index(len(tiny.hidden), ready, workers)
        predict_topk(trainer.network, ready, 1, exact=False, workers=workers)
        trainer.fit_margins(ready, Y, workers)
        if trainer.network.indexes[-1] is not None:
            score_retrieved(trainer.network, ready)
        trainer.keep_rows(workers)
        for exact in (True, False):
            predict_topk(trainer.network, ready, 1, exact=exact, workers=workers)
    _done.add(key)
    return time.perf_counter() - began


def _shrink(config: Config, *, searched: bool) -> Config:
    """Settings of the same kind for a tiny network; ``searched`` says if its output has tables."""
    return replace(
        config,
        hidden=tuple(min(width, _HIDDEN) for width in config.hidden),
        hidden_tables=config.hidden_tables and _shrink_tables(config.hidden_tables),
        tables=_shrink_tables(config.tables),
        tail=min(config.tail, _TAIL if searched else _LABELS),
        epochs=1,
        batch_size=_EXAMPLES // 2,
        lr=0.01,
        hidden_lr=0.01,
        wide_lr=0.01,
        threads=1,
        seed=0,
    )


def _shrink_tables(tables: TableConfig) -> TableConfig:
    """Few hashes in few tables, rebuilt at every step."""
    return replace(tables, k=min(tables.k, 2), l=min(tables.l, 2), rebuild_every=1)


def _problem(n_features: int, n_labels: int) -> tuple[csr_matrix, csr_matrix]:
    """Examples with up to four random features, and two labels each that others have, too."""
    rng, rows = np.random.default_rng(0), np.arange(_EXAMPLES)
    columns = rng.integers(0, n_features, 4 * _EXAMPLES)
    ones = np.ones(4 * _EXAMPLES, np.float32)
    X = csr_matrix((ones, (np.repeat(rows, 4), columns)), shape=(_EXAMPLES, n_features))
    labels = np.concatenate((rows % n_labels, (rows + 1) % n_labels))
    Y = csr_matrix(
        (np.ones(len(labels), np.uint8), (np.tile(rows, 2), labels)), shape=(_EXAMPLES, n_labels)
    )
    Y.data[:] = 1  # a label that was there twice is there once
    return X, Y
