"""What a figure was measured on."""

import os
import platform
from pathlib import Path
from typing import Any

__all__ = ["describe_machine", "peak_memory", "process_memory"]


def describe_machine() -> dict[str, Any]:
    """Name the processor, its cores and the memory."""
    info = Path("/proc/cpuinfo")
    names = [
        line.split(":", 1)[1].strip()
        for line in (info.read_text().splitlines() if info.exists() else [])
        if line.startswith("model name")
    ]
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "python": platform.python_version(),
    }


def peak_memory() -> float:
    """Peak memory of this process in MiB; getrusage would count that of the one it came from."""
    return process_memory("VmHWM")


def process_memory(kind: str, pid: int | str = "self") -> float:
    """Memory of a process in MiB, of a kind that /proc tells: VmHWM, RssAnon; NaN if it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return float("nan")
    sizes = [int(line.split()[1]) for line in lines if line.startswith(f"{kind}:")]
    return sizes[0] / 1024 if sizes else float("nan")
