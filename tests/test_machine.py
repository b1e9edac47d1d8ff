"""How much memory there is: by the machine, control groups and limits of the process."""

import subprocess
import sys

import pytest

from slidelearn import machine
from slidelearn.machine import available_memory, memory_for_process


def group(folder, limit, used, cache, names=("max", "current", "")):
    """A control group whose caches are half active."""
    folder.mkdir(parents=True, exist_ok=True)
    active = cache // 2
    stat = f"anon 5\n{names[2]}inactive_file {cache - active}\n{names[2]}active_file {active}"
    for name, text in zip((*names[:2], "stat"), (limit, used, stat), strict=True):
        (folder / f"memory.{name}").write_text(f"{text}\n")


def known(limits):
    return sorted(limit for limit in limits if limit is not None)


def test_memory_that_is_free():
    left = available_memory()
    assert left is None or 2**20 < left < 2**50
    whole = memory_for_process()
    assert (whole is None) == (left is None)
    assert whole is None or whole > 2**20


def test_no_control_group_is_no_limit(tmp_path):
    assert known(machine._group_memory(tmp_path, tmp_path / "cgroup")) == []


def test_a_control_group_limits_the_memory(tmp_path):
    own = tmp_path / "cgroup"
    own.write_text("0::/user/job\n")
    root = tmp_path / "groups"
    group(root / "user" / "job", 1000, 700, 50)
    assert known(machine._group_memory(root, own)) == [350]
    group(root / "user", 800, 600, 0)  # the one around it counts as well
    group(root, "max", 1, 0)
    assert known(machine._group_memory(root, own)) == [200, 350]


def test_a_container_sees_its_group_at_the_root(tmp_path):
    own = tmp_path / "cgroup"
    own.write_text("0::/outside/of/the/container\n")
    group(tmp_path / "groups", 1000, 900, 0)
    assert known(machine._group_memory(tmp_path / "groups", own)) == [100]


def test_a_control_group_of_version_1(tmp_path):
    own = tmp_path / "cgroup"
    own.write_text("4:memory:/job\n0::/\n")
    root, names = tmp_path / "groups", ("limit_in_bytes", "usage_in_bytes", "total_")
    group(root / "memory" / "job", 1000, 700, 50, names)
    group(root / "memory", 2**63 - 4096, 700, 50, names)
    assert known(machine._group_memory(root, own)) == [350]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits that Linux has")
@pytest.mark.parametrize("name", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_a_limit_of_the_process(name):
    code = (
        "import resource\n"
        f"resource.setrlimit(resource.{name}, (2**30, 2**30))\n"
        "from slidelearn.machine import available_memory\n"
        "print(available_memory())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 2**20 < int(done.stdout) < 2**30
