"""Damaged files of every format, thousands of them: each is refused in one line, or read rightly.

``python -m benchmarks.fuzz --inputs 100000`` mutates small good files and reads them, in processes
that are forked for a thousand files at a time. It counts files that were read, refused and lost
(the process died or hung, another error than a `SlideError`, an error of several lines), and those
that were accepted though they are wrong: text that breaks a rule of its format by a reader in
plain Python, data that are not canonical, a model that differs from what was saved. Whatever it
finds is written to a folder, and the exit code is 1.
"""

import argparse
import io
import os
import pickle
import random
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix

from benchmarks.machine import describe_machine
from slidelearn.datasets import Dataset, load_dataset, save_dataset
from slidelearn.datasets.dataset import check_dataset
from slidelearn.errors import SlideError
from slidelearn.fitting import fit_model
from slidelearn.model_file import load_model, save_model
from slidelearn.network_arrays import name_arrays

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from naive_datasets import line_is_legal

_BATCH = 1000
_SECONDS = 20  # that one file may take
_MEMORY = 4 * 2**30  # address space that a process may take beyond what it has
_TOKENS = [b"0", b"-1", b"1e39", b"nan", b"99999999999", b":", b",", b" ", b"\n", b"\x00", b"\xff"]


class Slow(Exception):
    """A file took too long."""


def example_data(rng: random.Random) -> Dataset:
    """A small dataset with empty rows, several labels and all kinds of values."""
    seeded = np.random.default_rng(rng.randrange(2**31))
    X = seeded.random((12, 9), np.float32) * (seeded.random((12, 9)) < 0.4)
    X *= np.float32(10.0) ** seeded.integers(-6, 6, X.shape)
    Y = (seeded.random((12, 5)) < 0.3).astype(np.uint8)
    return Dataset(csr_matrix(X.astype(np.float32)), csr_matrix(Y))


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Change a few bytes, or many."""
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 4, 16])):
        place = rng.randrange(len(changed) + 1)
        end = min(len(changed), place + rng.choice([1, 1, 2, 8, 64]))
        kind = rng.randrange(6)
        if kind == 0 and place < len(changed):
            changed[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            changed[place:end] = rng.choice(_TOKENS)
        elif kind == 2:
            changed[place:end] = b""
        elif kind == 3:
            changed[place:place] = changed[place:end]
        elif kind == 4:
            changed[place:place] = rng.randbytes(rng.choice([1, 4, 9]))
        else:
            del changed[place:]
    return bytes(changed)


def text_is_legal(text: bytes) -> bool:
    """Whether a text keeps every rule of the XMC format."""
    try:
        head, *lines = text.decode("ascii").split("\n")
        n, n_features, n_labels = (int(word) for word in head.split())
    except (UnicodeDecodeError, ValueError):
        return False
    if lines and lines[-1] == "":
        lines.pop()
    return len(lines) == n and all(line_is_legal(line, n_features, n_labels) for line in lines)


def check_data(path: Path, data: bytes) -> None:
    """Read a data file; raises AssertionError if it should not have been accepted."""
    found = load_dataset(path)
    assert check_dataset(found) is not None
    assert np.isfinite(found.X.data).all()
    for matrix in found[:2]:
        assert matrix.has_canonical_format
        assert (
            matrix.nnz == 0 or 0 <= matrix.indices.min() <= matrix.indices.max() < matrix.shape[1]
        )
    if path.suffix == ".txt":
        assert text_is_legal(data), "a text that breaks the format was read"


def check_model(folder: Path, arrays: dict[str, np.ndarray]) -> None:
    """Read a model folder; raises AssertionError if it is not the one that was saved."""
    found = name_arrays(load_model(folder))
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert np.array_equal(found[name], array), f"{name} differs"


def make_targets(work: Path, rng: random.Random) -> dict[str, tuple[Path, bytes, Callable]]:
    """For each format a file, its good content, and what reads and checks it."""
    targets: dict[str, tuple[Path, bytes, Callable]] = {}
    data = example_data(rng)
    for name in ("data.txt", "data.txt.gz", "data.svm", "data.npz", "data.parquet"):
        save_dataset(data, work / name)
        path, content = work / name, (work / name).read_bytes()
        targets[name] = path, content, lambda changed, path=path: check_data(path, changed)
    folder = work / "model"
    model = fit_model(data, {"hidden": [4], "tail": 2, "epochs": 1, "threads": 1})
    save_model(model, folder)
    arrays = {name: array.copy() for name, array in name_arrays(model).items()}
    for path in sorted(folder.iterdir()):
        targets[f"model {path.suffix}"] = (
            path,
            path.read_bytes(),
            lambda changed, folder=folder: check_model(folder, arrays),
        )
    return targets


def try_one(path: Path, content: bytes, check: Callable, rng: random.Random) -> tuple[str, bytes]:
    """Read one mutated file; what came of it, and the file."""
    changed = mutate(content, rng)
    if changed == content:
        return "unchanged", changed
    path.write_bytes(changed)
    signal.alarm(_SECONDS)
    try:
        check(changed)
    except SlideError as error:
        return ("refused" if "\n" not in str(error) else "lost: several lines"), changed
    except AssertionError as error:
        return f"accepted though wrong: {error}", changed
    except Slow:
        return "lost: too slow", changed
    except BaseException as error:
        return f"lost: {type(error).__name__}: {error}", changed
    finally:
        signal.alarm(0)
        path.write_bytes(content)
    return "read", changed


def run_batch(seed: int, work: Path) -> tuple[Counter[str], list[tuple[str, bytes]]]:
    """Try a thousand files; runs in a process of its own."""

    def too_slow(*_: object) -> None:
        raise Slow

    signal.signal(signal.SIGALRM, too_slow)
    rng = random.Random(seed)
    targets = make_targets(work, rng)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + _MEMORY, used + _MEMORY))
    counts: Counter[str] = Counter()
    finds: list[tuple[str, bytes]] = []
    names = list(targets)
    for i in range(_BATCH):
        name = names[i % len(names)]
        result, changed = try_one(*targets[name], rng)
        counts[f"{name}|{result.split(':')[0]}"] += 1
        if result.startswith(("lost", "accepted")):
            finds.append((f"{name} {result}", changed))
    return counts, finds


def fork_batch(seed: int) -> tuple[Counter[str], list[tuple[str, bytes]]]:
    """Run a batch in a fork of this process, whose kernels are compiled."""
    with tempfile.TemporaryDirectory() as work, tempfile.TemporaryFile() as results:
        child = os.fork()
        if child == 0:
            try:
                results.write(pickle.dumps(run_batch(seed, Path(work))))
                results.flush()
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        results.seek(0)
        data = results.read()
        if os.WIFSIGNALED(status) or not data:
            return Counter({f"batch|lost, seed {seed}, status {status}": 1}), []
        found: tuple[Counter[str], list[tuple[str, bytes]]] = pickle.loads(data)  # our own bytes
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--output", type=Path, default=Path("results/fuzz"), help="for what it finds"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:  # compiles what the forks will run
        make_targets(Path(work), random.Random(options.seed))
    counts: Counter[str] = Counter()
    n_finds, began = 0, time.perf_counter()
    for batch in range(-(-options.inputs // _BATCH)):
        found, finds = fork_batch(options.seed * 1_000_003 + batch)
        counts.update(found)
        for name, changed in finds:
            n_finds += 1
            options.output.mkdir(parents=True, exist_ok=True)
            stem = options.output / f"{options.seed}-{batch}-{n_finds}"
            stem.with_suffix(".bin").write_bytes(changed)
            stem.with_suffix(".why").write_text(name)
    print_table(counts, time.perf_counter() - began)
    bad = sum(n for name, n in counts.items() if "lost" in name or "accepted" in name)
    raise SystemExit(1 if bad else 0)


def print_table(counts: Counter[str], seconds: float) -> None:
    """Results by format."""
    out = io.StringIO()
    results = ("read", "refused", "unchanged", "accepted though wrong", "lost")
    print("| file | " + " | ".join(results) + " |", file=out)
    print("|---" * (len(results) + 1) + "|", file=out)
    for name in sorted({key.split("|")[0] for key in counts}):
        row = [
            sum(n for key, n in counts.items() if key.startswith(f"{name}|{result}"))
            for result in results
        ]
        print(f"| {name} | " + " | ".join(map(str, row)) + " |", file=out)
    print(out.getvalue(), end="")
    print(f"{sum(counts.values()):,} files in {seconds:.0f} s on {describe_machine()['processor']}")


if __name__ == "__main__":
    main()
