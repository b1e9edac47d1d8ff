"""The demo's baselines against dense NumPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from slidelearn.demo import baselines
from slidelearn.errors import ConfigError, DataError


def naive_top(scores, k):
    """Ids of the k largest positive scores of each row, equals by id, -1 after the last."""
    top = np.full((len(scores), k), -1)
    for i, row in enumerate(scores):
        ranked = [j for j in np.lexsort((np.arange(len(row)), -row)) if row[j] > 0][:k]
        top[i, : len(ranked)] = ranked
    return top


def naive_nearest(X_train, Y_train, X, k, n_neighbours):
    cosines = X @ X_train.T
    weights = np.zeros_like(cosines)
    for i, row in enumerate(naive_top(cosines, n_neighbours)):
        near = row[row >= 0]
        weights[i, near] = cosines[i, near]
    return naive_top(weights @ Y_train, k)


@st.composite
def problems(draw):
    """Sparse features in eighths, so that sums are exact and equal scores really are equal."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_train, n, d, n_labels = (draw(st.integers(1, 12)) for _ in range(4))
    X_train = rng.integers(-1, 4, (n_train, d)) / 8 * (rng.random((n_train, d)) < 0.5)
    X = rng.integers(-1, 4, (n, d)) / 8 * (rng.random((n, d)) < 0.5)
    return X_train, (rng.random((n_train, n_labels)) < 0.3).astype(np.uint8), X


@given(problems(), st.integers(1, 6), st.integers(1, 5), st.sampled_from([1, 200, 10**6]))
@settings(deadline=None, max_examples=150)
def test_nearest_neighbours_equal_the_naive_ones(problem, k, n_neighbours, block_bytes):
    X_train, Y_train, X = problem
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines, "_BLOCK_BYTES", block_bytes)
        got = baselines.nearest_neighbours(
            csr_matrix(X_train, dtype=np.float32),
            csr_matrix(Y_train),
            csr_matrix(X, dtype=np.float32),
            k,
            n_neighbours=n_neighbours,
        )
    np.testing.assert_array_equal(got, naive_nearest(X_train, Y_train, X, k, n_neighbours))


@given(problems(), st.integers(1, 15))
@settings(deadline=None, max_examples=50)
def test_popularity_counts_labels(problem, k):
    _, Y, _ = problem
    got = baselines.popularity(csr_matrix(Y), n=3, k=k)
    counts = Y.sum(axis=0)
    ranked = sorted(range(Y.shape[1]), key=lambda j: (-int(counts[j]), j))[:k]
    assert got.shape == (3, k)
    assert got.tolist() == [ranked + [-1] * (k - len(ranked))] * 3


def test_an_example_without_features_gets_no_label():
    X, Y = csr_matrix(np.eye(2, dtype=np.float32)), csr_matrix(np.eye(2, dtype=np.uint8))
    empty = csr_matrix((1, 2), dtype=np.float32)
    assert baselines.nearest_neighbours(X, Y, empty, 2).tolist() == [[-1, -1]]


def test_mistakes_are_named():
    X, Y = csr_matrix(np.eye(3, dtype=np.float32)), csr_matrix(np.eye(3, dtype=np.uint8))
    with pytest.raises(DataError, match="3 rows but Y_train has 2"):
        baselines.nearest_neighbours(X, Y[:2], X)
    with pytest.raises(DataError, match="3 features but X has 2"):
        baselines.nearest_neighbours(X, Y, X[:, :2])
    with pytest.raises(ConfigError, match="n_neighbours is 0"):
        baselines.nearest_neighbours(X, Y, X, n_neighbours=0)
    with pytest.raises(ConfigError, match="k is 0"):
        baselines.nearest_neighbours(X, Y, X, 0)
