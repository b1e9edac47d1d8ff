"""The report of the demo: the model beside what it has to beat, on held-out functions."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from slidelearn.datasets import Dataset
from slidelearn.demo.baselines import nearest_neighbours, popularity
from slidelearn.demo.corpus import Problem
from slidelearn.metrics import report as score
from slidelearn.model import Model

__all__ = ["Report", "measure", "print_report"]

_KS = (1, 3, 5)


class Report(NamedTuple):
    """What the demo found; plain values."""

    n_train: int
    n_held_out: int
    n_labels: int
    rows: list[list[Any]]  # who predicts, then P@1, P@3 and P@5
    train_share: float  # of the output neurons, that an example computed in training
    predict_share: float  # the same with hashed prediction
    train_seconds: float


def measure(model: Model, problem: Problem, held_out: int, train_share: float) -> Report:
    """Score the model and the baselines on a sample of the held-out functions.

    Parameters
    ----------
    model : Model
        Trained on ``problem.train``.
    problem : Problem
        The data.
    held_out : int
        Size of the sample.
    train_share : float
        Share of the output neurons that was active in training.
    """
    train, test = problem.train, _sample(problem.test, held_out)
    n, n_labels = test.Y.shape
    k = max(_KS)
    hashed = model.predict_topk(test.X, k)
    predictors: list[tuple[str, Callable[[], NDArray[np.int64]]]] = [
        ("the most popular names", lambda: popularity(train.Y, n, k)),
        ("10 nearest functions", lambda: nearest_neighbours(train.X, train.Y, test.X, k)),
        ("slidelearn, every neuron", lambda: model.predict_topk(test.X, k, exact=True).labels),
        ("slidelearn, retrieved neurons", lambda: hashed.labels),
    ]
    rows = []
    for name, predict in predictors:
        scores = score(predict(), test.Y)
        rows.append([name, *(scores[f"p@{k}"] for k in _KS)])
    return Report(
        n_train=train.X.shape[0],
        n_held_out=n,
        n_labels=n_labels,
        rows=rows,
        train_share=train_share,
        predict_share=hashed.active / (n * n_labels),
        train_seconds=float(model.facts["train_seconds"]),
    )


def print_report(report: Report, console: Console) -> None:
    """Show the table, and how little was computed."""
    table = Table("predicted by")
    for k in _KS:
        table.add_column(f"P@{k}", justify="right")
    for name, *scores in report.rows:
        table.add_row(name, *(f"{value:.1f}" for value in scores))
    console.print(table)
    console.print(
        f"{report.n_labels:,} labels, the names that {report.n_train:,} functions call; "
        f"P@k in % on {report.n_held_out:,} functions from other files.\n"
        f"An example computed {100 * report.train_share:.1f} % of the output neurons in training "
        f"({report.train_seconds:.0f} s) and {100 * report.predict_share:.1f} % in prediction.",
        soft_wrap=True,
    )


def _sample(data: Dataset, size: int) -> Dataset:
    rows = np.sort(np.random.default_rng(0).permutation(data.X.shape[0])[:size])
    return data._replace(X=data.X[rows], Y=data.Y[rows])
