"""Ranks of long lists, against searches in plain NumPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batches import random_features, random_labels
from slidelearn.layers import Pairs
from slidelearn.ranks import NO_RANKS, find_rank, long_lists, make_ranks, most_long, rank_bytes
from slidelearn.rows import sparse_rows
from slidelearn.scratch import zeros
from slidelearn.wide import find_hits, make_wide


def check_ranks(lists, n_features):
    """Every list that is long enough has ranks, and they say where every feature is."""
    indptr = np.concatenate(([0], np.cumsum([len(own) for own in lists])))
    features = np.array([f for own in lists for f in own], np.int32)
    ranks = make_ranks(indptr, features, n_features)
    long = [n for n, own in enumerate(lists) if 64 * len(own) > n_features]
    assert long_lists(indptr, n_features).tolist() == long
    assert sum(a.nbytes for a in ranks) == rank_bytes(len(long), len(lists), n_features)
    assert len(long) <= most_long(len(features), n_features)
    for n, own in enumerate(lists):
        row = ranks.rows[n] if len(ranks.rows) else -1
        assert (row >= 0) == (n in long)
        for feature in range(n_features) if row >= 0 else ():
            expected = int(np.searchsorted(own, feature)), int(feature in own)
            assert find_rank(ranks, row, feature) == expected


@pytest.mark.nojit
@given(st.lists(st.sets(st.integers(0, 199)), max_size=6), st.integers(200, 300))
@settings(max_examples=30, deadline=None)
def test_ranks_say_where_features_are(sets, n_features):
    check_ranks([sorted(own) for own in sets], n_features)


@pytest.mark.nojit
@pytest.mark.parametrize("n_features", [1, 31, 32, 33, 64])
def test_words_begin_and_end_anywhere(n_features):
    every = list(range(n_features))
    check_ranks([every, [], every[:1], every[-1:], every[::2]], n_features)


def test_short_lists_have_none():
    assert make_ranks(np.array([0, 1, 2]), np.array([3, 70_000], np.int32), 100_000) is NO_RANKS
    assert make_ranks(np.array([0]), np.empty(0, np.int32), 5) is NO_RANKS


@pytest.mark.nojit
def test_hits_are_the_same_with_and_without():
    n, n_features, n_labels = 12, 150, 9
    X, Y = random_features(n, n_features), random_labels(n, n_labels)
    wide, _ = make_wide(X, Y, 1.0)
    ranks = make_ranks(wide.indptr, wide.features, n_features)
    assert len(ranks.words) > 0
    rng, x = np.random.default_rng(0), sparse_rows(X)
    pairs = Pairs(np.arange(n + 1) * 4, rng.integers(0, n_labels, 4 * n).astype(np.int32))
    without = find_hits(x, wide, pairs, zeros(n_features))
    for one, other in zip(
        find_hits(x, wide, pairs, zeros(n_features), ranks), without, strict=True
    ):
        assert np.array_equal(one, other)
    assert len(without.places) > 0
