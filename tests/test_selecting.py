"""The largest keys against a sort."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slidelearn.selecting import keep_about, keep_largest

FINITE = [-np.inf, -3e38, -2.5, -1e-40, 0.0, 1e-45, 1.0, 1.0000001, 3e38, np.inf]


def kept(keys, ids, limit):
    """What is kept of copies, in order."""
    keys, ids = keys.copy(), ids.copy()
    size = keep_largest(keys, ids, len(keys), limit)
    return list(zip(keys[:size].tolist(), ids[:size].tolist(), strict=True))


def expected(keys, ids, limit):
    """The same by a sort: the largest keys, of equals the smaller ids, in the order they came."""
    best = np.lexsort((ids, -keys.astype(np.float64)))[:limit]
    return [(keys[j].item(), ids[j].item()) for j in np.sort(best)]


@pytest.mark.nojit
@given(
    st.integers(0, 200),
    st.integers(1, 30),
    st.sampled_from(["normal", "few", "edges", "rising", "falling"]),
    st.integers(0, 2**32 - 1),
)
@settings(deadline=None)
def test_the_largest_are_kept_in_order(n, limit, kind, seed):
    """More than eight times as many as are wanted, or fewer; equal ones and infinite ones too."""
    rng = np.random.default_rng(seed)
    keys = {
        "normal": rng.normal(size=n),
        "few": rng.integers(-1, 2, n),
        "edges": rng.choice(FINITE, n),
        "rising": np.arange(n),
        "falling": -np.arange(n),
    }[kind].astype(np.float32)
    ids = rng.permutation(2**31 - 1 - np.arange(n)).astype(np.int32)
    best = expected(keys, ids, limit)
    assert kept(keys, ids, limit) == best
    entries = list(zip(keys.tolist(), ids.tolist(), strict=True))
    size = int(keep_about(keys, ids, n, limit))
    about = list(zip(keys[:size].tolist(), ids[:size].tolist(), strict=True))
    assert about == [entry for entry in entries if entry in set(about)]  # in order
    least = min((key for key, _ in best), default=0)
    assert sorted(key for key, _ in about)[::-1][: len(best)] == sorted(k for k, _ in best)[::-1]
    assert {entry for entry in entries if entry[0] > least} <= set(about)


def test_about_as_many_are_kept_as_are_wanted():
    rng = np.random.default_rng(0)
    for n, limit in ((5000, 300), (100_000, 3000), (700, 300)):
        keys, ids = rng.normal(size=n).astype(np.float32), np.arange(n, dtype=np.int32)
        assert limit <= keep_about(keys, ids, n, limit) <= 4 * limit


def test_many_equal_keys_keep_the_smallest_ids():
    ids = np.random.default_rng(0).permutation(5000).astype(np.int32)
    found = kept(np.ones(5000, np.float32), ids, 7)
    assert sorted(n for _, n in found) == list(range(7))


@pytest.mark.parametrize("limit", [1, 10, 60])
def test_what_is_not_a_number_does_no_harm(limit):
    """As many are kept as ever, or fewer."""
    keys = np.random.default_rng(0).normal(size=100).astype(np.float32)
    for n_bad in (1, 50, 100):
        keys[:n_bad] = np.nan
        found = kept(keys, np.arange(100, dtype=np.int32), limit)
        assert len(found) <= limit
        assert len({n for _, n in found}) == len(found)
