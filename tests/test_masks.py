"""Masks against comparisons one by one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from slidelearn.masks import IN_MASK, above, lowest, order_of

EDGES = [-np.inf, -3e38, -2.5, -1e-45, -0.0, 0.0, 1e-45, 1.0, 1.0000001, 3e38, np.inf]


@njit
def places_above(keys, start, bound, out):
    """Write the places of one mask, counted from its start; say how many."""
    mask, n = above(keys, start, bound), 0
    while mask != 0:
        out[n] = lowest(mask)
        n += 1
        mask &= mask - np.uint64(1)
    return n


@njit
def orders_of(keys):
    out = np.empty(len(keys), np.int32)
    for j in range(len(keys)):
        out[j] = order_of(keys[j])
    return out


@pytest.mark.nojit
@given(st.integers(0, 2**32 - 1), st.integers(0, 9), st.sampled_from(EDGES))
@settings(deadline=None)
def test_a_mask_names_the_keys_above_a_bound(seed, start, bound):
    rng = np.random.default_rng(seed)
    keys = np.where(rng.random(80) < 0.5, rng.choice(EDGES, 80), rng.normal(size=80))
    keys, out = keys.astype(np.float32), np.empty(IN_MASK, np.int64)
    orders = orders_of(keys)
    least = orders_of(np.array([bound], np.float32))[0]
    n = places_above(keys, start, least, out)
    assert out[:n].tolist() == np.flatnonzero(orders[start : start + IN_MASK] > least).tolist()


@pytest.mark.nojit
def test_orders_are_those_of_the_keys():
    assert (np.diff(orders_of(np.array(EDGES, np.float32)).astype(np.int64)) > 0).all()
