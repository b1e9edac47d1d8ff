"""Sorted ids against NumPy."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from slidelearn.sorting import sort_ids


@given(
    st.integers(0, 80),
    st.sampled_from([0, 1, 255, 256, 65_535, 65_536, 2**24, 2**31 - 1]),
    st.integers(0, 2**32 - 1),
)
def test_ids_are_in_order(n, most, seed):
    """Of any number, of one to four digits, with equal ones among them."""
    ids = np.random.default_rng(seed).integers(0, most, n, np.int32, endpoint=True)
    expected = np.sort(ids)
    sort_ids(ids)
    assert ids.tolist() == expected.tolist()


def test_a_part_of_an_array_is_sorted_alone():
    """What stands before and behind it stays."""
    ids = np.arange(100, 0, -1, dtype=np.int32)
    sort_ids(ids[20:60])
    assert ids.tolist() == [*range(100, 80, -1), *range(41, 81), *range(40, 0, -1)]
