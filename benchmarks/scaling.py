"""Seconds per example as the output layer grows, on planted data.

``python -m benchmarks.scaling`` trains on the same examples and features with 10^4, 10^5, 10^6 and
10^7 labels, each width in a process of its own, and prints milliseconds per example outside of the
index, what the index took, and peak memory; then what one example takes to predict, alone on one
thread, beside a float32 product with all rows of the output layer. Every label owns three features
of a few thousand that say which it is; an example has the features of its label and a random one.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from benchmarks.machine import peak_memory
from slidelearn.compiling import compile_kernels
from slidelearn.network import hidden_rows
from slidelearn.predicting import predict_topk
from slidelearn.rows import sparse_rows
from slidelearn.rules import choose_config
from slidelearn.training import Trainer
from slidelearn.workers import Workers

_FEATURES = 50_000
_PER_LABEL = 3
_SINGLE = 1000  # examples that are predicted one by one


def planted(n: int, n_labels: int, seed: int = 0) -> tuple[csr_matrix, csr_matrix]:
    """Examples with one label each; which labels occur follows Zipf's law over 20,000 of them."""
    rng = np.random.default_rng(seed)
    frequent = rng.choice(n_labels, min(n_labels, 20_000), replace=False)
    chances = 1 / np.arange(1, len(frequent) + 1)
    ranks = rng.choice(len(frequent), n, p=chances / chances.sum())
    own = rng.integers(0, _FEATURES, (len(frequent), _PER_LABEL))  # the same for every width
    columns = np.hstack([own[ranks], rng.integers(0, _FEATURES, (n, 1))])
    rows = np.repeat(np.arange(n), columns.shape[1])
    X = csr_matrix(
        (np.full(columns.size, 0.5, np.float32), (rows, columns.ravel())), (n, _FEATURES)
    )
    labels = frequent[ranks]
    Y = csr_matrix((np.ones(n, np.uint8), (np.arange(n), labels)), (n, n_labels))
    return X, Y


def measure(n_labels: int, options: argparse.Namespace) -> dict[str, float]:
    """Train one epoch and predict."""
    X, Y = planted(options.examples, n_labels)
    overrides = {"hidden": [options.hidden], "threads": options.threads, "epochs": 1}
    config = choose_config(X, Y, overrides)
    compile_kernels(config, *(X.shape[1], Y.shape[1]))
    with Workers(options.threads) as workers:
        began = time.perf_counter()
        trainer = Trainer.start(config, X, Y, workers)
        start = time.perf_counter() - began
        before = trainer.index_seconds
        report = trainer.run_epoch(X, Y, workers)
        rebuilds = trainer.index_seconds - before
        trainer.fit_index(len(config.hidden), X, workers)
        tables = trainer.index_seconds - before - rebuilds
        began = time.perf_counter()
        top = predict_topk(trainer.network, X[:2000], 1, exact=False, workers=workers)
        predicting = time.perf_counter() - began
    with Workers(1) as alone:
        singles = [
            _seconds(lambda i=i: predict_topk(trainer.network, X[i], 5, exact=False, workers=alone))
            for i in range(_SINGLE)
        ][_SINGLE // 10 :]
        h = hidden_rows(trainer.network, sparse_rows(X[0])).matrix()[0]
        scan = min(_seconds(lambda: trainer.network.output.weight @ h) for _ in range(3))
    step = report.train_seconds - start - rebuilds
    return {
        "labels": n_labels,
        "step_ms": 1000 * step / X.shape[0],
        "index_seconds": tables,
        "start_seconds": start,
        "rebuilds_seconds": rebuilds,
        "predict_ms": 1000 * predicting / 2000,
        "p50_ms": 1000 * float(np.median(singles)),
        "p99_ms": 1000 * float(np.quantile(singles, 0.99)),
        "scan_ms": 1000 * scan,
        "p@1": 100 * float((top.labels[:, 0] == Y[:2000].indices).mean()),
        "active": report.active_share[-1] * n_labels,
        "peak_mb": peak_memory(),
    }


def _seconds(work: Callable[[], Any]) -> float:
    """Wall time of a piece of work."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--labels", default="10000,100000,1000000,10000000")
    parser.add_argument("--examples", type=int, default=50_000)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one, options)))
        return
    columns = (
        "labels", "ms an example", "growth", "neurons active", "tables s", "start s", "rebuilds s",
        "predict ms", "single p50, p99 ms", "scan ms", "P@1 (training)", "peak MB",
    )  # fmt: skip
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    first = None
    for n_labels in map(int, options.labels.split(",")):
        command = [sys.executable, "-m", "benchmarks.scaling", *sys.argv[1:], "--one"]
        done = subprocess.run([*command, str(n_labels)], check=True, stdout=subprocess.PIPE)
        row = json.loads(done.stdout)
        first = first or row["step_ms"]
        print(
            f"| {n_labels:,} | {row['step_ms']:.3f} | {row['step_ms'] / first:.2f} | "
            f"{row['active']:.0f} | {row['index_seconds']:.1f} | {row['start_seconds']:.1f} | "
            f"{row['rebuilds_seconds']:.1f} | {row['predict_ms']:.2f} | {row['p50_ms']:.3f}, "
            f"{row['p99_ms']:.3f} | {row['scan_ms']:.1f} | {row['p@1']:.1f} | "
            f"{row['peak_mb']:,.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
