"""Prediction: how fast a model answers, and how its search compares with nearest neighbours.

``python -m benchmarks.predict MODEL TEST`` times single examples on one thread and batches on two,
by default, for a recall of 0.99, and for 0.95, and prints precisions beside those of an exact scan.
Then the rows of the output layer alone are searched for the largest inner products with the test
examples' hidden vectors: by exact scans in float32 and int8, by slidelearn's tables, further and
further, and by faiss, hnswlib and usearch in an environment of their own. ``--planted N`` searches
N planted rows of 128 numbers instead. ``--beside FILE`` prints what `benchmarks.peers` measured of
other methods on the same data, and wrote into that file. Writes JSON, a table and a plot of
recall@5 against queries a second, one thread.
"""

import argparse
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

from benchmarks.contest.nearest import Search, measure
from benchmarks.environments import python_of
from benchmarks.machine import describe_machine
from benchmarks.report import draw_frontier, markdown_table
from slidelearn.config import TableConfig
from slidelearn.datasets import Dataset, load_dataset
from slidelearn.index import Lookup, NeuronIndex
from slidelearn.layers import pair_logits
from slidelearn.metrics import recall_at_k, report
from slidelearn.model import Model
from slidelearn.model_file import load_model
from slidelearn.network import hidden_rows
from slidelearn.rows import BIAS_INPUT, dense_rows, sparse_rows
from slidelearn.workers import Workers, single_blas

_K = 5
_SINGLE, _QUERIES, _SCANNED = 2000, 2000, 200
_PASSES = 8  # over the test part, the first of which is left out
_REACHES = (1, 2, 3, 4, 4.5, 5, 5.5, 6, 7, 8, 9, 10, 12)  # standard deviations
_PRODUCTS = 2**26  # of rows and queries, held at a time: 256 MiB
_RESCORED = 10  # neurons that are scored in full, twice as many as are wanted
_HERE = Path(__file__).parent


def time_model(model: Model, path: Path) -> dict[str, float]:
    """Latency, throughput, precisions and recall of a model on labelled examples."""
    data = load_dataset(path)
    sample = slice(0, 4000)
    exact = model.predict_topk(data.X[sample], _K, exact=True).labels
    measured = _precisions(model, data, exact, "exact")
    for name, recall in (("by default", None), ("recall 0.95", 0.95)):
        model.predict_topk(data.X[:64], _K, recall=recall)
        singles = []
        for i in range(min(_SINGLE, data.X.shape[0])):
            example = data.X[i]
            began = time.perf_counter()
            model.predict_topk(example, _K, recall=recall)
            singles.append(time.perf_counter() - began)
        for percentile in (50, 99):
            measured[f"p{percentile} ms, {name}"] = np.percentile(singles, percentile) * 1000
        speeds = []
        for _ in range(_PASSES):
            began = time.perf_counter()
            found = model.predict_topk(data.X, _K, recall=recall, threads=2).labels
            speeds.append(len(found) / (time.perf_counter() - began))
        # The first reads what a mapped model has on the disk; others differ by what else runs.
        for which, speed in (("median", np.median(speeds[1:])), ("best", max(speeds[1:]))):
            measured[f"examples/s, 2 threads, {which} of {_PASSES - 1}, {name}"] = speed
        measured[f"recall@{_K}, {name}"] = recall_at_k(found[sample], exact, _K)
        measured |= _precisions(model, data, found[sample], name)
    return measured


def _precisions(model: Model, data: Dataset, top: np.ndarray, name: str) -> dict[str, float]:
    """P@k of the best labels (n, 5) of the first n examples."""
    scores = report(top, data.Y[: len(top)], model.inverse_propensity)
    return {f"P@{k}, {name}": scores[f"p@{k}"] for k in (1, 3, 5)}


def planted(n: int, width: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """Rows in sqrt(n) clusters and queries near some of them, as trained layers have them.

    Clusters are as frequent as Zipf's law says; a row has a cosine of about 0.7 with the centre of
    its cluster and a length of its own (log-normal, 0.3), and a query one of about 0.7 with a row.
    """
    rng = np.random.default_rng(0)
    n_clusters = int(np.sqrt(n))
    centres = rng.standard_normal((n_clusters, width), np.float32)
    chances = 1 / np.arange(1, n_clusters + 1)
    own = rng.choice(n_clusters, n, p=chances / chances.sum())
    rows = np.empty((n, width + 1), np.float32)
    for start in range(0, n, 2**17):
        block = own[start : start + 2**17]
        rows[start : start + 2**17, :-1] = centres[block]
        rows[start : start + 2**17, :-1] += rng.standard_normal((len(block), width), np.float32)
        rows[start : start + 2**17] *= np.exp(0.3 * rng.standard_normal((len(block), 1)))
    rows[:, -1] = 0
    near = rows[rng.integers(0, n, _QUERIES), :-1]
    noise = rng.standard_normal(near.shape, np.float32) * near.std(axis=1, keepdims=True)
    queries = np.full((_QUERIES, width + 1), BIAS_INPUT, np.float32)
    queries[:, :-1] = near + noise
    return rows, queries


def output_rows(model: Model, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The rows of a model's output layer, and hidden vectors of test examples with the constant."""
    X = model.prepare(load_dataset(path).X[:_QUERIES])
    h = hidden_rows(model.network, sparse_rows(X))
    return np.asarray(model.network.output.weight), np.ascontiguousarray(h.matrix())


@njit(nogil=True)
def keep_best(indptr: Any, neurons: Any, logits: Any, out: Any) -> None:
    """Write the 5 neurons of largest logits of every example, (n, 5)."""
    for i in range(len(out)):
        best = np.full(out.shape[1], -np.inf)
        for p in range(indptr[i], indptr[i + 1]):
            if logits[p] <= best[-1]:
                continue
            at = len(best) - 1
            while at > 0 and best[at - 1] < logits[p]:
                best[at], out[i, at] = best[at - 1], out[i, at - 1]
                at -= 1
            best[at], out[i, at] = logits[p], neurons[p]


@njit(nogil=True)
def scan_bytes(rows: Any, scales: Any, biases: Any, query: Any, out: Any) -> None:
    """Scores (N,) of int8 rows (N, d), each with a scale and a bias, for one int8 query (d,)."""
    for i in range(len(rows)):
        total = np.int32(0)
        for j in range(len(query)):
            total += np.int32(rows[i, j]) * np.int32(query[j])
        out[i] = scales[i] * total + biases[i]


def best_of(scores: np.ndarray) -> np.ndarray:
    """The 5 largest of scores (N,); copied, since a view keeps the order of all of them."""
    return np.argpartition(scores, -_K)[-_K:].copy()


def exact_best(rows: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """The 5 rows with the largest products, (n, 5)."""
    best, at_once = [], max(1, _PRODUCTS // len(rows))
    for start in range(0, len(queries), at_once):
        products = queries[start : start + at_once] @ rows.T
        best.extend(best_of(scores) for scores in products)
    return np.stack(best)


def float_scan(rows: np.ndarray) -> Search:
    """One matrix-vector product a query."""

    def search(queries: np.ndarray) -> np.ndarray:
        return np.stack([best_of(rows @ query) for query in queries])

    return search


def byte_scan(rows: np.ndarray) -> Search:
    """The same with rows of int8, scaled each for itself, and biases in full."""
    scales = np.maximum(rows[:, :-1].max(axis=1), -rows[:, :-1].min(axis=1)) / 127
    scales[scales == 0] = 1
    small = np.empty((len(rows), rows.shape[1] - 1), np.int8)
    for start in range(0, len(rows), 2**16):
        block = slice(start, start + 2**16)
        small[block] = np.rint(rows[block, :-1] / scales[block, None])
    biases, scores = BIAS_INPUT * rows[:, -1], np.empty(len(rows), np.float32)

    def search(queries: np.ndarray) -> np.ndarray:
        found = []
        for query in queries[:, :-1]:
            scale = np.abs(query).max() / 127 or 1.0
            scan_bytes(small, scales * np.float32(scale), biases,
                       np.rint(query / scale).astype(np.int8), scores)  # fmt: skip
            found.append(best_of(scores))
        return np.stack(found)

    return search


def tables(rows: np.ndarray, queries: np.ndarray) -> Iterator[tuple[float, Search]]:
    """slidelearn's index: ranked by sketches and byte rows, the best scored in full.

    Centroids are centred on the queries that are asked later; of their answers it knows nothing.
    """
    index = NeuronIndex(TableConfig(), seed=0)
    with Workers(2) as workers:
        index.fit(rows, dense_rows(queries), workers)
    index.keep_rows(rows)

    def search(reach: float) -> Search:
        def find(queries: np.ndarray) -> np.ndarray:
            out, h = np.full((len(queries), _K), -1, np.int64), dense_rows(queries)
            found = index.lookup(h, Lookup(1, _RESCORED, 1, 1, 0, reach))
            logits = np.empty(len(found.neurons), np.float32)
            pair_logits(h, rows, found, logits)
            keep_best(found.indptr, found.neurons, logits, out)
            return out

        return find

    for reach in _REACHES:
        yield reach, search(reach)


def compare(
    rows: np.ndarray, queries: np.ndarray, peers: list[str], work: Path
) -> list[dict[str, Any]]:
    """Every search over the same rows."""
    work.mkdir(parents=True, exist_ok=True)
    best = exact_best(rows, queries)
    results: list[dict[str, Any]] = []
    few, few_best = queries[:_SCANNED], best[:_SCANNED]
    for name, settings, asked, right, at_once in (
        ("exact float32", iter([(0, float_scan(rows))]), few, few_best, 1),
        ("exact int8", iter([(0, byte_scan(rows))]), few, few_best, 1),
        ("slidelearn", tables(rows, queries), queries, best, 1),
        ("slidelearn, 256 a call", tables(rows, queries), queries, best, 256),
    ):
        with single_blas():
            for point in measure(name, settings, asked, right, at_once):
                results.append(point)
                print(_row(point), flush=True)
    if peers:
        for name, array in (("rows", rows), ("queries", queries), ("best", best)):
            np.save(work / f"{name}.npy", array)
        command = [str(python_of(work.parent, "nearest")), str(_HERE / "contest" / "nearest.py")]
        for peer in peers:
            process = subprocess.run(
                [*command, str(work), peer], stdout=subprocess.PIPE, text=True, check=False
            )
            for line in process.stdout.splitlines():
                results.append(json.loads(line))
                print(_row(results[-1]), flush=True)
            if process.returncode:
                print(f"| {peer} | failed: exit code {process.returncode} |", flush=True)
    return results


def _row(point: dict[str, Any]) -> str:
    return (
        f"| {point['name']} | {point['setting']} | {point['recall']:.3f} | "
        f"{point['per_second']:,.0f} | {point['p50_ms']:.3f}, {point['p99_ms']:.3f} | "
        f"{point['build_seconds']:.1f} | {point['memory_mb']:.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, nargs="?", help="a model folder")
    parser.add_argument("test", type=Path, nargs="?", help="labelled examples")
    parser.add_argument("--planted", type=int, metavar="N", help="search N planted rows instead")
    parser.add_argument("--beside", type=Path, metavar="FILE", help="JSON of benchmarks.peers")
    parser.add_argument(
        "--peers", default="faiss IVF,faiss IVF by distance,faiss IVF-PQ fast scan,faiss HNSW,"
        "faiss HNSW by distance,hnswlib,hnswlib by distance,usearch",
        help="libraries, separated by commas",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, default=Path("results"))
    parser.add_argument(
        "--work", type=Path, default=Path.home() / ".cache" / "slidelearn-benchmarks"
    )
    options = parser.parse_args()
    results: dict[str, Any] = {"machine": describe_machine()}
    if options.planted:
        rows, queries = planted(options.planted)
        name = f"planted_{options.planted}"
    elif options.model is None or options.test is None:
        parser.error("give a model folder and a test file, or --planted N")
    else:
        model, name = load_model(options.model), options.model.name
        results["model"] = time_model(model, options.test)
        for what, value in results["model"].items():
            print(f"{what}: {value:.3f}")
        if options.beside is not None:
            results["beside"] = json.loads(options.beside.read_text())["contestants"]
            print(markdown_table(results["beside"]))
        rows, queries = output_rows(model, options.test)
    peers = [peer for peer in options.peers.split(",") if peer]
    print(
        "| search | setting | recall@5 | queries/s | ms p50, p99 | build s | MiB |\n"
        "|---|---|---|---|---|---|---|"
    )
    results["search"] = compare(rows, queries, peers, options.work / f"nearest-{name}")
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / f"predict-{name}.json").write_text(json.dumps(results, indent=1))
    draw_frontier(results["search"], options.output / f"predict-{name}.png", name)


if __name__ == "__main__":
    main()
