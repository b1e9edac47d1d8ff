"""How the system reads the file that an array is mapped from, as Linux tells."""

import re
from pathlib import Path


def is_read_by_page(array):
    """Whether no more than the page that is asked for is read."""
    address, inside = array.ctypes.data, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if match := re.match("([0-9a-f]+)-([0-9a-f]+) ", line):
            inside = int(match[1], 16) <= address < int(match[2], 16)
        elif inside and line.startswith("VmFlags:"):
            return "rr" in line.split()
    raise AssertionError("the mapping is not listed")
