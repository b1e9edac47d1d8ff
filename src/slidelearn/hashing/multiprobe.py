"""From K hashes to one bucket, and to the next-best buckets when some hashes were a close call."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from slidelearn.hashing.mixing import below, mix_pair

__all__ = ["EMPTY_BUCKET", "cheapest_flips", "fold_probes"]

EMPTY_BUCKET = 0  # where a vector without a single hash goes; no other vector does


@njit(cache=True, nogil=True)
def cheapest_flips(
    costs: NDArray[np.float32], masks: NDArray[np.int64], totals: NDArray[np.float64]
) -> int:
    """Write the subsets of positions with the least total cost, cheapest first, as bit masks.

    ``masks`` and ``totals`` are (2, P): row 0 is the result, row 1 scratch; returns how many.
    """
    wanted = masks.shape[1]
    masks[0, 0] = 0
    totals[0, 0] = 0.0
    found = 1
    for position in range(costs.shape[0]):  # costs: (K,), infinite where there is no alternative
        cost = np.float64(costs[position])
        if cost == np.inf or (found == wanted and cost >= totals[0, found - 1]):
            continue
        # Merge the subsets without this position and those with it: both lists are sorted.
        without, with_it, merged = 0, 0, 0
        while merged < wanted and with_it < found:
            if without < found and totals[0, without] <= totals[0, with_it] + cost:
                masks[1, merged] = masks[0, without]
                totals[1, merged] = totals[0, without]
                without += 1
            else:
                masks[1, merged] = masks[0, with_it] | (1 << position)
                totals[1, merged] = totals[0, with_it] + cost
                with_it += 1
            merged += 1
        found = merged
        masks[0, :found] = masks[1, :found]
        totals[0, :found] = totals[1, :found]
    return found


@njit(cache=True, nogil=True)
def _fold(
    first: NDArray[np.int32],
    second: NDArray[np.int32],
    mask: np.int64,
    seed: np.int64,
    n_buckets: int,
) -> np.int64 | int:
    """Mix K hashes into a bucket; ``mask`` says which are replaced by the second choice.

    Hashes that are all absent (-1) give the bucket that is reserved for them.
    """
    mixed = seed
    any_hash = False
    for k in range(first.shape[0]):
        value = second[k] if (mask >> k) & 1 else first[k]
        any_hash = any_hash or value >= 0
        mixed = mix_pair(mixed, value)
    return 1 + below(mixed, n_buckets - 1) if any_hash else EMPTY_BUCKET


@njit(cache=True, nogil=True)
def fold_probes(
    first: NDArray[np.int32],
    second: NDArray[np.int32],
    costs: NDArray[np.float32],
    seed: int,
    n_buckets: int,
    probes: NDArray[np.int32],
) -> None:
    """Fold K hashes, then their cheapest replacements by second choices, into distinct buckets.

    Hashes and costs are (n, L, K), ``probes`` (n, L, P) is filled up with -1.
    """
    n_probes = probes.shape[2]
    masks = np.empty((2, n_probes), np.int64)
    totals = np.empty((2, n_probes), np.float64)
    for row in range(first.shape[0]):
        for table in range(first.shape[1]):
            found = 0
            for i in range(cheapest_flips(costs[row, table], masks, totals)):
                bucket = _fold(
                    first[row, table],
                    second[row, table],
                    masks[0, i],
                    mix_pair(seed, table),
                    n_buckets,
                )
                known = False
                for j in range(found):
                    known = known or probes[row, table, j] == bucket
                if not known:
                    probes[row, table, found] = bucket
                    found += 1
            probes[row, table, found:] = -1
