"""Real faults of the system: a disk that fills up, folders that cannot be written, no memory."""

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from models import assert_same_arrays
from problems import clusters
from slidelearn.checkpoint import CheckpointPlan, find_checkpoints
from slidelearn.cli import main
from slidelearn.datasets import Dataset, save_dataset
from slidelearn.errors import ModelError
from slidelearn.fitting import FitEvents, fit_model
from slidelearn.model_file import load_model, save_model

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux")

QUICK = {"hidden": [128], "tail": 10, "epochs": 2, "batch_size": 64, "threads": 1}
_NOBODY = 65534


def problem(seed=0):
    X, Y, _ = clusters(seed=seed)
    return Dataset(X, Y)


@contextmanager
def mounted(folder, options):
    """A small file system of its own, where the test may mount one."""
    folder.mkdir(exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("mounting takes rights that this process lacks")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def unwritable():
    """A folder that this process may read, but not change, whoever it runs as."""
    folder, user = Path(tempfile.mkdtemp()), os.geteuid()
    folder.chmod(0o555)
    if user == 0:
        os.seteuid(_NOBODY)
    try:
        yield folder
    finally:
        if user == 0:
            os.seteuid(0)
        folder.chmod(0o755)
        shutil.rmtree(folder)


def room_for(model, folder):
    save_model(model, folder)
    return sum(path.stat().st_size for path in folder.iterdir())


def test_a_disk_that_fills_up_leaves_the_model_before(tmp_path):
    small, large = (fit_model(problem(), QUICK | {"hidden": [n]}) for n in (64, 128))
    room = room_for(large, tmp_path / "elsewhere")
    with mounted(tmp_path / "disk", f"size={room // 4096 * 4096}") as disk:
        save_model(small, disk / "model")
        with pytest.raises(ModelError, match="No space left on device"):
            save_model(large, disk / "model")
        assert_same_arrays(load_model(disk / "model"), small)
        assert all(not path.name.startswith(".") for path in (disk / "model").iterdir())


def test_a_disk_that_fills_up_leaves_the_checkpoint_before(tmp_path):
    whole, done = fit_model(problem(), QUICK), []
    events = FitEvents(on_progress=done.append, should_interrupt=lambda: len(done) >= 2)
    fit_model(problem(), QUICK, checkpoints=CheckpointPlan(tmp_path, steps=1), events=events)
    size = max(path.stat().st_size for path in find_checkpoints(tmp_path))
    with mounted(tmp_path / "disk", f"size={int(2.5 * size) // 4096 * 4096}") as disk:
        with pytest.raises(ModelError, match="No space left on device"):
            fit_model(problem(), QUICK, checkpoints=CheckpointPlan(disk, steps=1))
        assert len(find_checkpoints(disk)) == 2
        assert_same_arrays(
            fit_model(problem(), QUICK, checkpoints=CheckpointPlan(disk, resume=True)), whole
        )


def test_a_disk_that_is_read_only(tmp_path):
    model = fit_model(problem(), QUICK)
    with mounted(tmp_path / "disk", "size=4m") as disk:
        save_model(model, disk / "model")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with pytest.raises(ModelError, match="Read-only file system"):
            save_model(fit_model(problem(seed=1), QUICK), disk / "model")
        assert_same_arrays(load_model(disk / "model"), model)


def test_a_folder_without_permission(tmp_path, capsys):
    data = problem()
    with unwritable() as folder:
        with pytest.raises(ModelError, match="Permission denied"):
            save_model(fit_model(data, QUICK), folder / "model")
        with pytest.raises(ModelError, match="Permission denied"):
            fit_model(data, QUICK, checkpoints=CheckpointPlan(folder, steps=1))
    path = Path(tempfile.mkdtemp()) / "train.txt"  # the user without rights must be able to read it
    save_dataset(data, path)
    path.parent.chmod(0o755)
    path.chmod(0o644)
    # Kernels are compiled before: who has no rights cannot write to Numba's cache either.
    assert main(["train", str(path), "--model", str(tmp_path / "m"), "--quiet"]) == 0
    capsys.readouterr()
    with unwritable() as folder:
        assert main(["train", str(path), "--model", str(folder / "model"), "--quiet"]) == 1
        assert main(["train", str(path), "--model", str(folder), "--quiet"]) == 1
    shutil.rmtree(path.parent)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(
        line.startswith(f"slide: error: {folder}"[:20]) and "Permission denied" in line
        for line in lines
    )


def test_a_folder_that_is_removed_under_way(tmp_path):
    folder, done = tmp_path / "run", []
    folder.mkdir()

    def remove(progress):
        done.append(progress)
        if len(done) == 3:
            shutil.rmtree(folder)

    plan = CheckpointPlan(folder, steps=1)
    with pytest.raises(ModelError, match="No such file or directory"):
        fit_model(problem(), QUICK, checkpoints=plan, events=FitEvents(on_progress=remove))


def command(words, prepare, tmp_path):
    """Run a command in a process of its own, after it was prepared."""
    code = f"import sys\n{prepare}\nfrom slidelearn.cli import main\nsys.exit(main({words!r}))"
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path
    )


def test_a_run_that_does_not_fit_is_refused_by_a_limit_of_the_process(tmp_path):
    save_dataset(problem(), tmp_path / "train.txt")
    limit = "import resource; resource.setrlimit(resource.RLIMIT_DATA, (2**30, 2**30))"
    words = ["train", "train.txt", "--model", "m", "--hidden", "2000000"]
    done = command(words, limit, tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "training needs" in done.stderr
    assert not list((tmp_path / "m").glob("*.safetensors"))


def test_memory_that_runs_out_ends_in_one_line(tmp_path):
    save_dataset(problem(), tmp_path / "train.txt")
    assert main(["train", str(tmp_path / "train.txt"), "--model", str(tmp_path / "m")]) == 0
    model = load_model(tmp_path / "m")
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    assert soft == hard == resource.RLIM_INFINITY or soft > 2**31
    blind = (
        "import resource; resource.setrlimit(resource.RLIMIT_DATA, (2**30, 2**30))\n"
        "from slidelearn import fitting; fitting.check_memory = lambda *_, **__: None"
    )
    words = ["train", "train.txt", "--model", "m", "--hidden", "8000000", "--quiet"]
    done = command(words, blind, tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("slide: error: out of memory")
    assert done.stderr.count("\n") == 1
    assert_same_arrays(load_model(tmp_path / "m"), model)
