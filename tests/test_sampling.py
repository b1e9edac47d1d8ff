import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batches import label_matrix
from slidelearn.layers import Pairs
from slidelearn.sampling import all_neurons, join_strata, uniform_tail, unite

N_NEURONS = 12
neurons = st.lists(st.integers(0, N_NEURONS - 1), unique=True)


@given(st.lists(st.tuples(neurons, neurons), min_size=1, max_size=5))
@settings(deadline=None)
def test_stratum_t_is_the_labels_and_then_the_other_retrieved_neurons(rows):
    Y = label_matrix([labels for labels, _ in rows], N_NEURONS)
    found = Pairs(
        np.concatenate(([0], np.cumsum([len(f) for _, f in rows]))),
        np.concatenate([f for _, f in rows]).astype(np.int32),
    )
    strata = join_strata(Y, found, np.arange(3, dtype=np.int32))
    got = np.split(strata.neurons, strata.indptr[1:-1])
    for own, n_labels, (labels, retrieved) in zip(got, strata.n_labels, rows, strict=True):
        assert n_labels == len(labels)
        assert own.tolist() == sorted(labels) + [n for n in retrieved if n not in labels]
    assert strata.shared.tolist() == [0, 1, 2]
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
    both = unite(*sets)
    for got, (a, b) in zip(np.split(both.neurons, both.indptr[1:-1]), rows, strict=True):
        assert got.tolist() == sorted({*a, *b})


@pytest.mark.nojit
def test_strata_of_labels_alone():
    strata = join_strata(label_matrix([[], [5, 2]], N_NEURONS), None, np.empty(0, np.int32))
    assert strata.indptr.tolist() == [0, 0, 2]
    assert strata.neurons.tolist() == [2, 5]


def test_ids_above_16_bits_stay_whole():
    Y = label_matrix([[70_000, 3]], 2**24 + 3)
    found = Pairs(np.array([0, 3]), np.array([2**24 + 1, 70_000, 70_001], np.int32))
    strata = join_strata(Y, found, np.empty(0, np.int32))
    assert strata.neurons.tolist() == [3, 70_000, 2**24 + 1, 70_001]


@given(st.integers(1, 50), st.integers(0, 60), st.integers(0, 2**32))
def test_the_tail_is_distinct_and_ascending(n_neurons, size, seed):
    tail = uniform_tail(n_neurons, size, np.random.default_rng(seed))
    assert len(tail) == min(size, n_neurons)
    assert tail.dtype == np.int32
    assert (np.diff(tail) > 0).all()
    assert np.isin(tail, np.arange(n_neurons)).all()


def test_the_tail_is_uniform():
    rng, n_draws = np.random.default_rng(0), 4000
    drawn = np.concatenate([uniform_tail(20, 5, rng) for _ in range(n_draws)])
    counts = np.bincount(drawn, minlength=20)
    assert (np.abs(counts - n_draws / 4) < 4.5 * np.sqrt(n_draws * 3 / 16)).all()


def test_all_neurons():
    pairs = all_neurons(2, 3)
    assert pairs.indptr.tolist() == [0, 3, 6]
    assert pairs.neurons.tolist() == [0, 1, 2, 0, 1, 2]
