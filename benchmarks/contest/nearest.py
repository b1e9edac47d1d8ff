"""Libraries of nearest neighbours on the rows of an output layer, as a search of inner products.

``python nearest.py FOLDER METHODS`` reads rows.npy (N, d), queries.npy (n, d) and best.npy (n, 5),
builds each index and prints a JSON object a line for every setting of its search. Needs no
slidelearn; every search has one thread.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

_EFFORTS = (8, 16, 32, 64, 128, 256, 512)
_ENOUGH = 0.999  # recall from which on nothing further is tried
_PROBES = (1, 2, 4, 8, 16, 32, 64)

# A search takes queries (n, d) and returns the 5 best rows of each, (n, 5).
Search = Callable[[np.ndarray], np.ndarray]


def resident() -> float:
    """Memory of this process in MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


def faiss_hnsw(rows: np.ndarray, *, products: bool = True) -> Iterator[tuple[int, Search]]:
    import faiss

    metric = faiss.METRIC_INNER_PRODUCT if products else faiss.METRIC_L2
    index = faiss.IndexHNSWFlat(rows.shape[1], 32, metric)
    index.hnsw.efConstruction = 100
    index.add(rows)
    faiss.omp_set_num_threads(1)
    for effort in _EFFORTS:
        index.hnsw.efSearch = effort
        yield effort, lambda queries: index.search(queries, 5)[1]


def _faiss_inverted(
    kind: str, rows: np.ndarray, *, products: bool = True
) -> Iterator[tuple[int, Search]]:
    import faiss

    metric = faiss.METRIC_INNER_PRODUCT if products else faiss.METRIC_L2
    lists = min(int(np.sqrt(8 * len(rows))), len(rows) // 39)
    index = faiss.index_factory(
        rows.shape[1], kind.format(lists=lists, half=rows.shape[1] // 2), metric
    )
    index.train(rows[:: max(1, len(rows) // (64 * lists))])
    index.add(rows)
    faiss.omp_set_num_threads(1)
    inverted = faiss.extract_index_ivf(index)
    for probes in _PROBES:
        inverted.nprobe = probes
        yield probes, lambda queries: index.search(queries, 5)[1]


def faiss_ivf(rows: np.ndarray, *, products: bool = True) -> Iterator[tuple[int, Search]]:
    yield from _faiss_inverted("IVF{lists},Flat", rows, products=products)


def faiss_fastscan(rows: np.ndarray) -> Iterator[tuple[int, Search]]:
    width = rows.shape[1] + rows.shape[1] % 2  # codes of two numbers each
    wider = np.zeros((len(rows), width), np.float32)
    wider[:, : rows.shape[1]] = rows
    for probes, search in _faiss_inverted("IVF{lists},PQ{half}x4fs,RFlat", wider):
        yield (
            probes,
            lambda queries, search=search: search(
                np.pad(queries, ((0, 0), (0, width - queries.shape[1])))
            ),
        )


def hnswlib_(rows: np.ndarray, *, products: bool = True) -> Iterator[tuple[int, Search]]:
    import hnswlib

    index = hnswlib.Index(space="ip" if products else "l2", dim=rows.shape[1])
    index.init_index(max_elements=len(rows), M=16, ef_construction=100)
    index.add_items(rows)
    index.set_num_threads(1)
    for effort in _EFFORTS:
        index.set_ef(effort)
        yield effort, lambda queries: index.knn_query(queries, 5)[0]


def usearch_(rows: np.ndarray) -> Iterator[tuple[int, Search]]:
    from usearch.index import Index

    index = Index(ndim=rows.shape[1], metric="ip", dtype="f32", connectivity=16, expansion_add=100)
    index.add(np.arange(len(rows)), rows)
    for effort in _EFFORTS:
        index.expansion_search = effort

        def search(queries: np.ndarray) -> np.ndarray:
            found = index.search(queries, 5, threads=1)
            return np.asarray(found.keys).reshape(len(queries), -1).astype(np.int64)

        yield effort, search


def by_distance(method: Callable[..., Iterator[tuple[int, Search]]]) -> Callable[..., Any]:
    """Search for the least distance instead, among rows that one more number gives one length.

    The order is that of inner products, and graphs find their way by distances better.
    """

    def search_by_distance(rows: np.ndarray) -> Iterator[tuple[int, Search]]:
        squares = np.einsum("ij,ij->i", rows, rows)
        lengths = np.sqrt(squares.max() - squares)
        for setting, search in method(np.column_stack((rows, lengths)), products=False):
            yield (
                setting,
                lambda queries, search=search: search(np.pad(queries, ((0, 0), (0, 1)))),
            )

    return search_by_distance


METHODS = {
    "faiss HNSW": faiss_hnsw,
    "faiss IVF": faiss_ivf,
    "faiss IVF-PQ fast scan": faiss_fastscan,
    "faiss HNSW by distance": by_distance(faiss_hnsw),
    "faiss IVF by distance": by_distance(faiss_ivf),
    "hnswlib": hnswlib_,
    "hnswlib by distance": by_distance(hnswlib_),
    "usearch": usearch_,
}


def measure(
    name: str,
    settings: Iterator[tuple[float, Search]],
    queries: np.ndarray,
    best: np.ndarray,
    at_once: int | None = None,
) -> Iterator[dict[str, Any]]:
    """Recall and queries a second of a search, one setting after the other, to a recall of 0.999.

    Queries are asked all in one call, or so many at once; then with the times of the calls.
    """
    at_once = at_once or len(queries)
    before, began, building = resident(), time.perf_counter(), 0.0
    for setting, search in settings:
        building = building or time.perf_counter() - began
        search(queries[:10])
        found, seconds = [], []
        for i in range(0, len(queries), at_once):
            start = time.perf_counter()
            found.extend(search(queries[i : i + at_once]))
            seconds.append(time.perf_counter() - start)
        hits = [len(np.intersect1d(a, b)) / 5 for a, b in zip(found, best, strict=True)]
        p50, p99 = np.percentile(seconds, [50, 99]) * 1000
        yield {
            "name": name, "setting": setting, "recall": float(np.mean(hits)),
            "per_second": len(queries) / sum(seconds), "build_seconds": building,
            "memory_mb": resident() - before, "p50_ms": p50, "p99_ms": p99,
        }  # fmt: skip
        if np.mean(hits) >= _ENOUGH:
            break


def main() -> None:
    folder, names = Path(sys.argv[1]), sys.argv[2].split(",")
    rows, queries, best = (np.load(folder / f"{name}.npy") for name in ("rows", "queries", "best"))
    for name in names:
        for point in measure(name, METHODS[name](rows), queries, best):
            print(json.dumps(point), flush=True)


if __name__ == "__main__":
    main()
