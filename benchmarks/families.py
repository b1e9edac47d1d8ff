"""Hash families on a trained layer: what share of the best neurons each finds, at which cost.

``python -m benchmarks.families DATASET`` trains the default network on DATASET/train.*, less a
validation part, files its output neurons with every family, and looks the validation examples up.
Recall@10 is the share of the ten neurons with the largest logits of the deep path; "seen" the share
of all neurons that a lookup collects before any is scored.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.problem import load_part, split_validation
from slidelearn.config import TableConfig
from slidelearn.fitting import fit_model
from slidelearn.index import Lookup, NeuronIndex
from slidelearn.model import Model
from slidelearn.network import hidden_rows
from slidelearn.rows import Rows, sparse_rows
from slidelearn.workers import Workers

_QUERIES = 2000  # validation examples that are looked up, and examples to centre on
_K = 10
_PROBES = (1, 4, 16)
_OF_CENTROIDS = (4, 16, 64, 256)  # whose buckets are smaller


def settings(n: int) -> list[dict[str, Any]]:
    """Each family at two or three sizes for a layer of n neurons."""
    bits = int(np.log2(n))
    many = min(1024, int(np.ceil(np.sqrt(8 * n))))
    return [
        {"family": "centroids", "n_buckets": many, "l": 1},
        {"family": "centroids", "n_buckets": many, "l": 4},
        {"family": "centroids", "n_buckets": many // 4, "l": 1},
        {"family": "simhash", "k": bits - 6, "l": 10},
        {"family": "simhash", "k": bits - 6, "l": 50},
        {"family": "simhash", "k": bits - 3, "l": 50},
        {"family": "dwta", "k": 3, "l": 10},
        {"family": "dwta", "k": 3, "l": 50},
        {"family": "dwta", "k": 4, "l": 50},
    ]


def deep_best(model: Model, h: Rows) -> np.ndarray:
    """The labels with the largest deep logits, (n, 10)."""
    logits = h.matrix() @ model.network.output.weight.T
    return np.argpartition(-logits, _K, axis=1)[:, :_K]


def measure(index: NeuronIndex, h: Rows, best: np.ndarray, probes: int) -> dict[str, float]:
    """Recall of the best neurons, share of neurons seen and time of a lookup."""
    began = time.perf_counter()
    found = index.lookup(h, Lookup(probes, 2**31 - 1, 1, 1, 0))
    seconds = time.perf_counter() - began
    hit = sum(
        len(np.intersect1d(best[i], found.neurons[found.indptr[i] : found.indptr[i + 1]]))
        for i in range(h.n)
    )
    n_neurons = len(index.tables.codes) if index.tables is not None else 0
    return {
        "recall@10": hit / best.size,
        "seen": len(found.neurons) / (h.n * n_neurons),
        "ms": 1000 * seconds / h.n,
    }


def compare(model: Model, queries: Rows, h: Rows) -> None:
    """Print a row for every family, size and number of probes."""
    weight, best = model.network.output.weight, deep_best(model, h)
    print("| family | K or C | L | probes | recall@10 | neurons seen | ms a lookup | s to build |")
    print("|---|---|---|---|---|---|---|---|")
    for options in settings(len(weight)):
        index = NeuronIndex(TableConfig(**options, cap=2**31 - 1), seed=0)
        with Workers(model.config.n_threads) as workers:
            index.fit(weight[:64], _first(queries, 64), workers)  # compiles
            began = time.perf_counter()
            index.fit(weight, queries, workers)
        seconds = time.perf_counter() - began
        size = options.get("k", options.get("n_buckets"))
        for probes in _OF_CENTROIDS if options["family"] == "centroids" else _PROBES:
            measure(index, _first(h, 8), best[:8], probes)
            row = measure(index, h, best, probes)
            print(
                f"| {options['family']} | {size} | {options['l']} | {probes} | "
                f"{100 * row['recall@10']:.1f} % | {100 * row['seen']:.2f} % | {row['ms']:.2f} | "
                f"{seconds:.1f} |",
                flush=True,
            )


def _first(rows: Rows, n: int) -> Rows:
    """The first rows of a dense batch."""
    return rows._replace(indptr=rows.indptr[: n + 1], values=rows.values[: rows.indptr[n]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path, help="folder with train.*")
    parser.add_argument("--limit", type=int, help="training examples to use")
    arguments = parser.parse_args()
    split = split_validation(load_part(arguments.dataset, "train"), arguments.limit)
    model = fit_model(split.train)
    sample = [model.prepare(part.X[:_QUERIES]) for part in split]
    queries, h = (hidden_rows(model.network, sparse_rows(X)) for X in sample)
    compare(model, queries, h)


if __name__ == "__main__":
    main()
