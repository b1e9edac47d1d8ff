"""The scripts that look for trouble, in short."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
@pytest.mark.parametrize(
    "words", [["benchmarks.soak", "--seconds", "5"], ["benchmarks.fuzz", "--inputs", "1000"]]
)
def test_nothing_is_lost(words, tmp_path):
    command = [sys.executable, "-m", *words]
    if "benchmarks.fuzz" in words:
        command += ["--output", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    found = [path.read_text(errors="replace") for path in tmp_path.glob("*.why")]
    assert done.returncode == 0, (done.stdout, done.stderr, found)
