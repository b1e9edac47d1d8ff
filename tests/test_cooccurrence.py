import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.sparse import csr_matrix

import naive
from batches import random_labels
from slidelearn import cooccurrence as cooccurrence_module
from slidelearn.cooccurrence import count_cooccurrence, rank_again
from slidelearn.scratch import zeros

N, N_LABELS = 40, 14


def dense_shares(found):
    shares = np.zeros((N_LABELS, N_LABELS))
    for label in range(N_LABELS):
        own = slice(*found.partners.indptr[label : label + 2])
        partners = found.partners.neurons[own]
        assert len(set(partners.tolist())) == len(partners)
        shares[label, partners] = found.shares[own]
    return shares


@pytest.mark.nojit
@given(st.integers(0, 100), st.integers(1, 20), st.integers(1, 6))
@settings(deadline=None, max_examples=25)
def test_partners_are_those_that_occur_most_often(seed, most, longest):
    Y = random_labels(N, N_LABELS, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cooccurrence_module, "PARTNERS", most)
        shares = dense_shares(count_cooccurrence(Y, 1.0))
    expected = naive.cooccurrence(Y.toarray(), most)
    assert_allclose(shares, expected, rtol=1e-6)


def test_long_lists_of_labels_are_not_counted():
    n_labels = 60
    Y = np.zeros((3, n_labels), np.uint8)
    Y[0] = 1
    Y[1:, :2] = 1
    found = count_cooccurrence(csr_matrix(Y), 1.0)
    assert found.partners.neurons.tolist() == [1, 0]
    assert_allclose(found.shares, 2 / 6)


@pytest.mark.parametrize("Y", [np.eye(5), np.zeros((0, 5)), np.zeros((3, 5)), np.ones((4, 1))])
def test_labels_that_are_always_alone_have_no_partners(Y):
    found = count_cooccurrence(csr_matrix(Y.astype(np.uint8)), 1.0)
    assert len(found.shares) == 0
    assert found.partners.indptr.tolist() == [0] * (Y.shape[1] + 1)


@pytest.mark.nojit
@given(st.integers(0, 100), st.floats(0, 3), st.integers(1, N_LABELS))
@settings(deadline=None, max_examples=25)
def test_candidates_gain_by_their_company(seed, strength, n_candidates):
    rng, Y = np.random.default_rng(seed), random_labels(N, N_LABELS, seed)
    found = count_cooccurrence(Y, strength)
    labels = np.stack([rng.permutation(N_LABELS)[:n_candidates] for _ in range(6)])
    scores = (4 * rng.standard_normal(labels.shape)).astype(np.float32)
    got_labels, got = labels.copy(), scores.copy()
    rank_again(found, got_labels, got, zeros(N_LABELS))
    shares = naive.cooccurrence(Y.toarray(), 20)
    for i, own in enumerate(labels):
        ref = naive.company_scores(scores[i].astype(float), shares[np.ix_(own, own)], strength)
        of_label = dict(zip(got_labels[i].tolist(), got[i], strict=True))
        assert_allclose([of_label[label] for label in own], ref, rtol=1e-4, atol=1e-4)
        assert (np.diff(got[i]) <= 0).all()


def test_places_without_a_candidate_stay_behind():
    found = count_cooccurrence(csr_matrix([[1, 1, 0], [1, 0, 1]]), 1.0)
    labels = np.array([[1, 2, -1, -1], [-1, -1, -1, -1]])
    scores = np.where(labels < 0, -np.inf, 1).astype(np.float32)
    got = labels.copy()
    rank_again(found, got, scores, zeros(N_LABELS))
    assert got.tolist() == labels.tolist()
    assert np.isneginf(scores[labels < 0]).all()


def test_equal_candidates_come_by_number():
    found = count_cooccurrence(csr_matrix([[1, 1, 1]]), 1.0)
    got = np.array([[2, 0, 1]])
    rank_again(found, got, np.zeros((1, 3), np.float32), zeros(3))
    assert got.tolist() == [[0, 1, 2]]
