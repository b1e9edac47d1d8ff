"""slidelearn beside its peers: same files, same machine, same threads, one after the other.

``python -m benchmarks.peers DATASET`` trains every contestant on DATASET/train.* in a process of
its own, tests it on DATASET/test.*, and writes a JSON file, a Markdown table and a plot of P@1
against training seconds. Seconds of training include neither loading the data, as far as a library
allows to tell them apart, nor compiling kernels. Environments of the peers are made on first use.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import save_npz

from benchmarks.environments import ENVIRONMENTS, python_of
from benchmarks.machine import describe_machine
from benchmarks.problem import load_part
from benchmarks.report import draw_curves, markdown_table
from slidelearn.config import Config
from slidelearn.datasets import save_dataset
from slidelearn.metrics import propensity, report
from slidelearn.model import prepare_features

CONTESTANTS = {
    "slidelearn": ("contest.ours:Slide", None),
    "slidelearn-exact": ("contest.ours:SlideExact", None),
    "slidelearn-curve": ("contest.ours:SlideCurve", None),
    "omikuji": ("contest.trees:Omikuji", "numpy2"),
    "omikuji-bonsai": ("contest.trees:Bonsai", "numpy2"),
    "pecos": ("contest.trees:Pecos", "numpy1"),
    "napkinxc": ("contest.trees:Napkin", "numpy2"),
    "fasttext": ("contest.neural:FastText", "numpy1"),
    "torch-softmax": ("contest.neural:TorchSoftmax", "numpy2"),
    "torch-sampled": ("contest.neural:TorchSampled", "numpy2"),
}
_HERE = Path(__file__).parent
_THREADS = ("OMP", "MKL", "OPENBLAS", "RAYON", "NUMBA")


def write_data(dataset: Path, folder: Path) -> tuple[Any, np.ndarray]:
    """Write the files that contestants read; returns the test labels and inverse propensities."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = {}
    for part in ("train", "test"):
        data = load_part(dataset, part)
        data = data._replace(X=prepare_features(data.X, Config()))
        save_npz(folder / f"{part}_X.npz", data.X, compressed=False)
        save_npz(folder / f"{part}_Y.npz", data.Y.astype(np.float32), compressed=False)
        parts[part] = data
    save_dataset(parts["train"], folder / "train.txt")
    return parts["test"].Y, propensity(parts["train"].Y)


def run_stage(stage: str, name: str, work: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run one stage of a contestant in its own process and environment."""
    entry, environment = CONTESTANTS[name]
    facts = work / f"{name}.{stage}.json"
    facts.unlink(missing_ok=True)
    python = sys.executable if environment is None else python_of(options.work, environment)
    command = [str(python), "-m", "contest", stage, entry, str(work / "data")]
    command += [str(work / "models" / name), str(facts), str(options.threads), str(options.budget)]
    limits = {f"{name}_NUM_THREADS": str(options.threads) for name in _THREADS}
    with open(work / f"{name}.{stage}.log", "w") as log:
        done = subprocess.run(
            command, cwd=_HERE, env=os.environ | limits, stdout=log, stderr=log, check=False
        )
    if done.returncode:
        last = (work / f"{name}.{stage}.log").read_text().strip().splitlines()[-1:]
        raise RuntimeError(f"{stage} ended with {done.returncode}: {' '.join(last)}")
    return dict(json.loads(facts.read_text()))


def run_contestant(
    name: str, work: Path, truth: tuple[Any, np.ndarray], options: argparse.Namespace
) -> dict[str, Any]:
    """Train and test one contestant; a failure is a result too."""
    Y, weights = truth
    result: dict[str, Any] = {"name": name, "load_before": os.getloadavg()}
    model = work / "models" / name
    shutil.rmtree(model, ignore_errors=True)
    model.parent.mkdir(parents=True, exist_ok=True)
    try:
        result |= run_stage("train", name, work, options)
        result |= run_stage("test", name, work, options)
        found = np.load(work / "models" / f"{name}.predictions.npz")
        result |= _rounded(report(found["test"], Y, weights))
        result["curve"] = [
            {"seconds": seconds} | _rounded(report(top, Y[: len(top)], weights))
            for seconds, top in zip(result.pop("curve_seconds"), found["curve"], strict=True)
        ]
    except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
        result["error"] = str(error)
    result["load_after"] = os.getloadavg()
    shutil.rmtree(model, ignore_errors=True)
    return result


def _rounded(scores: dict[str, float]) -> dict[str, float]:
    return {name: round(score, 2) for name, score in scores.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path, help="folder with train.* and test.*")
    parser.add_argument("--peers", help=f"some of {','.join(CONTESTANTS)}; all unless given")
    parser.add_argument("--budget", type=float, default=600, help="seconds for iterative peers")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--output", type=Path, default=Path("results"), help="folder for results")
    parser.add_argument(
        "--work", type=Path, default=Path.home() / ".cache" / "slidelearn-benchmarks",
        help="folder for environments, data and models",
    )  # fmt: skip
    options = parser.parse_args()
    names = options.peers.split(",") if options.peers else list(CONTESTANTS)
    for name in names:
        if name not in CONTESTANTS:
            parser.error(f"--peers has {name!r}, choose among {', '.join(CONTESTANTS)}")
    title = options.dataset.resolve().name
    work = options.work / title
    truth = write_data(options.dataset, work / "data")
    results = {
        "dataset": title,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python -m benchmarks.peers", *sys.argv[1:]]),
        "threads": options.threads,
        "machine": describe_machine(),
        "versions": ENVIRONMENTS,
        "contestants": [],
    }
    options.output.mkdir(parents=True, exist_ok=True)
    for name in names:
        print(f"{name} ...", file=sys.stderr, flush=True)
        results["contestants"].append(run_contestant(name, work, truth, options))
        # Written after each of them: a long run that is cut off leaves what it has measured.
        (options.output / f"peers_{title}.json").write_text(json.dumps(results, indent=1))
        table = markdown_table(results["contestants"])
        (options.output / f"peers_{title}.md").write_text(table)
    draw_curves(results, options.output / f"peers_{title}.png")
    print(table)


if __name__ == "__main__":
    main()
