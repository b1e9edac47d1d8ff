import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.sparse import csr_matrix

from slidelearn.layers import Pairs
from slidelearn.pair_sums import add_sums
from slidelearn.ranks import NO_RANKS, make_ranks
from slidelearn.rows import sparse_rows
from slidelearn.scratch import zeros
from slidelearn.wide import Wide

N, D, N_LABELS = 7, 600, 5


def make_problem(seed):
    """Examples of no, one and some features; labels of none, some, half of them, and all."""
    rng = np.random.default_rng(seed)
    rows = [rng.permutation(D)[:size] for size in (0, 1, 2, 3, 9, 40, 0)]
    X = np.zeros((N, D), np.float32)
    for i, row in enumerate(rows):
        X[i, row] = rng.normal(size=len(row))
    shares = np.array([0, 0.02, 0.2, 0.5, 1])
    stored = rng.random((N_LABELS, D)) < shares[:, None]
    weights = [rng.normal(size=int(stored.sum())).astype(np.float32) for _ in range(2)]
    indptr = np.concatenate(([0], np.cumsum(stored.sum(axis=1))))
    features = np.nonzero(stored)[1].astype(np.int32)
    sizes = rng.integers(0, 4, N)
    neurons = rng.integers(0, N_LABELS, sizes.sum()).astype(np.int32)
    pairs = Pairs(np.concatenate(([0], np.cumsum(sizes))), neurons)
    path = Wide(indptr, features, weights[0], np.empty(0, np.float32))
    return csr_matrix(X), path, weights[1], pairs


@pytest.mark.nojit
@given(st.integers(0, 2**32 - 1), st.booleans(), st.booleans())
@settings(deadline=None, max_examples=40)
def test_sums_are_those_of_dense_weights(seed, both, ranked):
    X, path, other, pairs = make_problem(seed)
    beside = other if both else other[:0]
    ranks = make_ranks(path.indptr, path.features, D) if ranked else NO_RANKS
    assert (len(ranks.words) > 0) == ranked
    sums, sums_beside = np.ones((2, len(pairs.neurons)), np.float32)
    scratch = zeros(D)
    add_sums(sparse_rows(X), path, beside, pairs, scratch, sums, sums_beside, ranks)
    assert not scratch.any()
    owners = np.repeat(np.arange(N), np.diff(pairs.indptr))
    for got, own in ((sums, path.weights), (sums_beside, other if both else np.zeros_like(other))):
        dense = csr_matrix((own, path.features, path.indptr), (N_LABELS, D)).toarray()
        expected = 1 + (X.toarray().astype(float) @ dense.T.astype(float))[owners, pairs.neurons]
        assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.nojit
def test_nothing_is_added_for_no_pairs():
    X, path, other, _ = make_problem(0)
    nothing = np.empty(0, np.float32)
    for n in (0, N):
        pairs = Pairs(np.zeros(n + 1, np.int64), np.empty(0, np.int32))
        add_sums(sparse_rows(X[:n]), path, other, pairs, zeros(D), nothing, nothing)


@pytest.mark.nojit
def test_a_scratch_that_is_too_short_is_refused():
    X, path, other, pairs = make_problem(0)
    sums = np.zeros((2, len(pairs.neurons)), np.float32)
    with pytest.raises(ValueError, match="scratch is shorter"):
        add_sums(sparse_rows(X), path, other, pairs, np.zeros(D - 1, np.float32), *sums)
