"""Training on a file that is larger than the memory, under a limit that the system enforces.

``python -m benchmarks.large`` writes planted examples as XMC text, then runs `slide train` and
`slide predict` on them three times: without a limit, in a control group of less memory than the
examples take, and trained under `ulimit -d`, which would count all of a mapped model when that
predicts. A control group counts the caches of files too, so the examples really come from the disk
again and again; making one takes root, and is left out otherwise. The models must have the same
bits, and the predictions be the same.

``--copies N`` writes the examples N times over, for files beyond 2^31 entries in little time, and
``--only none`` leaves the limits out.
"""

import argparse
import hashlib
import os
import resource
import shutil
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

_FEATURES, _PER_LABEL, _BLOCK = 20_000, 900, 4096
_GROUPS = Path("/sys/fs/cgroup")


class Outcome(NamedTuple):
    """What a run took, and a checksum of what it made."""

    seconds: float
    anonymous: float  # most memory, in MiB, that is no cache of a file
    digest: str
    refusal: str


def planted(n: int, per_example: int, n_labels: int) -> Iterator[Dataset]:
    """Blocks of n examples with one label each, whose features are a part of the label's own."""
    rng = np.random.default_rng(0)
    own = np.stack(
        [rng.choice(_FEATURES, _PER_LABEL, replace=False) for _ in range(n_labels)]
    ).astype(np.int32)
    for start in range(0, n, _BLOCK):
        size = min(_BLOCK, n - start)
        labels = rng.integers(0, n_labels, size).astype(np.int32)
        picks = np.argsort(rng.random((size, _PER_LABEL), np.float32))[:, :per_example]
        columns = np.sort(np.take_along_axis(own[labels], picks, 1), axis=1)
        values = rng.integers(1, 10, columns.size).astype(np.float32) / 10
        indptr = np.arange(size + 1) * per_example
        X = csr_matrix((values, columns.ravel(), indptr), (size, _FEATURES))
        Y = csr_matrix((np.ones(size, np.uint8), labels, np.arange(size + 1)), (size, n_labels))
        yield Dataset(X, Y)


def write_planted(path: Path, options: argparse.Namespace) -> int:
    """Write planted examples, ``options.copies`` times over; returns their entries."""
    n, per_example, n_labels = options.examples, options.per_example, options.labels
    lines = path.with_suffix(".lines")
    with atomic_write(lines) as stream:
        for block in planted(n, per_example, n_labels):
            write_examples(stream, block, 0)
    with atomic_write(path) as stream:
        stream.write(f"{n * options.copies} {_FEATURES} {n_labels}\n".encode())
        for _ in range(options.copies):
            with open(lines, "rb") as copied:
                shutil.copyfileobj(copied, stream, 2**20)
    lines.unlink()
    return n * options.copies * per_example


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


def train_and_predict(data: Path, hidden: str, group: Path | None, limit: int | None) -> Outcome:
    """Both commands on the same file, in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(dir=data.parent) as name:
        folder = Path(name)
        seconds, most, refusal = run(
            ["train", str(data), "--model", "model", "--quiet", "--checkpoint-every", "never",
             "--hidden", hidden, "--epochs", "1"],
            folder, group, limit,
        )  # fmt: skip
        if refusal:
            return Outcome(seconds, most, "", refusal)
        words = ["predict", "model", str(data), "--output", "predictions.txt"]
        _, predicting, refusal = run(words, folder, group, None)
        if refusal:
            return Outcome(seconds, most, "", refusal)
        return Outcome(seconds, max(most, predicting), digest(folder), "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=350_000)
    parser.add_argument("--per-example", type=int, default=300, help="features of an example")
    parser.add_argument("--labels", type=int, default=3_000)
    parser.add_argument("--copies", type=int, default=1, help="of the examples, in the file")
    parser.add_argument("--hidden", default="64", help="width of the hidden layer")
    parser.add_argument("--limit", type=float, default=0.75, help="GiB that the runs may use")
    parser.add_argument("--only", help="comma-separated limits: none, ulimit -d, control group")
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp"), help="for the file")
    options = parser.parse_args()
    limit = int(options.limit * 2**30)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        data = Path(name) / "planted.txt"
        entries = write_planted(data, options)
        print(f"{data.stat().st_size / 2**20:,.0f} MiB of text, {entries:,} entries in "
              f"{8 * entries / 2**20:,.0f} MiB; limit {limit / 2**20:,.0f} MiB")  # fmt: skip
        print("| limit | training s | most memory, MiB, without caches | weights and answers |")
        print("|---|---|---|---|", flush=True)
        runs: dict[str, Any] = {"none": (None, None), "ulimit -d": (None, limit)}
        outcomes = []
        with control_group(limit) as group:
            if group is not None:
                runs["control group"] = (group, None)
            for kind in options.only.split(",") if options.only else runs:
                done = train_and_predict(data, options.hidden, *runs[kind])
                outcomes.append(done)
                print(f"| {kind} | {done.seconds:.0f} | {done.anonymous:,.0f} | "
                      f"{done.digest or done.refusal} |", flush=True)  # fmt: skip
    digests = {done.digest for done in outcomes}
    raise SystemExit(0 if len(digests) == 1 and all(digests) else 1)


if __name__ == "__main__":
    main()
