"""What each part of slidelearn is worth, at equal wall-clock and over several seeds.

``python -m benchmarks.ablation DATASET`` trains the default network on DATASET/train.* less a
validation part, then variants that get as many seconds as it took, and prints mean and standard
deviation of P@k and PSP@1 on the validation part. A variant that is done sooner is trained for
further epochs; the learning rate falls over the seconds.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np

from benchmarks.problem import Split, load_part, split_validation
from slidelearn import step as step_module
from slidelearn import training as training_module
from slidelearn.config import Config
from slidelearn.fitting import fit_model
from slidelearn.layers import Pairs
from slidelearn.metrics import report
from slidelearn.rules import choose_config
from slidelearn.sampling import Chances, Tail

_METRICS = ("p@1", "p@3", "p@5", "psp@1")


class Variant(NamedTuple):
    """A change of the default: settings, and functions of the training that are replaced."""

    settings: dict[str, Any]
    patch: Callable[[], Any] | None = None


def exact_retrieval() -> Any:
    """An oracle: the neurons with the largest logits of the deep path, found by scoring all."""

    def retrieve(network: Any, x: Any, h: Any, size: Any, first: Any) -> Pairs:
        k = size.limit + size.wide_limit
        logits = h.matrix() @ network.output.weight.T
        best = np.sort(np.argpartition(-logits, k, axis=1)[:, :k].astype(np.int32), axis=1)
        return Pairs(np.arange(h.n + 1, dtype=np.int64) * k, best.ravel())

    return patch.object(step_module, "retrieve_labels", retrieve)


def nothing_retrieved() -> Any:
    """No hard negatives: an example's own labels and the tail."""

    def retrieve(network: Any, x: Any, h: Any, size: Any, first: Any) -> Pairs:
        return Pairs(np.zeros(h.n + 1, np.int64), np.empty(0, np.int32))

    return patch.object(step_module, "retrieve_labels", retrieve)


def uniform_tail() -> Any:
    """A tail that is drawn uniformly, with its weights."""
    original = training_module.tail_chances

    def chances(counts: np.ndarray, size: int) -> Chances:
        return original(np.ones_like(counts), size)

    return patch.object(training_module, "tail_chances", chances)


def mixed_tail() -> Any:
    """A tail of which one half is drawn uniformly and one half as often as labels occur."""
    original = training_module.tail_chances

    def chances(counts: np.ndarray, size: int) -> Chances:
        each = 0.5 * (original(counts, size).each + original(np.ones_like(counts), size).each)
        return Chances(each, np.cumsum(each))

    return patch.object(training_module, "tail_chances", chances)


def without_weights() -> Any:
    """The strata's weights left out: every member of the tail counts once."""
    original = training_module.draw_tail

    def draw(chances: Any, rng: np.random.Generator) -> Tail:
        tail = original(chances, rng)
        return Tail(tail.neurons, np.ones_like(tail.weights))

    return patch.object(training_module, "draw_tail", draw)


def in_batch_labels(n: int) -> Any:
    """The batch's labels as its tail, each weighted by one over its chance to be in a batch.

    ``n`` is the number of examples.
    """
    original = training_module.train_step

    def step(network: Any, config: Config, X: Any, Y: Any, **options: Any) -> Any:
        labels = np.unique(Y.indices)
        absent = (1 - counts_of["labels"][labels] / n) ** config.batch_size
        tail = Tail(labels.astype(np.int32), (1 / (1 - absent)).astype(np.float32))
        return original(network, config, X, Y, **options | {"tail": tail})

    counts_of: dict[str, np.ndarray] = {}
    chances = training_module.tail_chances

    def note(counts: np.ndarray, size: int) -> Chances:
        counts_of["labels"] = counts
        return chances(counts, size)

    return _both(
        lambda: patch.object(training_module, "tail_chances", note),
        lambda: patch.object(training_module, "train_step", step),
    )()


def variants(config: Config, n: int, n_labels: int) -> dict[str, Variant]:
    """Every variant by name; those of retrieval only where there are tables."""
    width = config.hidden[0]
    always = {
        "default": Variant({}),
        "no memory": Variant({"neighbours": 0}),
        "no margins": Variant({"margin": 0.0}),
        "no co-occurrence": Variant({"cooccurrence": 0.0}),
        "no calibration": Variant({"calibration": 0}),
        "no prior": Variant({"prior": 0.0, "prior_lr": 0.0}),
        "features unweighted": Variant({"relevance": 0.0, "rarity": 0.0}),
        "values as they are": Variant({"value_power": 1.0}),
        "random start": Variant({"start": "random"}),
        f"hidden {width // 2}": Variant({"hidden": [width // 2]}),
        f"hidden {2 * width}": Variant({"hidden": [2 * width]}),
        "no dropout": Variant({"dropout": 0.0}),
        "BCE": Variant({"loss": "bce"}),
        "squared hinge": Variant({"loss": "hinge"}),
        "SGD": Variant({"optimizer": "sgd"}),
        "lazy Adam": Variant({"optimizer": "adam", "lr": 0.001, "hidden_lr": 0.001}),
    }
    # Beside a wide path the output layer has no tables; centroids are those of "no wide path".
    families = {
        f"no wide path, {name}": Variant({"wide": 0.0, "tables": {"family": name} | sizes})
        for name, sizes in (
            ("simhash", {"k": 9, "l": 10}),
            ("dwta", {"k": 3, "l": 10}),
        )
    }
    searched = {
        "no wide path": Variant({"wide": 0.0}),
        "no retrieval": Variant({}, nothing_retrieved),
        "exact retrieval (deep)": Variant({}, exact_retrieval),
        "uniform tail": Variant({}, uniform_tail),
        "half uniform tail": Variant({}, mixed_tail),
        f"tail {config.tail // 2}": Variant({"tail": config.tail // 2}),
        f"tail {2 * config.tail}": Variant({"tail": 2 * config.tail}),
        "uniform tail alone": Variant({}, _both(uniform_tail, nothing_retrieved)),
        "in-batch labels as tail": Variant({}, partial(in_batch_labels, n)),
        "tail without weights": Variant({}, without_weights),
    }
    return always | (searched | families if config.tail < n_labels else {})


def _both(*patches: Callable[[], Any]) -> Callable[[], Any]:
    """Several patches as one."""

    @contextmanager
    def both() -> Iterator[None]:
        first, second = patches
        with first(), second():
            yield

    return both


def run(settings: dict[str, Any], split: Split, limit: float | None) -> dict[str, float]:
    """Train as a user would, for at most ``limit`` seconds, and score the validation part."""
    train, valid = split
    if limit is not None:  # the seconds end the run
        settings = settings | {"epochs": 100}
    model = fit_model(train, settings, time_limit=limit)
    top = model.predict_topk(valid.X, 5, exact=True)
    scores = report(top.labels, valid.Y, model.inverse_propensity)
    return {name: scores[name] for name in _METRICS} | {"seconds": model.facts["train_seconds"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path, help="folder with train.*")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--limit", type=int, help="training examples to use")
    parser.add_argument("--only", help="names of variants, separated by commas")
    parser.add_argument("--output", type=Path, help="JSON file for the figures")
    options = parser.parse_args()
    split = split_validation(load_part(options.dataset, "train"), options.limit)
    base = choose_config(split.train.X, split.train.Y)
    chosen = variants(base, *split.train.Y.shape)
    names = options.only.split(",") if options.only else list(chosen)
    if unknown := [name for name in names if name not in chosen]:
        parser.error(f"there is no variant {unknown[0]!r}; there are {', '.join(chosen)}")
    figures: dict[str, list[dict[str, float]]] = {}
    print("| variant | seconds | P@1 | P@3 | P@5 | PSP@1 |\n|---|---|---|---|---|---|")
    limit = None
    for name in dict.fromkeys(["default", *names]):
        settings, patch = chosen[name]
        for seed in range(options.seeds):
            with patch() if patch is not None else nullcontext():
                measured = run(settings | {"seed": seed}, split, limit)
            figures.setdefault(name, []).append(measured)
        if name == "default":
            limit = float(np.mean([figure["seconds"] for figure in figures[name]]))
        print(_row(name, figures[name]), flush=True)
        if options.output is not None:
            options.output.write_text(json.dumps(figures, indent=1))


def _row(name: str, figures: list[dict[str, float]]) -> str:
    cells = [name, f"{np.mean([figure['seconds'] for figure in figures]):.0f}"]
    for metric in _METRICS:
        values = [figure[metric] for figure in figures]
        cells.append(f"{np.mean(values):.2f} ± {np.std(values):.2f}")
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
