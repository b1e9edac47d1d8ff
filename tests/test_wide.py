import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.sparse import csr_matrix

import naive
from batches import label_lists, random_features, random_labels
from slidelearn.layers import Pairs, group_entries
from slidelearn.rows import sparse_rows
from slidelearn.scratch import zeros
from slidelearn.wide import (
    Wide,
    add_pair_scores,
    concatenate_hits,
    find_hits,
    make_wide,
    move_wide,
    take_hits,
)

N, D, N_LABELS = 20, 9, 7
NO_IDS = np.empty(0, np.int32)


def make_problem(seed=0):
    X, Y = random_features(N, D, seed), random_labels(N, N_LABELS, seed)
    Y.data[Y.indices == 3] = 0
    Y.eliminate_zeros()  # label 3 has no example
    return X, Y


def dense_weights(wide):
    return csr_matrix((wide.weights, wide.features, wide.indptr), (N_LABELS, D)).toarray()


def random_pairs(seed=1, size=4):
    rng = np.random.default_rng(seed)
    active = [rng.choice(N_LABELS, size, replace=False) for _ in range(N)]
    active[2] = active[2][:0]
    indptr = np.concatenate(([0], np.cumsum([len(a) for a in active])))
    return Pairs(indptr, np.concatenate(active).astype(np.int32)), active


@pytest.mark.nojit
def test_weights_start_at_the_scaled_centroids():
    X, Y = make_problem()
    wide, _ = make_wide(X, Y, 10.0)
    ref = naive.label_centroids(X.toarray().astype(float), Y.toarray().astype(float), 10.0)
    assert_allclose(dense_weights(wide), ref, rtol=1e-5, atol=1e-5)
    assert not dense_weights(wide)[3].any()


def test_a_weight_for_every_feature_and_label_that_occur_together():
    X, Y = make_problem()
    wide, _ = make_wide(X, Y, 10.0)
    together = (Y.T.astype(int) @ (X != 0).astype(int)).tocsr()
    together.sort_indices()
    assert np.array_equal(wide.indptr, together.indptr)
    assert np.array_equal(wide.features, together.indices)
    assert (wide.squares == np.float32(naive.WIDE_START)).all()


@pytest.mark.nojit
def test_pair_scores_are_added():
    X, Y = make_problem()
    (wide, _), (pairs, active) = make_wide(X, Y, 10.0), random_pairs()
    out = np.ones(len(pairs.neurons), np.float32)
    add_pair_scores(wide, find_hits(sparse_rows(X), wide, pairs, zeros(D)), out)
    scores = X.toarray().astype(float) @ dense_weights(wide).T
    ref = 1 + np.concatenate([row[own] for row, own in zip(scores, active, strict=True)])
    assert_allclose(out, ref, rtol=1e-5, atol=1e-5)


@pytest.mark.nojit
def test_hits_are_where_an_example_and_a_label_share_features():
    rng = np.random.default_rng(3)  # label 0 has 200 features, label 1 three, label 2 none
    rows = [[7], [], list(range(0, 200, 3)), [3, 150, 250], [251]]
    lists = [list(range(200)), [3, 7, 251], []]
    indices = np.concatenate([np.array(row, np.int32) for row in rows])
    indptr = np.cumsum([0] + [len(row) for row in rows])
    X = csr_matrix((rng.uniform(1, 2, len(indices)).astype(np.float32), indices, indptr), (5, 252))
    starts = np.cumsum([0] + [len(own) for own in lists]).astype(np.int64)
    features = np.concatenate([np.array(own, np.int32) for own in lists])
    wide = Wide(starts, features, np.ones(len(features), np.float32), np.ones(0, np.float32))
    pairs = Pairs(np.arange(6) * 3, np.tile(np.arange(3, dtype=np.int32), 5))
    hits = find_hits(sparse_rows(X), wide, pairs, zeros(252))
    for p, (row, label) in enumerate(itertools.product(range(5), range(3))):
        own = slice(hits.indptr[p], hits.indptr[p + 1])
        shared = sorted(set(rows[row]) & set(lists[label]))
        assert features[hits.places[own]].tolist() == shared
        assert np.array_equal(hits.values[own], X[row, shared].toarray()[0])
    halves = []
    for part, n in ((slice(0, 2), 2), (slice(2, 5), 3)):
        own_pairs = Pairs(np.arange(n + 1) * 3, pairs.neurons[: 3 * n])
        halves.append(find_hits(sparse_rows(X[part]), wide, own_pairs, zeros(252)))
    for whole, joined in zip(hits, concatenate_hits(halves), strict=True):
        assert np.array_equal(whole, joined)
    some = np.array([1, 4, 5, 14])
    taken = take_hits(hits, some)
    for k, p in enumerate(some):
        ours, theirs = slice(*taken.indptr[k : k + 2]), slice(*hits.indptr[p : p + 2])
        assert np.array_equal(taken.places[ours], hits.places[theirs])
        assert np.array_equal(taken.values[ours], hits.values[theirs])
    assert take_hits(hits, some[:0]).indptr.tolist() == [0]


@pytest.mark.nojit
def test_a_scratch_that_is_too_short_is_refused():
    X, Y = make_problem()
    wide, _ = make_wide(X, Y, 10.0)
    with pytest.raises(ValueError, match="scratch is shorter"):
        find_hits(sparse_rows(X), wide, random_pairs()[0], np.zeros(D - 1, np.float32))


def test_update():
    X, Y = make_problem()
    (wide, _), (pairs, active) = make_wide(X, Y, 10.0), random_pairs()
    before = dense_weights(wide)
    present = (Y.T.astype(int) @ (X != 0).astype(int)).toarray() > 0
    deltas = np.random.default_rng(2).standard_normal(len(pairs.neurons)).astype(np.float32)
    owners = np.repeat(np.arange(N), [len(a) for a in active])
    groups = group_entries(pairs.neurons, NO_IDS)
    hits = find_hits(sparse_rows(X), wide, pairs, zeros(D))
    for start, end in ((2, len(groups.rows)), (0, 2)):  # the order of tasks does not matter
        move_wide(wide, groups, start, end, hits, deltas, 0.1)
    delta = np.zeros((N, N_LABELS))
    delta[owners, pairs.neurons] = deltas
    ref = naive.move_wide(before, present, X.toarray(), delta, active, [], 0.1)
    assert_allclose(dense_weights(wide), ref, rtol=1e-5, atol=1e-5)
    assert np.abs(ref - before).max() > 0.05


def test_no_labels_at_all():
    X, Y = random_features(3, D), random_labels(3, N_LABELS)[1:2][[0, 0, 0]]
    assert label_lists(Y) == [[], [], []]
    wide, _ = make_wide(X, Y, 10.0)
    assert wide.indptr.tolist() == [0] * (N_LABELS + 1)


def test_ids_above_16_bits():
    X, Y = make_problem()
    far_X, far_Y = X.copy(), Y.copy()
    far_X.resize(N, D + 70_000)
    far_X.indices += 70_000
    far_Y.resize(N, N_LABELS + 66_000)
    far_Y.indices += 66_000
    (near, _), (far, _) = make_wide(X, Y, 10.0), make_wide(far_X, far_Y, 10.0)
    assert np.array_equal(far.features, near.features + 70_000)
    assert np.array_equal(far.weights, near.weights)
    pairs, _ = random_pairs()
    scores = np.zeros((2, len(pairs.neurons)), np.float32)
    add_pair_scores(near, find_hits(sparse_rows(X), near, pairs, zeros(D)), scores[0])
    far_pairs = Pairs(pairs.indptr, pairs.neurons + np.int32(66_000))
    add_pair_scores(
        far, find_hits(sparse_rows(far_X), far, far_pairs, zeros(far_X.shape[1])), scores[1]
    )
    assert np.array_equal(scores[0], scores[1])
    assert scores.any()
