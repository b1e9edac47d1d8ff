import copy
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import naive
from batches import random_features, random_labels
from slidelearn.config import Config
from slidelearn.layers import Pairs
from slidelearn.margins import make_margins
from slidelearn.memory import Votes, Worth
from slidelearn.network import find_labels, hidden_rows, with_coarse, with_postings
from slidelearn.postings import Found
from slidelearn.retrieved import drop_hopeless, gather, keep_pairs
from slidelearn.rows import BIAS_INPUT, sparse_rows
from slidelearn.searching import score_retrieved, search
from slidelearn.training import Trainer
from slidelearn.workers import Workers

N, D, N_LABELS = 60, 20, 40


def started(seed=0, twin=0.0, **tables):
    """A network with every path, none of them at zero, and examples."""
    X, Y = random_features(N, D, seed), random_labels(N, N_LABELS, seed)
    tables = {"predict_wide_limit": 12, "predict_limit": 4, "cap": N_LABELS} | tables
    config = Config.from_dict(
        {"hidden": [12], "tail": 5, "neighbours": 6, "vote": 3.0, "twin": twin, "cooccurrence": 0.0}
        | {"seed": seed, "normalize": False, "tables": tables}
    )
    with Workers(1) as workers:
        network = Trainer.start(config, X, Y, workers).network
    rng = np.random.default_rng(seed)
    network.output.weight[:] += 0.3 * rng.standard_normal(network.output.weight.shape)
    network = with_postings(network)
    margins = make_margins(network.wide, 0.7)
    margins.path.weights[:] = rng.standard_normal(len(margins.path.weights))
    margins.bias[:] = rng.standard_normal(N_LABELS)
    return network._replace(margins=margins), X


def searched(network, X, k):
    labels = np.full((X.shape[0], k), -1, np.int64)
    scores = np.full((X.shape[0], k), -np.inf, np.float32)
    return search(network, X, labels, scores, k), labels, scores


@pytest.mark.nojit
@given(
    st.integers(0, 20),
    st.integers(1, 15),
    st.integers(1, 15),
    st.sampled_from([0.0, 1.5]),
    st.booleans(),
    st.sampled_from([0.5, 3.0]),
)
@settings(deadline=None, max_examples=25)
def test_cuts_leave_the_neurons_that_each_stage_ranks_best(
    seed, n_logits, n_scores, twin, coarse, slack
):
    k, sizes = 4, {"predict_logits": n_logits, "predict_scores": n_scores}
    network, X = started(seed, twin, predict_slack=slack, **sizes)
    if coarse:
        with Workers(1) as workers:
            network = with_coarse(network, workers)
    whole = score_retrieved(network, X)
    active, labels, scores = searched(network, X, k)
    x, index = sparse_rows(X), network.indexes[-1]
    h = hidden_rows(network, x)
    found, _ = find_labels(network, x, h, index.predict_size)
    biases = BIAS_INPUT * network.output.weight[:, -1]
    logits = rough = h.matrix() @ network.output.weight.T
    if coarse:
        rows = naive.coarse_floats(*network.coarse, 12)
        rough = h.matrix()[:, :-1] @ rows.T + biases
    totals, n_computed = whole.scores(Worth(3.0, twin), 0.7), 0
    for i in range(N):
        own = slice(*whole.pairs.indptr[i : i + 2])
        neurons = whole.pairs.neurons[own]
        votes = 3.0 * whole.shares[own]
        place = slice(*found.pairs.indptr[i : i + 2])
        weights = dict(zip(found.pairs.neurons[place].tolist(), found.weights[place], strict=True))
        limits = max(n_logits, k), max(n_scores, k)
        kept = naive.stages(
            weights, neurons, rough[i, neurons], biases[neurons], votes, limits,
            best=k, slack=slack if coarse else np.inf,
        )  # fmt: skip
        n_computed += min(limits[0], len(neurons))
        left, at = totals[own][np.isin(neurons, kept)], neurons[np.isin(neurons, kept)]
        by_rows = np.argsort(-(left + (rough - logits)[i, at]))[: k + 4]
        ref = np.sort(left[by_rows])[::-1][:k]
        assert_allclose(scores[i, : len(ref)], ref, rtol=1e-4, atol=1e-4)
        assert (labels[i, len(ref) :] == -1).all()
    assert active == n_computed


def test_without_cuts_every_neuron_that_was_found_is_scored():
    network, X = started(predict_logits=N_LABELS, predict_scores=N_LABELS)
    whole = score_retrieved(network, X)
    active, labels, _ = searched(network, X, N_LABELS)
    assert active == whole.active == len(whole.pairs.neurons) == (labels >= 0).sum()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies_speak_from_arrays_of_their_own(copied):
    """Biases are a view of weights, which a copy of what is kept for kernels would no longer be."""
    network, X = started(predict_logits=6, predict_scores=4)
    before = searched(network, X, 3)
    other = copied(network)
    other.output.weight[:, -1] += 100 * np.arange(N_LABELS)
    assert (searched(other, X, 3)[1] != before[1]).any()
    for part, expected in zip(searched(network, X, 3), before, strict=True):
        np.testing.assert_array_equal(part, expected)
    fresh = other._replace(ranks=other.ranks)
    for part, expected in zip(searched(other, X, 3), searched(fresh, X, 3), strict=True):
        np.testing.assert_array_equal(part, expected)


def test_without_postings_logits_decide():
    """All that is found is computed, and the largest logits, biases included, are left."""
    network, X = started(predict_logits=1, predict_scores=1, predict_limit=9)
    network.output.weight[:, -1] *= 100
    network = network._replace(postings=None, memory=None)
    active, labels, _ = searched(network, X, 1)
    whole = score_retrieved(network, X)
    assert active == len(whole.pairs.neurons) > N
    h = hidden_rows(network, sparse_rows(X)).matrix()
    for i in range(N):
        own = whole.pairs.neurons[slice(*whole.pairs.indptr[i : i + 2])]
        assert labels[i, 0] == own[np.argmax(network.output.weight[own] @ h[i])]


@pytest.mark.nojit
@given(st.lists(st.integers(0, 6), max_size=5), st.integers(1, 7), st.integers(0, 99))
@settings(deadline=None, max_examples=50)
def test_the_largest_keys_stay_and_the_first_among_equals(sizes, limit, seed):
    rng = np.random.default_rng(seed)
    indptr = np.concatenate(([0], np.cumsum(sizes))).astype(np.int64)
    own = [rng.permutation(9)[:size] for size in sizes]
    neurons = np.concatenate([np.empty(0, np.int32), *own]).astype(np.int32)
    keys = rng.integers(0, 3, len(neurons)).astype(np.float32)
    pairs, places = keep_pairs(Pairs(indptr, neurons), keys, limit)
    assert np.array_equal(neurons[places], pairs.neurons)
    for i, size in enumerate(sizes):
        mine = keys[indptr[i] : indptr[i + 1]]
        ref = indptr[i] + np.sort(np.argsort(-mine, kind="stable")[:limit])
        assert places[pairs.indptr[i] : pairs.indptr[i + 1]].tolist() == ref.tolist()
        assert pairs.indptr[i + 1] - pairs.indptr[i] == min(size, limit)


def ragged(rng, n, most):
    """Up to so many neurons of every example, and a key of each."""
    indptr = np.concatenate(([0], np.cumsum(rng.integers(0, most + 1, n)))).astype(np.int64)
    neurons = rng.integers(0, 99, indptr[-1]).astype(np.int32)
    return Pairs(indptr, neurons), rng.integers(-9, 9, len(neurons)).astype(np.float32)


@pytest.mark.nojit
@given(st.integers(0, 2**32 - 1), st.integers(0, 4), st.integers(1, 6), st.sampled_from([0.5, 4.0]))
@settings(deadline=None, max_examples=50)
def test_who_cannot_be_among_the_best_is_dropped(seed, n, best, slack):
    rng = np.random.default_rng(seed)
    (pairs, keys), (others, sums) = (ragged(rng, n, most) for most in (9, 5))
    places = rng.permutation(len(keys)).astype(np.int32)
    kept, left = drop_hopeless(pairs, keys, places, others, sums, best, slack)
    for i in range(n):
        own = np.arange(*pairs.indptr[i : i + 2])
        every = np.concatenate((keys[own], sums[slice(*others.indptr[i : i + 2])]))
        ref = own[keys[own] >= naive.hopeful(every, best, slack)]
        place = slice(*kept.indptr[i : i + 2])
        assert kept.neurons[place].tolist() == pairs.neurons[ref].tolist()
        assert left[place].tolist() == places[ref].tolist()
    assert kept.indptr[-1] == len(kept.neurons) == len(left)


@pytest.mark.nojit
@given(st.integers(0, 2**32 - 1), st.integers(0, 4), st.booleans(), st.sampled_from([0.0, 0.5, 1]))
@settings(deadline=None, max_examples=50)
def test_every_neuron_is_gathered_once_with_all_that_is_said_of_it(seed, n, headed, share):
    rng = np.random.default_rng(seed)

    def some(most):
        """Distinct neurons of every example, in any order, and two numbers of each."""
        own = [rng.permutation(30)[: rng.integers(0, most + 1)] for _ in range(n)]
        indptr = np.concatenate(([0], np.cumsum([len(part) for part in own]))).astype(np.int64)
        neurons = np.concatenate((np.empty(0, np.int32), *own)).astype(np.int32)
        return Pairs(indptr, neurons), *rng.normal(size=(2, len(neurons))).astype(np.float32)

    heads = np.where(rng.random(30) < share, 0, -1).astype(np.int16)
    found, more, votes = some(9), some(5), some(12)
    outside = heads[found[0].neurons] < 0 if headed else np.full(len(found[1]), True)
    starts = np.concatenate(([0], np.cumsum(outside)))[found[0].indptr]  # which leave the head out
    by_postings = Found(Pairs(starts, found[0].neurons[outside]), found[1][outside])
    scratch = np.zeros(30, np.float32)
    pairs, *said = gather(
        by_postings, more[0], Votes(*votes), heads if headed else heads[:0], 2.0, scratch
    )
    assert not scratch.any()
    weights, expected = by_postings.weights, []
    for i in range(n):
        sets = by_postings.pairs, more[0], votes[0]
        own, beside, voted = (slice(*part.indptr[i : i + 2]) for part in sets)
        least = weights[own].min() if len(weights[own]) else 0
        ids = sets[0].neurons[own].tolist(), sets[1].neurons[beside].tolist()
        known = dict.fromkeys(ids[1], least) | dict(zip(ids[0], weights[own], strict=True))
        entries = {neuron: [key, 0, 0] for neuron, key in known.items()}
        mine = votes[0].neurons[voted].tolist()
        for neuron, by_vote, twin in zip(mine, *(part[voted] for part in votes[1:]), strict=True):
            entries[neuron] = [known.get(neuron, least) + 2 * by_vote, by_vote, twin]
        order = dict.fromkeys((*ids[0], *ids[1], *mine))
        expected.append([(j, *entries[j]) for j in order if not headed or heads[j] < 0])
    got = list(zip(pairs.neurons.tolist(), *(part.tolist() for part in said), strict=True))
    for i in range(n):
        mine = got[slice(*pairs.indptr[i : i + 2])]
        assert [entry[0] for entry in mine] == [entry[0] for entry in expected[i]]
        assert_allclose(np.array(mine), np.array(expected[i]), rtol=1e-5, atol=1e-6)
