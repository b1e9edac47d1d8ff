"""The phases of a training step against their floors.

``python -m benchmarks.step DATASET`` trains a part of an epoch on one thread with the functions of
`slidelearn.step` timed, and sets each phase beside the least that this machine could do it in: the
bytes that it must read and write over the measured rate of random gathers of rows, or of single
cache lines where no more lies together, the operations of its dense products over the measured rate
of a large product, and what is added to scores at random places, or is the argument of an
exponential, over the rate of that alone.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit
from threadpoolctl import threadpool_limits

from benchmarks.problem import load_part
from slidelearn import step as step_module
from slidelearn.choosing import choose_start
from slidelearn.compiling import compile_kernels
from slidelearn.datasets import Dataset
from slidelearn.model import prepare_features
from slidelearn.postings import Postings
from slidelearn.rules import choose_config
from slidelearn.training import Trainer
from slidelearn.workers import Workers

# Functions of a step by phase; what is nested in another timed function counts there alone.
_PHASES = {
    "hidden rows": ("hidden_rows",),
    "retrieval": ("retrieve_labels",),
    "pair logits": ("pair_logits", "pair_input_gradient"),
    "wide pairs": ("find_hits", "add_pair_scores"),
    "shared products": ("product", "input_gradient"),
    "wide tail": ("_score_tail",),
    "loss": (
        "stratified_loss",
        "pair_classes",
        "add_prior",
        "prior_gradient",
        "leave_out",
        "own_lengths",
    ),
    "grouping": (
        "group_entries",
        "_merge",
        "concatenate_hits",
        "join_strata",
        "keep_pairs",
        "take_hits",
    ),
    "hidden update": ("_update_dense",),
    "output update": ("_update_hashed",),
    "wide update": ("_update_wide",),
    "wide tail update": ("_update_wide_tail",),
}

_LINE = 64  # bytes of a cache line
_NO_LABELS = np.empty(0, np.int32)


class Clock:
    """Adds up the seconds of functions, each without those that it calls."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.stack: list[float] = []

    def wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, timed."""

        def timed(*arguments: Any, **options: Any) -> Any:
            self.stack.append(0.0)
            began = time.perf_counter()
            result = function(*arguments, **options)
            spent = time.perf_counter() - began
            self.seconds[name] += spent - self.stack.pop()
            if self.stack:
                self.stack[-1] += spent
            return result

        return timed


@njit(nogil=True)
def _gather(table: np.ndarray, rows: np.ndarray, out: np.ndarray) -> None:
    """Add rows (m,) of a table (N, d) up in out (d,)."""
    for row in rows:
        for j in range(table.shape[1]):
            out[j] += table[row, j]


@njit(nogil=True)
def _scatter(ids: np.ndarray, weights: np.ndarray, scores: np.ndarray) -> None:
    """Add weights (m,) to scores (n,) at ids (m,)."""
    for i in range(len(ids)):
        scores[np.uint32(ids[i])] += weights[i]


def measure_rates(n_rows: int, width: int, n_weights: int) -> dict[str, float]:
    """Bytes a second of a large copy and of random row gathers, operations of a large product.

    And bytes a second of single cache lines among the weights of the wide path, numbers that are
    added to scores of all rows at random places, and exponentials.
    """
    rng = np.random.default_rng(0)
    table = np.ones((n_rows, width), np.float32)
    out, rows = np.zeros(width, np.float32), rng.integers(0, n_rows, 200_000)
    _gather(table, rows[:10], out)
    gather = 4 * width * len(rows) / _fastest(lambda: _gather(table, rows, out))
    lines = np.ones((-(-4 * n_weights // _LINE), _LINE // 4), np.float32)
    out, rows = np.zeros(_LINE // 4, np.float32), rng.integers(0, len(lines), 2**20)
    line = _LINE * len(rows) / _fastest(lambda: _gather(lines, rows, out))
    copy = np.empty_like(table)
    copied = 2 * table.nbytes / _fastest(lambda: np.copyto(copy, table))
    a, b = np.ones((2048, 2048), np.float32), np.ones((2048, 2048), np.float32)
    with threadpool_limits(1, user_api="blas"):
        product = 2 * 2048**3 / _fastest(lambda: a @ b)
    ids, weights = rng.integers(0, n_rows, 2**20, np.int32), np.ones(2**20, np.float32)
    scores = np.zeros(n_rows, np.float32)
    _scatter(ids[:10], weights, scores)
    scatter = len(ids) / _fastest(lambda: _scatter(ids, weights, scores))
    results = np.empty_like(weights)
    exponential = len(weights) / _fastest(lambda: np.exp(weights, out=results))
    return {
        "copy": copied,
        "gather": gather,
        "line": line,
        "product": product,
        "scatter": scatter,
        "exponential": exponential,
    }


def _fastest(work: Callable[[], Any]) -> float:
    times = []
    for _ in range(3):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def floors(counts: dict[str, float], rates: dict[str, float]) -> dict[str, float]:
    """Seconds that each phase must take for the counted work."""
    row = 4 * (counts["width"] + 1)  # bytes of a neuron
    gather = {name: size / rates["gather"] for name, size in {
        "hidden rows": counts["features"] * row,
        "pair logits": (counts["pairs"] + counts["trained"]) * row,
        "output update": 2 * counts["moved"] * row,
        "hidden update": 2 * counts["moved_inputs"] * row,
    }.items()}  # fmt: skip
    product = counts["examples"] * counts["tail"] * (counts["width"] + 1)
    # A label's list of features is read, or a cache line of it for each of the example's; a hit's
    # weight is in a line of its own, and so is its square, when it moves. Scores that postings have
    # added up are read, and set back.
    lines = {
        "wide pairs": counts["searched"] + counts["hits"],
        "wide update": counts["trained hits"],
    }
    line = {name: _LINE * count / rates["line"] for name, count in lines.items()}
    wide = line | {
        "retrieval": (counts["postings"] + counts["touched"]) / rates["scatter"],
        "wide pairs": line["wide pairs"] + counts["lists"] / rates["gather"],
        "loss": (counts["pairs"] + counts["examples"] * counts["tail"]) / rates["exponential"],
    }
    return gather | wide | {
        "shared products": 4 * product / rates["product"],
        "output update": gather["output update"] + 2 * product / rates["product"],
    }  # fmt: skip


def count_work(trainer: Trainer, data: Dataset, steps: int) -> tuple[Clock, dict[str, float]]:
    """Run some steps with every phase timed; also what they did."""
    clock, counts = Clock(), defaultdict(float)
    names = [name for group in _PHASES.values() for name in group]
    originals = {name: getattr(step_module, name) for name in names}
    limit = {"left": steps}

    def stop() -> bool:
        limit["left"] -= 1
        return limit["left"] < 0

    update, find_hits, found = step_module._update, step_module.find_hits, list[Any]()

    def finding(*arguments: Any) -> Any:
        hits = find_hits(*arguments)
        found.append((*arguments[:3], len(hits.places)))
        return hits

    def counting(network: Any, config: Any, done: list[Any], *rest: Any) -> Any:
        moved = update(network, config, done, *rest)
        inputs = np.concatenate([piece.hidden[0].x.indices for piece in done])
        counts["examples"] += sum(piece.output.x.n for piece in done)
        counts["features"] += len(inputs)
        counts["pairs"] += sum(piece.n_pairs for piece in done)
        counts["trained"] += sum(len(piece.output.delta) for piece in done)
        counts["trained hits"] += sum(len(piece.hits.places) for piece in done if piece.hits)
        counts["moved"] += len(moved[-1])
        counts["moved_inputs"] += len(np.unique(inputs))
        return moved

    timed = originals | {"find_hits": finding}
    try:
        step_module._update = counting
        for name, function in timed.items():
            setattr(step_module, name, clock.wrap(name, function))
        with Workers(1) as workers:
            trainer.run_epoch(data.X, data.Y, workers, stop=stop)
    finally:
        step_module._update = update
        for name, function in originals.items():
            setattr(step_module, name, function)
    for x, wide, pairs, n_hits in found:
        counts["hits"] += n_hits
        own = np.repeat(np.diff(x.indptr), np.diff(pairs.indptr))
        lists = 4 * (wide.indptr[pairs.neurons + 1] - wide.indptr[pairs.neurons])
        read = lists < _LINE * own
        counts["lists"] += lists[read].sum()
        counts["searched"] += own[~read].sum()
        for i in range(x.n):
            labels = posted(trainer.network.postings, x.indices[x.indptr[i] : x.indptr[i + 1]])
            counts["postings"] += len(labels)
            counts["touched"] += len(np.unique(labels))
    counts["width"] = trainer.network.output.n_in
    counts["tail"] = min(trainer.config.tail, trainer.network.n_labels)
    return clock, counts


def posted(postings: Postings, features: np.ndarray) -> np.ndarray:
    """The labels that are filed under some features."""
    ends = zip(postings.indptr[features], postings.indptr[features + 1], strict=True)
    return np.concatenate([postings.labels[start:end] for start, end in ends] or [_NO_LABELS])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path, help="folder with train.*")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--hidden", type=int, help="width of the hidden layer")
    options = parser.parse_args()
    data = load_part(options.dataset, "train")
    hidden = {} if options.hidden is None else {"hidden": [options.hidden]}
    config = choose_config(data.X, data.Y, {"threads": 1} | hidden)
    compile_kernels(config, data.X.shape[1], data.Y.shape[1])
    X = prepare_features(data.X, config)
    with Workers(2) as workers:
        config, weights = choose_start(X, data.Y, config, workers)
        data = data._replace(X=prepare_features(X, config, weights))
        trainer = Trainer.start(config, data.X, data.Y, workers, weights)
    wide = trainer.network.wide
    n_weights = 0 if wide is None else len(wide.weights)
    rates = measure_rates(data.Y.shape[1], config.hidden[-1] + 1, max(n_weights, 1))
    count_work(trainer, data, 10)
    before = trainer.seconds
    clock, counts = count_work(trainer, data, options.steps)
    whole = trainer.seconds - before
    print_phases(clock, counts, rates, whole)


def print_phases(
    clock: Clock, counts: dict[str, float], rates: dict[str, float], whole: float
) -> None:
    """Print a row for each phase, in microseconds an example."""
    n, least = counts["examples"], floors(counts, rates)
    print("; ".join(f"{name} {rate / 1e9:.1f} G/s" for name, rate in rates.items()))
    print("\n| phase | us an example | share | floor | times the floor |\n|---|---|---|---|---|")
    rest = whole
    for phase, names in _PHASES.items():
        spent = sum(clock.seconds[name] for name in names)
        rest -= spent
        floor = least.get(phase)
        beside = ("", "") if not floor else (f"{1e6 * floor / n:.1f}", f"{spent / floor:.1f}")
        print(f"| {phase} | {1e6 * spent / n:.1f} | {100 * spent / whole:.0f} % | "
              f"{beside[0]} | {beside[1]} |")  # fmt: skip
    total = sum(least.values())
    print(f"| everything else | {1e6 * rest / n:.1f} | {100 * rest / whole:.0f} % | | |")
    print(
        f"| a step | {1e6 * whole / n:.1f} | 100 % | {1e6 * total / n:.1f} | {whole / total:.1f} |"
    )


if __name__ == "__main__":
    main()
