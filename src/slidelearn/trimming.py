"""Trimming: memory that was freed goes back to the system.

The C library keeps what it expects to need again, and short-lived arrays of some ten megabytes
leave it holes that no larger array fits into. At the peak of a training run that was 5 % of it.
"""

import ctypes
import os

__all__ = ["trim_memory"]


def trim_memory() -> None:
    """Give freed memory back, where the C library can: glibc does, others see to it themselves.

    Examples
    --------
    >>> trim_memory()
    """
    if os.name == "posix":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
