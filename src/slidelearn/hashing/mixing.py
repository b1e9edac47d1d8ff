"""Counter-based pseudo-random integers: the same arguments give the same number everywhere."""

from typing import TypeAlias

import numpy as np
from numba import njit

__all__ = ["below", "mix32", "mix_pair"]

_Integer: TypeAlias = int | np.integer

_LOW_32 = 0xFFFFFFFF
# Odd fractions of sqrt(2) and sqrt(3). Both are below 2**31, so that a product with a 32-bit number
# stays below 2**63 and no signed 64-bit integer overflows, with Numba or without.
_FIRST_FACTOR = 0x3504F333
_SECOND_FACTOR = 0x5DB3D743


@njit(cache=True, nogil=True)
def mix32(x: _Integer) -> np.int64:
    """Scramble the low 32 bits of an integer, one to one, into an integer in [0, 2**32).

    Three xor-shifts around two products: every input bit reaches every output bit.
    """
    bits = np.int64(x) & _LOW_32
    bits ^= bits >> 16
    bits = (bits * _FIRST_FACTOR) & _LOW_32
    bits ^= bits >> 15
    bits = (bits * _SECOND_FACTOR) & _LOW_32
    return bits ^ (bits >> 16)


@njit(cache=True, nogil=True)
def mix_pair(a: _Integer, b: _Integer) -> np.int64:
    """Scramble two integers, in order, into one integer in [0, 2**32).

    Longer keys chain: ``mix_pair(mix_pair(a, b), c)``.
    """
    return mix32((mix32(a) * 5 + np.int64(b) + 1) & _LOW_32)


@njit(cache=True, nogil=True)
def below(x: _Integer, bound: _Integer) -> np.int64:
    """Map ``x`` in [0, 2**32) evenly to an integer in [0, bound), without a division.

    ``bound`` is at most 2**31.
    """
    return (np.int64(x) * np.int64(bound)) >> 32
