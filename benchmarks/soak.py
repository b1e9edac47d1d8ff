"""Half an hour of training, saving, loading and predicting, with faults on the way.

``python -m benchmarks.soak`` runs rounds of what a service does: train a model, cut a run off and
resume it, save while the disk fills up, load, load a damaged folder, predict from several threads.
It counts the faults that it injects and what was lost by them, and watches memory, open files and
threads of the process, which must not grow. The exit code is 1 if anything was lost or grew.
"""

import argparse
import os
import random
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from scipy.sparse import csr_matrix

from slidelearn import files as files_module
from slidelearn.checkpoint import CheckpointPlan
from slidelearn.datasets import Dataset
from slidelearn.errors import ModelError
from slidelearn.fitting import FitEvents, fit_model
from slidelearn.model import Model
from slidelearn.model_file import load_model, save_model
from slidelearn.network_arrays import name_arrays

_GROWTH = 32 * 2**20  # bytes that memory may move by after the first quarter
_SETTINGS = {"hidden": [32], "tail": 20, "epochs": 2, "batch_size": 64, "threads": 2}


@contextmanager
def disk_that_fills_up(files: int) -> Iterator[None]:
    """A disk that holds so many files more: the next one is written, but not to the end."""
    sync, synced = files_module._sync, list[int]()

    def full(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) > files:
            raise OSError(28, "No space left on device")
        sync(descriptor)

    with patch.object(files_module, "_sync", full):
        yield


def problem(seed: int) -> Dataset:
    """600 examples of 60 labels, each with a few features that say which it has."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 60, (600, 2))
    columns = np.hstack([labels, 60 + rng.integers(0, 140, (600, 6))])
    rows = np.repeat(np.arange(600), columns.shape[1])
    X = csr_matrix((np.ones(columns.size, np.float32), (rows, columns.ravel())), (600, 200))
    ones = np.ones(labels.size, np.uint8)
    Y = csr_matrix((ones, (np.repeat(np.arange(600), 2), labels.ravel())), (600, 60))
    for matrix in (X, Y):
        matrix.data[:] = 1
    return Dataset(X, Y)


def same(a: Model, b: Model) -> bool:
    """Whether two models have the same bits."""
    ours, theirs = name_arrays(a), name_arrays(b)
    return ours.keys() == theirs.keys() and all(
        np.array_equal(array, theirs[name]) for name, array in ours.items()
    )


class Round:
    """One round: a model, and what happens to it."""

    def __init__(self, seed: int, work: Path) -> None:
        self.rng = random.Random(seed)
        self.data = problem(seed)
        self.settings = _SETTINGS | {"seed": seed}
        self.folder = work / "model"
        self.model = fit_model(self.data, self.settings)

    def interrupted(self) -> bool:
        """A run that is cut off anywhere is resumed, and ends with the same bits."""
        folder, done = self.folder.with_name("run"), list[Any]()
        folder.mkdir()
        step = self.rng.randrange(1, int(self.model.facts["steps"]))
        events = FitEvents(on_progress=done.append, should_interrupt=lambda: len(done) >= step)
        fit_model(
            self.data, self.settings, checkpoints=CheckpointPlan(folder, steps=1), events=events
        )
        plan = CheckpointPlan(folder, resume=True)
        resumed = fit_model(self.data, self.settings, checkpoints=plan)
        shutil.rmtree(folder)
        return same(resumed, self.model)

    def saved_on_a_full_disk(self) -> bool:
        """A save that fails leaves the model that was there."""
        save_model(self.model, self.folder)
        other = fit_model(self.data, self.settings | {"epochs": 1})
        try:
            with disk_that_fills_up(self.rng.randrange(2)):
                save_model(other, self.folder)
        except ModelError:
            return same(load_model(self.folder), self.model)
        return False

    def checkpointed_on_a_full_disk(self) -> bool:
        """A checkpoint that fails ends the run in one line, and leaves the one before."""
        folder = self.folder.with_name("run")
        folder.mkdir()
        try:
            with disk_that_fills_up(3):
                fit_model(self.data, self.settings, checkpoints=CheckpointPlan(folder, steps=1))
            return False
        except ModelError:
            pass
        plan = CheckpointPlan(folder, resume=True)
        resumed = fit_model(self.data, self.settings, checkpoints=plan)
        shutil.rmtree(folder)
        return same(resumed, self.model)

    def damaged(self) -> bool:
        """A folder with one changed bit is refused, unless the bit says nothing."""
        save_model(self.model, self.folder)
        path = self.rng.choice(sorted(self.folder.iterdir()))
        data = bytearray(path.read_bytes())
        data[self.rng.randrange(len(data))] ^= 1 << self.rng.randrange(8)
        path.write_bytes(data)
        try:
            loaded = load_model(self.folder)
        except ModelError:
            return True
        finally:
            shutil.rmtree(self.folder)
        return loaded.config == self.model.config and same(loaded, self.model)  # white space

    def asked_by_many_threads(self) -> bool:
        """Threads that ask one model at once get the answers that one thread gets."""
        save_model(self.model, self.folder)
        loaded, X = load_model(self.folder), self.data.X
        whole = self.model.predict_topk(X, 3).labels

        def ask(i: int) -> bool:
            return bool((loaded.predict_topk(X[i : i + 1], 3).labels[0] == whole[i]).all())

        with ThreadPoolExecutor(4) as pool:
            return all(pool.map(ask, range(0, X.shape[0], 7)))


_FAULTS: tuple[Callable[[Round], bool], ...] = (
    Round.interrupted,
    Round.saved_on_a_full_disk,
    Round.checkpointed_on_a_full_disk,
    Round.damaged,
    Round.asked_by_many_threads,
)


def resources() -> tuple[int, int, int]:
    """Bytes of memory, open files and threads of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    files = len(list(Path("/proc/self/fd").iterdir()))
    return pages * os.sysconf("SC_PAGE_SIZE"), files, threading.active_count()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1800)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    done: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    history: list[tuple[int, int, int]] = []
    began, seed = time.monotonic(), options.seed
    while not history or time.monotonic() - began < options.seconds:
        with tempfile.TemporaryDirectory() as work:
            one = Round(seed, Path(work))
            for fault in _FAULTS:
                done[fault.__name__] += 1
                lost[fault.__name__] += not fault(one)
        history.append(resources())
        seed += 1
    print("| fault | injected | lost |\n|---|---|---|")
    for name, n in done.items():
        print(f"| {name.replace('_', ' ')} | {n} | {lost[name]} |")
    early, late = history[len(history) // 4], history[-1]
    memory = f"memory {early[0] / 2**20:.0f} to {late[0] / 2**20:.0f} MiB"
    print(f"{len(history)} rounds in {time.monotonic() - began:.0f} s; since the first quarter: "
          f"{memory}, files {early[1]} to {late[1]}, threads {early[2]} to {late[2]}")  # fmt: skip
    grew = late[0] > early[0] + _GROWTH or late[1:] != early[1:]
    raise SystemExit(1 if sum(lost.values()) or grew else 0)


if __name__ == "__main__":
    main()
