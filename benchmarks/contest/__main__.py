"""One stage of a contestant: ``python -m contest STAGE ENTRY DATA MODEL FACTS THREADS BUDGET``."""

import json
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from contest.contestant import Contestant, load_rows
from machine import peak_memory

_SINGLES = 500  # examples that are predicted one by one
_SINGLE_SECONDS = 60.0  # or as many as that takes


def train(contestant: Contestant) -> dict[str, Any]:
    """Train; wall and CPU seconds without loading the data, and peak memory with it."""
    X, Y = contestant.load_training_data()
    contestant.prepare(X, Y)
    began, cpu = time.perf_counter(), time.process_time()
    contestant.train(X, Y)
    seconds = time.perf_counter() - began - contestant.paused
    cpu = time.process_time() - cpu
    points = np.array([top for _, top in contestant.curve], np.int64)
    np.save(contestant.model.with_name(contestant.model.name + ".curve.npy"), points)
    return {
        "settings": contestant.settings,
        "train_seconds": round(seconds, 1),
        "train_cpu_seconds": round(cpu, 1),
        "train_peak_mb": round(peak_memory()),
        "model_mb": round(_size(contestant.model) / 2**20, 1),
        "curve_seconds": [round(seconds, 1) for seconds, _ in contestant.curve],
    }


def test(contestant: Contestant) -> dict[str, Any]:
    """Predict the test data together, then some examples one by one."""
    X = load_rows(contestant.data / "test_X.npz")
    contestant.load()
    contestant.predict(X[:64])
    began = time.perf_counter()
    top = contestant.predict(X)
    batch = time.perf_counter() - began
    singles = np.array(_time_singles(contestant, X))
    name = contestant.model.name
    np.savez(
        contestant.model.with_name(f"{name}.predictions.npz"),
        test=top,
        curve=np.load(contestant.model.with_name(f"{name}.curve.npy")),
    )
    return {
        "batch_ms": round(1000 * batch / max(X.shape[0], 1), 3),
        "single_p50_ms": round(float(np.percentile(singles, 50)), 3),
        "single_p99_ms": round(float(np.percentile(singles, 99)), 3),
    }


def _time_singles(contestant: Contestant, X: Any) -> list[float]:
    """Milliseconds of single predictions."""
    times: list[float] = []
    for i in range(min(_SINGLES, X.shape[0])):
        x, began = X[i], time.perf_counter()
        contestant.predict(x)
        times.append(1000 * (time.perf_counter() - began))
        if sum(times) > 1000 * _SINGLE_SECONDS:
            break
    return times


def _size(path: Path) -> int:
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())


def main() -> None:
    stage, entry, data, model, facts, threads, budget = sys.argv[1:]
    module, name = entry.split(":")
    kind = getattr(import_module(module), name)
    contestant = kind(Path(data), Path(model), int(threads), float(budget))
    result = (train if stage == "train" else test)(contestant)
    Path(facts).write_text(json.dumps(result))


if __name__ == "__main__":
    main()
