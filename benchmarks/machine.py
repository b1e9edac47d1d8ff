"""What a figure was measured on."""

import os
import platform
from pathlib import Path
from typing import Any

__all__ = ["describe_machine", "peak_memory"]


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
    """Peak memory of this process in MB; getrusage would count that of the one it came from."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return float("nan")
