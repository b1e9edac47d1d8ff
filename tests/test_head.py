import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import naive
from slidelearn.head import NO_HEAD, head_bytes, head_labels, make_head, score_head
from slidelearn.memory import Worth, find_votes, room_for_votes
from slidelearn.network import find_labels, hidden_rows, with_coarse, with_head
from slidelearn.predicting import all_scores
from slidelearn.rows import BIAS_INPUT, sparse_rows
from slidelearn.workers import Workers
from test_searching import N_LABELS, D, N, searched, started

WORTH = Worth(3.0, 1.5)


def headed(network, m):
    """The network with the labels of the m longest lists as its head, and coarse rows."""
    wide, path = network.wide, network.margins.path
    sizes = np.sort(np.diff(wide.indptr))[::-1]
    n_inputs = -(-int(10 * sizes[:m].sum()) * 16 // (4 * N_LABELS))  # room for so many
    biases = BIAS_INPUT * network.output.bias, network.margins.bias
    head = make_head(wide, path, biases, D, n_inputs)
    with Workers(1) as workers:
        return with_coarse(network, workers)._replace(head=head)


def dense(head, weights):
    """Weights of a head as a matrix, (d, m)."""
    out = np.zeros((D, len(head.labels)))
    for f in range(D):
        own = slice(*head.indptr[f : f + 2])
        out[f, head.places[own]] += weights[own]
    return out


def of_path(path):
    """Weights of a path as a matrix, (d, n_labels)."""
    out = np.zeros((D, N_LABELS))
    for n in range(N_LABELS):
        own = slice(*path.indptr[n : n + 2])
        out[path.features[own], n] = path.weights[own]
    return out


def votes_of(network, X):
    """Votes for examples X, and as matrices (n, n_labels): shares and twins."""
    memory = network.memory
    votes = find_votes(memory, sparse_rows(X), room_for_votes(memory), ascending=False)
    owners = np.repeat(np.arange(X.shape[0]), np.diff(votes.pairs.indptr))
    shares, twins = np.zeros((2, X.shape[0], N_LABELS))
    shares[owners, votes.pairs.neurons], twins[owners, votes.pairs.neurons] = votes[1:]
    return votes, shares, twins


@given(st.integers(0, 30), st.integers(1, N_LABELS))
@settings(deadline=None, max_examples=25)
def test_a_head_has_the_weights_of_the_longest_lists(seed, m):
    network, _ = started(seed)
    head = headed(network, m).head
    sizes = np.diff(network.wide.indptr)
    assert len(head.labels) >= min(m, np.count_nonzero(sizes))
    assert sizes[head.labels].min() >= np.delete(sizes, head.labels).max(initial=0)
    assert (np.diff(head.labels) > 0).all()
    assert np.array_equal(np.flatnonzero(head.rows >= 0), head.labels)
    assert np.array_equal(head.rows[head.labels], np.arange(len(head.labels)))
    assert_allclose(dense(head, head.wide), of_path(network.wide)[:, head.labels])
    assert_allclose(dense(head, head.margins), of_path(network.margins.path)[:, head.labels])
    has = (of_path(network.wide)[:, head.labels] != 0).sum(1)
    filed = np.diff(head.indptr)
    assert np.array_equal(filed, np.where(2 * has > len(head.labels), len(head.labels), has))
    sizes = head_bytes(int(has.sum()), len(head.labels), N_LABELS, D)
    assert sum(part.nbytes for part in head) <= sizes


@pytest.mark.nojit
@given(st.integers(0, 30), st.integers(1, N_LABELS), st.integers(1, 20), st.booleans())
@settings(deadline=None, max_examples=25)
def test_the_best_of_a_head_are_those_of_dense_sums(seed, m, limit, with_margins):
    network, X = started(seed)
    head = headed(network, m).head
    if not with_margins:
        head = head._replace(margins=np.empty(0, np.float32))
    votes, shares, twins = votes_of(network, X)
    got = score_head(sparse_rows(X), head, votes, WORTH, 0.7, limit)
    weights, margins = (of_path(p)[:, head.labels] for p in (network.wide, network.margins.path))
    biases = head.bias, head.margins_bias
    shares, twins = shares[:, head.labels], twins[:, head.labels]
    margin = 0.7 if with_margins else 0
    keys, scores, hinges = naive.head_keys(
        X.toarray(), weights, margins, biases, shares, twins, WORTH, margin
    )
    for i in range(N):
        own = slice(*got.pairs.indptr[i : i + 2])
        places = head.rows[got.pairs.neurons[own]]
        assert (np.diff(places) > 0).all()
        assert_allclose(np.sort(keys[i, places])[::-1], np.sort(keys[i])[::-1][:limit], rtol=1e-4)
        assert_allclose(got.wide[own], scores[i, places], rtol=1e-4, atol=1e-5)
        expected = hinges[i, places] * with_margins
        assert_allclose(got.hinges[own], expected, rtol=1e-4, atol=1e-5)
        assert_allclose(got.shares[own], shares[i, places])
        assert_allclose(got.twins[own], twins[i, places])
    assert got.active == len(got.pairs.neurons)


@pytest.mark.nojit
@given(st.integers(0, 20), st.integers(1, N_LABELS), st.sampled_from([0.0, 1.5]))
@settings(deadline=None, max_examples=25)
def test_a_head_without_cuts_changes_no_prediction_but_finds_all_of_its_own(seed, m, twin):
    """What is found is the best of the head and of what was found before, with exact scores."""
    sizes = {"predict_logits": N_LABELS, "predict_scores": N_LABELS, "predict_head": N_LABELS}
    sizes["predict_slack"] = 1000.0
    network, X = started(seed, twin, predict_wide_limit=N_LABELS, **sizes)
    network = headed(network, m)
    with Workers(1) as workers:
        exact = all_scores(network, X, workers)
    _, before, _ = searched(network._replace(head=NO_HEAD), X, 5)
    _, labels, scores = searched(network, X, 5)
    for i in range(N):
        assert_allclose(scores[i], exact[i, labels[i]], rtol=1e-4, atol=1e-4)
        can = np.union1d(before[i][before[i] >= 0], network.head.labels)
        assert (scores[i] >= np.sort(exact[i, can])[::-1][:5] - 1e-4).all()


@pytest.mark.nojit
@given(
    st.integers(0, 20), st.integers(1, 30), st.integers(1, 15), st.integers(1, 12), st.booleans()
)
@settings(deadline=None, max_examples=25)
def test_cuts_of_the_head_and_of_the_others(seed, m, n_logits, n_head, tables):
    k, n_scores, twin, slack = 2, 7, 1.5, 2.0
    sizes = {"predict_logits": n_logits, "predict_scores": n_scores, "predict_head": n_head}
    sizes |= {"limit": 8 if tables else 0, "predict_slack": slack}
    network, X = started(seed, twin, **sizes)
    network = headed(network, m)
    head, x = network.head, sparse_rows(X)
    active, _, scores = searched(network, X, k)
    found, more = find_labels(network, x, hidden_rows(network, x), network.indexes[-1].predict_size)
    assert network.searches_postings != tables
    assert not np.isin(found.pairs.neurons, head.labels).any()
    votes, shares, twins = votes_of(network, X)
    rows = naive.coarse_floats(*network.coarse, 12)
    h = hidden_rows(network, x).matrix()
    biases = BIAS_INPUT * network.output.bias
    rough, logits = h[:, :-1] @ rows.T + biases, h @ network.output.weight.T
    weights, margins = of_path(network.wide), of_path(network.margins.path)
    keys, _, _ = naive.head_keys(
        X.toarray(), weights, margins, (biases, network.margins.bias), shares, twins, (3, twin), 0.7
    )
    exact, n_computed = keys - biases + logits, 0
    limits = max(n_logits, k), max(n_scores, k)
    for i in range(N):
        own = slice(*found.pairs.indptr[i : i + 2])
        ids, sums = found.pairs.neurons[own], found.weights[own]
        voted = votes.pairs.neurons[slice(*votes.pairs.indptr[i : i + 2])]
        beside = more.neurons[slice(*more.indptr[i : i + 2])]
        every = np.concatenate((ids, beside, voted))  # in the order in which they are found
        every = every[np.sort(np.unique(every, return_index=True)[1])]
        others = every[~np.isin(every, head.labels)]
        reached = dict(zip(ids.tolist(), sums, strict=True))
        best = head.labels[np.argsort(-keys[i, head.labels], kind="stable")]
        best = best[: max(n_head, k + 4)]
        rivals = (exact - logits + rough)[i, best]
        kept = naive.stages(
            reached, others, rough[i, others], biases[others], 3 * shares[i, others], limits,
            rivals, k, slack,
        )  # fmt: skip
        n_computed += min(limits[0], len(others)) + len(best)
        left = np.concatenate((kept, best))
        left = left[np.argsort(-(exact - logits + rough)[i, left])][: k + 4]
        ref = np.sort(exact[i, left])[::-1][:k]
        assert_allclose(scores[i, : len(ref)], ref, rtol=1e-3, atol=1e-3)
    assert active == n_computed


def test_heads_fit_into_their_share_of_the_output_layer():
    indptr = np.concatenate(([0], np.cumsum([5, 90, 40, 0, 60])))
    assert head_labels(indptr, 100, 10**6).tolist() == [0, 1, 2, 4]
    assert head_labels(indptr, 100, 4 * 16 * 10 * 150 // (4 * 5 * 4)).tolist() == [1, 4]
    assert head_labels(indptr, 100, 1).tolist() == []
    assert head_labels(indptr, 5 * 64, 10**6).tolist() == [1, 2, 4]
    assert len(head_labels(np.arange(3001), 10, 10**6)) == 1024


def test_networks_without_coarse_rows_or_a_wide_path_have_no_head():
    network, _ = started()
    assert len(with_head(network).head.labels) == 0
    with Workers(1) as workers:
        network = with_coarse(network, workers)
    assert len(with_head(network._replace(wide=None)).head.labels) == 0
