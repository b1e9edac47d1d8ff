import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from batches import label_matrix
from slidelearn.layers import Pairs, pairs_of
from slidelearn.sampling import Tail, draw_tail, join_strata, tail_chances, unite

N_NEURONS = 12
NO_TAIL = Tail(np.empty(0, np.int32), np.empty(0, np.float32))
neurons = st.lists(st.integers(0, N_NEURONS - 1), unique=True)


@given(st.lists(st.tuples(neurons, neurons), min_size=1, max_size=5))
@settings(deadline=None)
def test_stratum_t_is_the_labels_and_then_the_other_retrieved_neurons(rows):
    Y = label_matrix([labels for labels, _ in rows], N_NEURONS)
    found = Pairs(
        np.concatenate(([0], np.cumsum([len(f) for _, f in rows]))),
        np.concatenate([f for _, f in rows]).astype(np.int32),
    )
    strata = join_strata(
        pairs_of(Y), found, Tail(np.arange(3, dtype=np.int32), np.ones(3, np.float32))
    )
    got = np.split(strata.neurons, strata.indptr[1:-1])
    for own, n_labels, (labels, retrieved) in zip(got, strata.n_labels, rows, strict=True):
        assert n_labels == len(labels)
        assert own.tolist() == sorted(labels) + [n for n in retrieved if n not in labels]
    assert strata.shared.tolist() == [0, 1, 2]
    assert strata.weights.tolist() == [1, 1, 1]
    assert len(strata.neurons) == strata.indptr[-1]


@pytest.mark.nojit
@given(st.lists(st.tuples(neurons, neurons), min_size=1, max_size=5))
@settings(deadline=None)
def test_neurons_of_either_set_come_once(rows):
    sets = [
        Pairs(
            np.concatenate(([0], np.cumsum([len(row[side]) for row in rows]))),
            np.concatenate([row[side] for row in rows]).astype(np.int32),
        )
        for side in (0, 1)
    ]
    both = unite(tuple(sets))
    for got, (a, b) in zip(np.split(both.neurons, both.indptr[1:-1]), rows, strict=True):
        assert got.tolist() == sorted({*a, *b})


@pytest.mark.nojit
def test_lone_labels_come_after_the_targets():
    found = Pairs(np.array([0, 2, 3]), np.array([5, 1, 2], np.int32))
    lone = np.isin(np.arange(N_NEURONS), [2, 5])
    strata = join_strata(pairs_of(label_matrix([[2, 4, 7], [5]], N_NEURONS)), found, NO_TAIL, lone)
    assert strata.neurons.tolist() == [4, 7, 2, 5, 1, 5, 2]
    assert strata.indptr.tolist() == [0, 5, 7]
    assert strata.n_labels.tolist() == [3, 1]
    assert strata.n_targets.tolist() == [2, 0]


@pytest.mark.nojit
def test_strata_of_labels_alone():
    strata = join_strata(pairs_of(label_matrix([[], [5, 2]], N_NEURONS)), None, NO_TAIL)
    assert strata.indptr.tolist() == [0, 0, 2]
    assert strata.neurons.tolist() == [2, 5]


def test_ids_above_16_bits_stay_whole():
    Y = label_matrix([[70_000, 3]], 2**24 + 3)
    found = Pairs(np.array([0, 3]), np.array([2**24 + 1, 70_000, 70_001], np.int32))
    strata = join_strata(pairs_of(Y), found, NO_TAIL)
    assert strata.neurons.tolist() == [3, 70_000, 2**24 + 1, 70_001]


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=50), st.integers(0, 60), st.integers(0))
def test_the_tail_is_distinct_and_ascending(counts, size, seed):
    chances = tail_chances(np.array(counts), size)
    tail = draw_tail(chances, np.random.default_rng(seed))
    assert tail.neurons.dtype == np.int32
    assert (np.diff(tail.neurons) > 0).all()
    assert np.isin(tail.neurons, np.arange(len(counts))).all()
    assert_allclose(tail.weights, 1 / chances.each[tail.neurons], rtol=1e-6)
    assert abs(len(tail.neurons) - chances.each.sum()) < 1 + 1e-9
    assert len(tail.neurons) <= size + 1
    if size >= len(counts):
        assert tail.neurons.tolist() == list(range(len(counts)))


def test_neurons_are_drawn_as_often_as_their_chances_say():
    rng, n_draws = np.random.default_rng(0), 4000
    counts = np.array([500, 40, 3, 0, 1] + 15 * [2])
    chances = tail_chances(counts, 5)
    assert chances.each[0] == 1
    assert_allclose(chances.each[1:], 5 * counts[1:] / counts.sum())
    drawn = np.concatenate([draw_tail(chances, rng).neurons for _ in range(n_draws)])
    found = np.bincount(drawn, minlength=20)
    deviation = np.sqrt(n_draws * chances.each * (1 - chances.each))
    assert (np.abs(found - n_draws * chances.each) <= 4.5 * deviation).all()
