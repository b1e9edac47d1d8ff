"""Fitting: the one path from data to a model, with what is measured on the way."""

import math
import time
from dataclasses import replace
from typing import Any

import numpy as np

from slidelearn.calibration import hold_out, move_back
from slidelearn.checkpoint import CheckpointPlan, Checkpoints
from slidelearn.choosing import choose_start
from slidelearn.compacting import check_trainable
from slidelearn.compiling import compile_kernels
from slidelearn.config import Config
from slidelearn.csr import copy_csr
from slidelearn.datasets import Dataset
from slidelearn.datasets.dataset import check_dataset
from slidelearn.errors import DataError, SlideError
from slidelearn.footprint import check_memory
from slidelearn.growing import grow_network
from slidelearn.metrics import propensity
from slidelearn.model import Model, prepare_features, scale_rows
from slidelearn.rows import features_of
from slidelearn.rules import choose_config
from slidelearn.run import FitEvents, Run
from slidelearn.training import Trainer
from slidelearn.twins import choose_twin
from slidelearn.validation import SAMPLE, make_check
from slidelearn.workers import Workers

__all__ = ["FitEvents", "continue_model", "fit_model"]

_STEPS = 0.85  # share of a time limit after which steps end; the rest is for fitting margins
_GROWN = 1.1  # times as many examples after which searches are measured again


def fit_model(
    data: Dataset,
    overrides: dict[str, Any] | None = None,
    *,
    valid: Dataset | None = None,
    time_limit: float | None = None,
    copy: bool = True,
    checkpoints: CheckpointPlan | None = None,
    events: FitEvents = FitEvents(),  # noqa: B008 - a tuple, hence immutable
) -> Model:
    """Train a model, with every setting that ``overrides`` leave out chosen from the data.

    Of many examples some are left out of the training, for `calibration`.

    Parameters
    ----------
    data : Dataset
        Training examples.
    overrides : dict, optional
        Settings by the names of `Config`, as plain values.
    valid : Dataset, optional
        Examples to score after every epoch, by exact prediction; as wide as ``data``. With so
        many labels that this would take minutes, a random sample of them is scored: as many as
        keep examples times labels below 2e9.
    time_limit : float, optional
        Seconds of training, without compilation and validation. The learning rate has fallen
        to its end after 85 % of them, the step that exceeds these is the last, and the rest is for
        the classifiers of the labels and for tables.
    copy : bool
        False saves the memory of a copy: examples are then scaled and put in another order in the
        arrays of ``data``, which must not be used any more.
    checkpoints : CheckpointPlan, optional
        Where the run leaves checkpoints, and whether it goes on from one. The model that it then
        ends with has the same bits as without the break, unless there is a ``time_limit``. Whoever
        has saved the model may remove them: `remove_checkpoints`.
    events : FitEvents
        Hooks. The record of an epoch holds ``epoch``, ``train_seconds`` (so far),
        ``compile_seconds``, ``examples_per_second``, ``loss``, ``active_share`` (of each layer) and
        ``index_seconds``; with tables on the output layer ``recall@5`` of the index, and with
        ``valid`` P@k and PSP@k in percent and how many examples they are of, ``n_valid``.

    Returns
    -------
    Model
        Ctrl-C ends the training early: the model is then as good as it has become, without
        margins, and ``facts["interrupted"]`` is True. Ctrl-C before the first step goes through.

    Raises
    ------
    DataError
        If there are no examples, features or labels, or ``valid`` does not fit ``data``.
    ConfigError
        If an override is unknown or out of its range.
    SlideError
        If the loss becomes infinite or NaN.
    ModelError
        If a checkpoint cannot be written, or is of other data or settings.

    Examples
    --------
    >>> from scipy.sparse import csr_matrix
    >>> data = Dataset(csr_matrix([[1.0, 0.0], [0.0, 1.0]]), csr_matrix([[1, 0], [0, 1]]))
    >>> fit_model(data, {"epochs": 1}).predict_topk(data.X, 1).labels.tolist()
    [[0], [1]]
    """
    data = _checked(data)
    limit = math.inf if time_limit is None else time_limit
    if not limit > 0:
        raise SlideError(f"time limit is {time_limit} seconds, give more than 0")
    config = choose_config(data.X, data.Y, overrides)
    check_memory(data, config, copy=copy)
    weights = propensity(data.Y)
    check = make_check(data, valid, config, weights)
    compile_seconds = compile_kernels(config, *_widths(data))
    saver = None if checkpoints is None else Checkpoints(checkpoints, config, data)
    with Workers(config.n_threads) as workers:
        ready, whole = _parts(data, config, copy)
        with workers.interruptible(events.should_interrupt):
            trainer = _start(config, ready, whole, workers)
        _restore(saver, trainer, events)
        trainer.time_limit = limit * (_STEPS if config.margin else 1.0)
        run = Run(trainer, ready, check, events, compile_seconds, trainer.time_limit, whole, saver)
        run.train(config.epochs - trainer.epoch, workers)
    facts = {"n_examples": data.X.shape[0], "n_measured": data.X.shape[0]} | run.facts()
    return Model(
        trainer.config, trainer.network, data.label_names, data.feature_names, weights, facts
    )


def continue_model(
    model: Model,
    data: Dataset,
    *,
    epochs: int,
    checkpoints: CheckpointPlan | None = None,
    events: FitEvents = FitEvents(),  # noqa: B008 - a tuple, hence immutable
) -> Model:
    """Train a model further on more examples, which may have labels that it has never seen.

    Labels keep their ids; the columns of ``data.Y`` beyond the model's are new ones, and the
    output layer grows. The learning rate stays at its full height. How far searches must go for a
    recall is measured again if the examples have become a tenth more since it was, and ``data`` has
    enough of them for it.

    Parameters
    ----------
    model : Model
        What to start from. Its arrays are trained in place: do not use it any more.
    data : Dataset
        Examples with the model's features, and at least the model's labels.
    epochs : int
        Passes over ``data``.
    checkpoints : CheckpointPlan, optional
        See `fit_model`. To go on from one takes the same model and the same data.
    events : FitEvents
        Hooks, see `fit_model`.

    Raises
    ------
    DataError
        If there are no examples, the features differ or labels are missing.
    SlideError
        If the run needs more memory than there is, or the loss becomes infinite or NaN.
    ModelError
        If the model is a compact copy, or a checkpoint cannot be written, or is of another model,
        data or settings.
    """
    check_trainable(model)
    data = _checked(data)
    n_known = model.network.n_labels
    if data.X.shape[1] != model.network.n_features or data.Y.shape[1] < n_known:
        raise DataError(
            f"data have {data.X.shape[1]} features and {data.Y.shape[1]} labels, the model has "
            f"{model.network.n_features} and {n_known}; give as many features, and all its labels"
        )
    config = replace(model.config, epochs=epochs, schedule="constant")
    check_memory(data, config, copy=True, known=model.network)
    compile_seconds = compile_kernels(config, *_widths(data))
    weights = np.concatenate([model.inverse_propensity, propensity(data.Y)[n_known:]])
    check, done = make_check(data, None, config, weights), model.facts
    saver = None
    if checkpoints is not None:
        saver = Checkpoints(checkpoints, config, data, first=done["steps"])
    with Workers(config.n_threads) as workers:
        X = prepare_features(data.X, config, model.network.feature_weights)
        ready = data._replace(X=X)
        network, own = grow_network(model.network, config, ready.X, ready.Y, workers)
        trainer = Trainer(
            config,
            network,
            own,
            features=features_of(ready.X),
            epoch=done["epochs"],
            step=done["steps"],
            seconds=done["train_seconds"],
        )
        trainer.make_tables(ready.X, workers)
        _restore(saver, trainer, events)
        n = done["n_examples"] + data.X.shape[0]
        n_measured = done.get("n_measured", done["n_examples"])
        grown = not model.reaches or n >= _GROWN * n_measured
        measures = grown and data.X.shape[0] >= SAMPLE
        run = Run(
            trainer, ready, check, events, compile_seconds,
            saver=saver, measures=measures, reaches=model.reaches,
        )  # fmt: skip
        run.train(epochs - (trainer.epoch - done["epochs"]), workers)
    if measures and not run.interrupted:
        n_measured = n
    facts = done | {"n_examples": n, "n_measured": n_measured} | run.facts()
    names = model.label_names if data.label_names is None else data.label_names
    return Model(model.config, trainer.network, names, model.feature_names, weights, facts)


def _start(config: Config, ready: Dataset, whole: Dataset | None, workers: Workers) -> Trainer:
    """Weigh the features of all examples, in place, and begin with those that are ready."""
    began = time.perf_counter()
    config, weights = choose_start(ready.X, ready.Y, config, workers)
    if len(weights) or config.value_power != 1:
        scale_rows((whole or ready).X, weights, config.value_power)
    config = choose_twin(ready.X, ready.Y, config, workers)
    trainer = Trainer.start(config, ready.X, ready.Y, workers, weights)
    trainer.seconds = time.perf_counter() - began
    return trainer


def _restore(saver: Checkpoints | None, trainer: Trainer, events: FitEvents) -> None:
    """Go on from a checkpoint, if there is one and it should be."""
    if saver is not None and saver.restore(trainer, events.note):
        events.note(f"resumed after {trainer.step} steps, {trainer.seconds:.0f} s of training")


def _checked(data: Dataset) -> Dataset:
    """A canonical dataset that has something to learn."""
    data = check_dataset(data)
    sizes = (
        (data.X.shape[0], "examples"),
        (data.X.shape[1], "features"),
        (data.Y.shape[1], "labels"),
    )
    for size, what in sizes:
        if size == 0:
            raise DataError(f"the data have 0 {what}; training needs at least 1")
    return data


def _parts(data: Dataset, config: Config, copy: bool) -> tuple[Dataset, Dataset | None]:
    """Examples ready for the network, and the same with those for calibration behind, if any."""
    whole = data._replace(X=copy_csr(data.X), Y=copy_csr(data.Y)) if copy else data
    if config.normalize:
        scale_rows(whole.X)
    if not (config.calibration and config.calibrates(data.Y.shape[1])):
        return whole, None
    held = hold_out(data.X.shape[0], config.calibration, config.seed)
    return whole._replace(X=move_back(whole.X, held), Y=move_back(whole.Y, held)), whole


def _widths(data: Dataset) -> tuple[int, int]:
    return data.X.shape[1], data.Y.shape[1]
