"""Virtual environments for the peers, whose versions are pinned; made on first use."""

import subprocess
import sys
from pathlib import Path

__all__ = ["ENVIRONMENTS", "python_of"]

# Each is a list of calls of pip. PECOS' tree models need none of the packages that it asks for,
# and like fastText they want a NumPy before version 2.
ENVIRONMENTS: dict[str, list[list[str]]] = {
    "numpy2": [
        ["torch==2.13.0", "--index-url", "https://download.pytorch.org/whl/cpu"],
        ["numpy", "scipy", "omikuji==0.5.2", "napkinxc==0.7.2"],
    ],
    "numpy1": [
        ["numpy==1.26.4", "scipy==1.13.1", "scikit-learn", "setuptools", "wheel", "pybind11"],
        ["--no-deps", "libpecos==1.2.8"],
        ["--no-deps", "--no-build-isolation", "fasttext==0.9.3"],
    ],
    "nearest": [["numpy", "faiss-cpu==1.15.1", "usearch==2.26.6", "hnswlib==0.8.0"]],
}


def python_of(work: Path, name: str) -> Path:
    """Return the interpreter of an environment."""
    folder = work / "environments" / name
    python = folder / "bin" / "python"
    done = folder / "complete"
    if not done.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        for packages in ENVIRONMENTS[name]:
            subprocess.run([str(python), "-m", "pip", "install", "-q", *packages], check=True)
        done.touch()
    return python
