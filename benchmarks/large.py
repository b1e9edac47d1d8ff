"""Training on a file that is larger than the memory, under a limit that the system enforces.

``python -m benchmarks.large`` writes planted examples as XMC text, then runs `slide train` and
`slide predict` on them three times: without a limit, in a control group of less memory than the
examples take, and under `ulimit -d`. A control group counts the caches of files too, so the
examples really come from the disk again and again; making one takes root, and is left out
otherwise. The models must have the same bits, and the predictions be the same.
"""

import argparse
import hashlib
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

from benchmarks.machine import process_memory
from slidelearn.datasets import Dataset
from slidelearn.datasets.line_writer import write_examples
from slidelearn.files import atomic_write

_FEATURES, _LABELS, _PER_LABEL, _BLOCK = 20_000, 3_000, 900, 4096
_GROUPS = Path("/sys/fs/cgroup")


class Outcome(NamedTuple):
    """What a run took, and a checksum of what it made."""

    seconds: float
    anonymous: float  # most memory, in MiB, that is no cache of a file
    digest: str
    refusal: str


def write_planted(path: Path, n: int, per_example: int) -> None:
    """Write n examples with one label each, whose features are a part of the label's own."""
    rng = np.random.default_rng(0)
    own = np.stack(
        [rng.choice(_FEATURES, _PER_LABEL, replace=False) for _ in range(_LABELS)]
    ).astype(np.int32)
    with atomic_write(path) as stream:
        stream.write(f"{n} {_FEATURES} {_LABELS}\n".encode())
        for start in range(0, n, _BLOCK):
            size = min(_BLOCK, n - start)
            labels = rng.integers(0, _LABELS, size).astype(np.int32)
            picks = np.argsort(rng.random((size, _PER_LABEL), np.float32))[:, :per_example]
            columns = np.sort(np.take_along_axis(own[labels], picks, 1), axis=1)
            values = rng.integers(1, 10, columns.size).astype(np.float32) / 10
            indptr = np.arange(size + 1) * per_example
            X = csr_matrix((values, columns.ravel(), indptr), (size, _FEATURES))
            Y = csr_matrix((np.ones(size, np.uint8), labels, np.arange(size + 1)), (size, _LABELS))
            write_examples(stream, Dataset(X, Y), 0)


@contextmanager
def control_group(limit: int) -> Iterator[Path | None]:
    """A control group with so much memory, or None where none can be made."""
    first = (_GROUPS / "memory").is_dir()
    group = (_GROUPS / "memory" if first else _GROUPS) / f"slidelearn-{os.getpid()}"
    name = "memory.limit_in_bytes" if first else "memory.max"
    try:
        group.mkdir()
    except OSError:
        yield None
        return
    try:
        (group / name).write_text(str(limit))
        yield group
    except OSError:
        yield None
    finally:
        group.rmdir()


def run(
    words: list[str], folder: Path, group: Path | None, limit: int | None
) -> tuple[float, float, str]:
    """Run a command of `slide`; seconds, most anonymous memory in MiB, and what it complained."""

    def prepare() -> None:
        if group is not None:
            (group / "cgroup.procs").write_text(str(os.getpid()))
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

    began, most = time.monotonic(), [0.0]
    process = subprocess.Popen(
        [sys.executable, "-m", "slidelearn", *words], cwd=folder, preexec_fn=prepare,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip

    def watch() -> None:
        while process.poll() is None:
            most[0] = max(most[0], process_memory("RssAnon", process.pid))  # NaN leaves it
            time.sleep(0.05)

    watcher = threading.Thread(target=watch)
    watcher.start()
    refusal = process.communicate()[1] or ""
    watcher.join()
    if process.returncode < 0:
        refusal += f"killed by signal {-process.returncode}"
    elif process.returncode == 0:
        refusal = ""
    return time.monotonic() - began, most[0], " ".join(refusal.split())


def digest(folder: Path) -> str:
    """A checksum of the weights and the predictions in a folder."""
    total = hashlib.sha256()
    for path in [*sorted((folder / "model").glob("*.safetensors")), folder / "predictions.txt"]:
        with open(path, "rb") as stream:
            total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()[:12]


def train_and_predict(data: Path, group: Path | None, limit: int | None) -> Outcome:
    """Both commands on the same file, in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(dir=data.parent) as name:
        folder = Path(name)
        seconds, most, refusal = run(
            ["train", str(data), "--model", "model", "--quiet", "--checkpoint-every", "never"],
            folder, group, limit,
        )  # fmt: skip
        if refusal:
            return Outcome(seconds, most, "", refusal)
        words = ["predict", "model", str(data), "--output", "predictions.txt"]
        _, predicting, refusal = run(words, folder, group, limit)
        if refusal:
            return Outcome(seconds, most, "", refusal)
        return Outcome(seconds, max(most, predicting), digest(folder), "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=400_000)
    parser.add_argument("--per-example", type=int, default=300, help="features of an example")
    parser.add_argument("--limit", type=float, default=1.0, help="GiB that the runs may use")
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp"), help="for the file")
    options = parser.parse_args()
    limit = int(options.limit * 2**30)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        data = Path(name) / "planted.txt"
        write_planted(data, options.examples, options.per_example)
        size = 8 * options.examples * options.per_example
        print(f"{data.stat().st_size / 2**20:,.0f} MiB of text, {size / 2**20:,.0f} of examples; "
              f"limit {limit / 2**20:,.0f} MiB")  # fmt: skip
        print("| limit | training s | most memory, MiB, without caches | weights and answers |")
        print("|---|---|---|---|")
        runs: dict[str, Any] = {"none": (None, None), "ulimit -d": (None, limit)}
        outcomes = []
        with control_group(limit) as group:
            if group is not None:
                runs["control group"] = (group, None)
            for kind, settings in runs.items():
                done = train_and_predict(data, *settings)
                outcomes.append(done)
                print(f"| {kind} | {done.seconds:.0f} | {done.anonymous:,.0f} | "
                      f"{done.digest or done.refusal} |", flush=True)  # fmt: skip
    raise SystemExit(0 if len({done.digest for done in outcomes}) == 1 else 1)


if __name__ == "__main__":
    main()
