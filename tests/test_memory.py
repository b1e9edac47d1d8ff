import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.sparse import csr_matrix

import naive
from batches import random_features, random_labels
from slidelearn import memory as memory_module
from slidelearn.memory import (
    Worth,
    add_block_votes,
    extend_memory,
    find_votes,
    make_memory,
    room_for_votes,
)
from slidelearn.rows import sparse_rows

N, D, N_LABELS = 30, 9, 14


def votes_of(memory, x):
    return find_votes(memory, x, room_for_votes(memory))


def dense_votes(votes, n):
    """Share of the votes for every label of n examples, (n, N_LABELS)."""
    out = np.zeros((n, N_LABELS), np.float32)
    for i in range(n):
        own = slice(*votes.pairs.indptr[i : i + 2])
        out[i, votes.pairs.neurons[own]] = votes.shares[own]
    return out


@pytest.mark.nojit
@given(st.integers(0, 50), st.integers(1, 40), st.floats(0.5, 100), st.booleans())
@settings(deadline=None, max_examples=25)
def test_the_nearest_examples_vote_for_their_labels(seed, limit, scale, signed):
    X, Y = random_features(N, D, seed) * np.float32(scale), random_labels(N, N_LABELS, seed)
    Q = random_features(12, D, seed + 1)
    if signed:
        X.data *= np.random.default_rng(seed).choice(np.float32([-1, 1]), X.nnz)
    memory = make_memory(X, Y, limit=limit, worth=Worth(3.0, 0.0))
    got = dense_votes(votes_of(memory, sparse_rows(Q)), 12)
    for i in range(12):
        ref = naive.votes(X.toarray(), Y.toarray(), Q[i].toarray().ravel(), limit, 1.0)
        assert_allclose(got[i], ref, rtol=1e-4, atol=1e-5)


@pytest.mark.nojit
def test_votes_are_added_to_blocks_and_may_come_in_any_order():
    X, Y = random_features(N, D), random_labels(N, N_LABELS)
    memory, x = make_memory(X, Y, limit=5, worth=Worth(2.0, 0.0)), sparse_rows(X)
    votes, rows = votes_of(memory, x), X.toarray()
    ref = np.array([naive.votes(rows, Y.toarray(), x, 5, 3.0, 0.9) for x in rows])
    loose = find_votes(memory, x, room_for_votes(memory), ascending=False)
    owners = np.repeat(np.arange(N), np.diff(loose.pairs.indptr))
    order = np.lexsort((loose.pairs.neurons, owners))
    assert (order != np.arange(len(order))).any()
    np.testing.assert_array_equal(loose.pairs.indptr, votes.pairs.indptr)
    np.testing.assert_array_equal(loose.pairs.neurons[order], votes.pairs.neurons)
    np.testing.assert_array_equal(loose.shares[order], votes.shares)
    np.testing.assert_array_equal(loose.twins[order], votes.twins)
    blocks = np.ones((N, N_LABELS), np.float32)
    for first in range(0, N_LABELS, 4):
        add_block_votes(votes, Worth(3.0, 0.9), first, blocks[:, first : first + 4])
    assert_allclose(blocks, 1 + ref, rtol=1e-4, atol=1e-5)


def test_an_example_finds_itself_although_buckets_are_cut(monkeypatch):
    monkeypatch.setattr(memory_module, "PER_FEATURE", 2)
    X, Y = csr_matrix(np.eye(N, dtype=np.float32)), random_labels(N, N_LABELS)
    votes = dense_votes(
        votes_of(make_memory(X, Y, limit=1, worth=Worth(1.0, 0.0)), sparse_rows(X)), N
    )
    assert_allclose(votes, Y.toarray())


def test_examples_without_features_or_neighbours_gain_nothing():
    X, Y = random_features(N, D), random_labels(N, N_LABELS)
    nothing = csr_matrix((3, D), dtype=np.float32)
    assert not dense_votes(
        votes_of(make_memory(X, Y, limit=4, worth=Worth(2.0, 0.0)), sparse_rows(nothing)), 3
    ).any()
    forgetful = make_memory(
        nothing, csr_matrix((3, N_LABELS), dtype=np.uint8), limit=4, worth=Worth(2.0, 0.0)
    )
    assert not dense_votes(votes_of(forgetful, sparse_rows(X)), N).any()


@given(st.integers(0, 50), st.integers(0, 29), st.integers(1, 8), st.sampled_from([0.0, 0.5]))
@settings(deadline=None, max_examples=40)
def test_an_extended_memory_is_that_of_all_examples(seed, n_known, size, cooccurrence):
    """Buckets overflow, and some features become too common to be filed."""
    X, labels = random_features(N, D, seed), random_labels(N, N_LABELS, seed).toarray()
    labels[:n_known, N_LABELS // 2 :] = 0  # those that only the new examples have
    Y = csr_matrix(labels)
    strengths = {"limit": 4, "worth": Worth(2.0, 0.5), "cooccurrence": cooccurrence}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory_module, "PER_FEATURE", size)
        patch.setattr(memory_module, "_COMMON", 2 * size)
        ref = make_memory(X, Y, **strengths)
        got = make_memory(X[:n_known], Y[:n_known, : N_LABELS // 2], **strengths)
        got = got._replace(cooccurrence=got.cooccurrence._replace(strength=cooccurrence))
        for start in range(n_known, N, 7):
            got = extend_memory(got, X[start : start + 7], Y[start : start + 7])
    for a, b in zip(got, ref, strict=True):
        np.testing.assert_equal(a, b)
