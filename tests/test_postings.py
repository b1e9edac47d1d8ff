import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.sparse import csr_matrix

import naive
from batches import random_features, random_labels
from slidelearn.postings import WHOLE, best_labels, make_postings, refile_postings
from slidelearn.rows import sparse_rows
from slidelearn.scratch import zeros
from slidelearn.wide import make_wide

N, D, N_LABELS = 25, 9, 14


def make_problem(seed=0, scale=5.0):
    X, Y = random_features(N, D, seed), random_labels(N, N_LABELS, seed)
    wide, _ = make_wide(X, Y, scale)
    bias = np.random.default_rng(seed).standard_normal(N_LABELS).astype(np.float32)
    return X, wide, bias


def dense_weights(wide):
    """Weights (n_labels, D), and which of them are stored."""
    weights, stored = np.zeros((N_LABELS, D)), np.zeros((N_LABELS, D), bool)
    for label in range(N_LABELS):
        own = slice(*wide.indptr[label : label + 2])
        weights[label, wide.features[own]] = wide.weights[own]
        stored[label, wide.features[own]] = True
    return weights, stored


def best(X, postings, limit, probes=D):
    return best_labels(sparse_rows(X), postings, limit, probes, zeros(N_LABELS), WHOLE).pairs


def owners(pairs):
    return np.repeat(np.arange(len(pairs.indptr) - 1), np.diff(pairs.indptr))


@pytest.mark.nojit
@given(
    st.integers(0, 50),
    st.integers(1, 20),
    st.integers(1, 20),
    st.sampled_from([0, 5, 99]),
    st.booleans(),
)
@settings(deadline=None, max_examples=25)
def test_best_labels_of_the_largest_weights(seed, size, limit, more, equal):
    X, wide, bias = make_problem(seed)
    if equal:
        wide.weights[:] = 1
    postings = make_postings(wide, D, size, bias)
    filed, scores = naive.postings(*dense_weights(wide), size, X.toarray())
    for feature in range(D):
        own = slice(*postings.indptr[feature : feature + 2])
        assert sorted(postings.labels[own]) == sorted(filed[feature])
        assert (np.diff(postings.weights[own]) <= 0).all()
    by_sums = limit + more
    depth, x = WHOLE._replace(left=by_sums), sparse_rows(X)
    found, weights = best_labels(x, postings, limit, D, zeros(N_LABELS), depth)
    assert_allclose(weights, (scores + bias)[owners(found), found.neurons], rtol=1e-5, atol=1e-5)
    for i, got in enumerate(np.split(found.neurons, found.indptr[1:-1])):
        reached = np.flatnonzero(scores[i])
        left = reached[np.argsort(-scores[i][reached], kind="stable")][:by_sums]
        total = scores[i] + bias
        most, least = (np.sort(total[who])[::-1][:limit] for who in (reached, left))
        assert len(set(got)) == len(got) == len(most)
        sums = np.sort(total[got])[::-1]
        assert (sums <= most + 1e-5).all()
        if not equal:  # which of equal sums are left is no matter
            assert (sums >= least - 1e-5).all()
        if len(reached) <= 2 * by_sums:
            assert_allclose(sums, most, rtol=1e-5, atol=1e-5)


def test_hidden_labels_are_not_found():
    X, wide, bias = make_problem(3)
    postings = make_postings(wide, D, N_LABELS, bias, n_usual=4)
    hidden = np.concatenate((postings.usual[:2], np.setdiff1d(np.arange(5), postings.usual)))
    scratch = zeros(N_LABELS)
    x, depth = sparse_rows(X), WHOLE._replace(few=N_LABELS + 1)
    before, weights = best_labels(x, postings, N_LABELS, D, scratch, depth)
    found, left = best_labels(x, postings, N_LABELS, D, scratch, depth, hidden.astype(np.int32))
    seen = ~np.isin(before.neurons, hidden)
    assert seen.any()
    assert not seen.all()
    np.testing.assert_array_equal(found.neurons, before.neurons[seen])
    np.testing.assert_array_equal(left, weights[seen])
    assert not scratch.any()


@given(st.integers(0, 50), st.integers(1, N_LABELS + 1))
@settings(deadline=None, max_examples=25)
def test_the_first_labels_of_buckets_are_those_of_smaller_ones(seed, cap):
    X, wide, bias = make_problem(seed)
    wide.weights[:] = np.random.default_rng(seed).permutation(len(wide.weights)) + 1  # no ties
    whole, small = (make_postings(wide, D, size, bias) for size in (N_LABELS, cap))
    x, scratch = sparse_rows(X), zeros(N_LABELS)
    got, weights = best_labels(x, whole, 4, D, scratch, WHOLE._replace(cap=cap))
    expected, expected_weights = best_labels(x, small, 4, D, scratch, WHOLE)
    np.testing.assert_array_equal(got.neurons, expected.neurons)
    np.testing.assert_array_equal(weights, expected_weights)


@pytest.mark.nojit
@given(st.integers(0, 50), st.integers(1, N_LABELS), st.floats(0, 1, width=16), st.integers(1, D))
@settings(deadline=None, max_examples=25)
def test_buckets_end_where_labels_weigh_too_little_for_their_place(seed, cap, faint, probes):
    X, wide, bias = make_problem(seed)
    wide.weights[:] = np.random.default_rng(seed).normal(1, 1, len(wide.weights))
    postings, x = make_postings(wide, D, N_LABELS, bias), sparse_rows(X)
    depth = WHOLE._replace(cap=cap, faint=faint)
    found, weights = best_labels(x, postings, N_LABELS, probes, zeros(N_LABELS), depth)
    assert len(found.indptr) == N + 1
    for i in range(N):
        own = slice(*X.indptr[i : i + 2])
        order = np.argsort(-np.abs(X.data[own]), kind="stable")
        order = [e for e in order if np.diff(postings.indptr)[X.indices[own][e]] > 0][:probes]
        buckets = []
        for e in order:
            bucket = slice(*postings.indptr[X.indices[own][e] :][:2])
            value = np.float64(X.data[own][e])
            buckets.append((value, postings.labels[bucket], postings.weights[bucket]))
        heaviest = max((value * filed[0] for value, _, filed in buckets), default=0)
        sums = np.zeros(N_LABELS)
        for value, labels, filed in buckets:
            n = naive.reads(filed, value, cap, faint, heaviest)
            sums[labels[:n]] += value * filed[:n]
        place = slice(*found.indptr[i : i + 2])
        assert sorted(found.neurons[place]) == np.flatnonzero(sums).tolist()
        expected = (sums + bias)[found.neurons[place]]
        assert_allclose(weights[place], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.nojit
@given(st.integers(0, 50), st.integers(0, N_LABELS + 2), st.integers(0, N_LABELS + 1))
@settings(deadline=None, max_examples=25)
def test_labels_of_the_largest_biases_are_found_where_few_are(seed, n_usual, few):
    X, wide, bias = make_problem(seed)
    X = csr_matrix(X)
    X.data[X.indptr[1] : X.indptr[3]] = 0  # two examples without any feature
    X.eliminate_zeros()
    postings = make_postings(wide, D, 3, bias, n_usual=n_usual)
    plain = make_postings(wide, D, 3, bias)
    usual = np.argsort(-bias, kind="stable")[:n_usual]
    assert sorted(postings.usual) == sorted(usual)
    x, scratch = sparse_rows(X), zeros(N_LABELS)
    depth = WHOLE._replace(few=few)
    found, weights = best_labels(x, postings, N_LABELS, D, scratch, depth)
    assert not scratch.any()
    before, before_weights = best_labels(x, plain, N_LABELS, D, scratch, WHOLE)
    for i in range(N):
        own, old = (slice(*p.indptr[i : i + 2]) for p in (found, before))
        lacking = old.stop - old.start < few
        ref = dict.fromkeys(usual.tolist() if lacking else [], None) | dict(
            zip(before.neurons[old].tolist(), before_weights[old].tolist(), strict=True)
        )
        got = dict(zip(found.neurons[own].tolist(), weights[own].tolist(), strict=True))
        assert got.keys() == ref.keys()
        for label, weight in ref.items():
            assert_allclose(got[label], bias[label] if weight is None else weight, rtol=1e-5)


@pytest.mark.nojit
def test_features_of_too_many_labels_are_left_out():
    _, wide, bias = make_problem()
    counts = np.bincount(wide.features, minlength=D)
    most = int(np.sort(counts)[D // 2])
    sizes = np.diff(make_postings(wide, D, 3, bias, most=most).indptr)
    assert np.array_equal(sizes, np.where(counts > most, 0, np.minimum(counts, 3)))
    assert (sizes == 0).any()
    assert sizes.any()


@pytest.mark.nojit
@given(st.integers(0, 50), st.integers(1, 20), st.sets(st.integers(0, D - 1)))
@settings(deadline=None, max_examples=25)
def test_refiled_postings_are_new_ones(seed, size, moved):
    _, wide, bias = make_problem(seed)
    most = int(np.bincount(wide.features, minlength=D).max()) - 1
    before = make_postings(wide, D, size, bias, most=most)
    features = np.isin(np.arange(D), list(moved))
    entries = features[wide.features]
    wide.weights[entries] = np.random.default_rng(seed).integers(-2, 3, entries.sum())
    got = refile_postings(before, wide, features, size, bias, most=most)
    for a, b in zip(got, make_postings(wide, D, size, bias, most=most), strict=True):
        np.testing.assert_array_equal(a, b)


def test_retrieval_leaves_no_trace():
    X, wide, bias = make_problem()
    postings = make_postings(wide, D, 50, bias)
    whole = best(X, postings, 4)
    parts = [best(X[i : i + 1], postings, 4).neurons for i in range(N)]
    assert np.array_equal(whole.neurons, np.concatenate(parts))


def test_a_path_without_weights_finds_nothing():
    X, Y = random_features(N, D), random_labels(N, N_LABELS)[[1]]
    wide, _ = make_wide(X[:1], Y, 5.0)
    postings = make_postings(wide, D, 8, np.zeros(N_LABELS, np.float32))
    assert len(best(X, postings, 3).neurons) == 0


@given(st.integers(0, 50), st.integers(1, D))
@settings(deadline=None, max_examples=25)
def test_probes_are_the_largest_features_that_have_labels(seed, probes):
    X, wide, bias = make_problem(seed)
    most = int(np.sort(np.bincount(wide.features, minlength=D))[D // 2])
    postings = make_postings(wide, D, 50, bias, most=most)
    found = best(X, postings, 4, probes)
    values = X.toarray() * (np.diff(postings.indptr) > 0)
    for row in values:
        row[np.argsort(-np.abs(row), kind="stable")[probes:]] = 0
    expected = best(csr_matrix(values.astype(np.float32)), postings, 4)
    for i in range(N):
        got, wanted = (
            pairs.neurons[pairs.indptr[i] : pairs.indptr[i + 1]] for pairs in (found, expected)
        )
        assert set(got) == set(wanted)
