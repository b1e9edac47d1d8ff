"""How the system reads the file that an array is mapped from, as Linux tells."""

import re
from pathlib import Path


def is_read_by_page(array):
    """Whether no more than the page that is asked for is read."""
    return "rr" in _flags(array)


def is_read_in_large_pages(array):
    """Whether as much as a large page may be read at once."""
    return "hg" in _flags(array)


def _flags(array):
    """What the system was told of an array's mapping, in codes of two letters."""
    address, inside = array.ctypes.data, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if match := re.match("([0-9a-f]+)-([0-9a-f]+) ", line):
            inside = int(match[1], 16) <= address < int(match[2], 16)
        elif inside and line.startswith("VmFlags:"):
            return line.split()[1:]
    raise AssertionError("the mapping is not listed")
