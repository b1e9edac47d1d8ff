import numpy as np
import pytest
from numpy.testing import assert_allclose

import naive
from batches import label_lists, label_matrix, random_labels
from slidelearn.layers import Pairs, pairs_of
from slidelearn.losses import LOSS_KINDS, stratified_loss
from slidelearn.sampling import Tail, draw_tail, join_strata, tail_chances

N, N_NEURONS = 6, 30
kinds = pytest.mark.parametrize("kind", list(LOSS_KINDS))


def make_strata(tail_size, n_found=4, seed=0):
    rng = np.random.default_rng(seed)
    Y = random_labels(N, N_NEURONS, seed)
    found = np.concatenate([rng.choice(N_NEURONS, n_found, replace=False) for _ in range(N)])
    pairs = Pairs(np.arange(N + 1) * n_found, found.astype(np.int32))
    return Y, join_strata(pairs_of(Y), pairs, some_tail(tail_size, rng))


def some_tail(size, rng):
    """A draw in which frequent labels are likely and the others are not."""
    return draw_tail(tail_chances(100 + np.arange(N_NEURONS) ** 2, size), rng)


def random_logits(seed=1):
    return np.random.default_rng(seed).standard_normal((N, N_NEURONS)).astype(np.float32) * 2


def engine(kind, strata, logits):
    """Loss, and gradients by all logits (n, N); those of T and U come from separate arrays."""
    owners = np.repeat(np.arange(len(logits)), np.diff(strata.indptr))
    pairs, tail = logits[owners, strata.neurons], logits[:, strata.shared]
    loss = stratified_loss(LOSS_KINDS[kind], strata, pairs, tail)
    gradient = np.zeros(logits.shape)
    gradient[:, strata.shared] = tail
    gradient[owners, strata.neurons] += pairs
    return loss, gradient


def reference(kind, Y, strata, logits):
    active = np.split(strata.neurons, strata.indptr[1:-1])
    out = [
        naive.stratified_loss(
            kind,
            labels,
            naive.strata_weights(own, strata.shared, strata.weights, N_NEURONS),
            row.astype(float),
        )
        for labels, own, row in zip(label_lists(Y), active, logits, strict=True)
    ]
    return sum(loss for loss, _ in out), np.array([gradient for _, gradient in out])


@pytest.mark.nojit
@kinds
def test_lone_labels_do_not_count(kind):
    Y, strata = make_strata(8)
    lone = np.arange(N_NEURONS) % 3 == 0
    pairs = Pairs(strata.indptr, strata.neurons)
    some = join_strata(pairs_of(Y), pairs, Tail(strata.shared, strata.weights), lone)
    logits = random_logits()
    loss, gradient = engine(kind, some, logits)
    total = 0.0
    for i, labels in enumerate(np.array(row, int) for row in label_lists(Y)):
        weights = naive.strata_weights(
            some.neurons[some.indptr[i] : some.indptr[i + 1]], some.shared, some.weights, N_NEURONS
        )
        weights[labels[lone[labels]]] = 0
        part, ref = naive.stratified_loss(
            kind, labels[~lone[labels]], weights, logits[i].astype(float)
        )
        assert_allclose(gradient[i], ref, rtol=1e-4, atol=1e-5)
        total += part
    assert_allclose(loss, total, rtol=1e-5)


@pytest.mark.nojit
@kinds
@pytest.mark.parametrize("tail_size", [0, 1, 8, N_NEURONS])
def test_loss_and_gradient(kind, tail_size):
    Y, strata = make_strata(tail_size)
    logits = random_logits()
    ref, ref_gradient = reference(kind, Y, strata, logits)
    loss, gradient = engine(kind, strata, logits)
    assert_allclose(loss, ref, rtol=1e-5)
    assert_allclose(gradient, ref_gradient, rtol=1e-5, atol=1e-6)


@kinds
def test_gradient_is_the_slope_of_the_loss(kind):
    Y, strata = make_strata(tail_size=8)
    logits = random_logits()
    _, gradient = engine(kind, strata, logits)

    def exact(flat):
        return reference(kind, Y, strata, flat.reshape(logits.shape))[0]

    slopes = naive.central_differences(exact, logits.astype(float).ravel())
    assert_allclose(gradient.ravel(), slopes, rtol=1e-4, atol=1e-5)

    def compiled(flat):
        return engine(kind, strata, flat.reshape(logits.shape).astype(np.float32))[0]

    slopes = naive.central_differences(compiled, logits.ravel(), step=1e-2)
    assert_allclose(gradient.ravel(), slopes, rtol=5e-3, atol=2e-2)


@kinds
def test_exact_when_the_tail_holds_all_the_rest(kind):
    Y, strata = make_strata(tail_size=N_NEURONS)
    everyone = join_strata(pairs_of(Y), None, some_tail(N_NEURONS, np.random.default_rng(0)))
    logits = random_logits()
    ones = np.ones(N_NEURONS)
    ref = sum(
        naive.stratified_loss(kind, labels, ones, row.astype(float))[0]
        for labels, row in zip(label_lists(Y), logits, strict=True)
    )
    for chosen in (strata, everyone):
        loss, _ = engine(kind, chosen, logits)
        assert_allclose(loss, ref, rtol=1e-5)


@kinds
def test_unbiased_over_draws_of_the_tail(kind):
    """Of softmax, the estimate of the sum of exponentials is: exp(loss + mean label logit)."""
    rng, n_draws = np.random.default_rng(2), 4000
    labels, retrieved = [4, 17], [3, 29, 12]
    logits = random_logits()[0]
    logits[[3, 12]] += 4  # retrieved because they are large; that must not bias the estimate
    active = np.array([*labels, *retrieved], np.int32)
    Y = label_matrix([labels], N_NEURONS)
    found = Pairs(np.array([0, 3]), active[2:])
    estimates, gradients = [], []
    for _ in range(n_draws):
        strata = join_strata(pairs_of(Y), found, some_tail(9, rng))
        loss, gradient = engine(kind, strata, logits[None])
        estimates.append(np.exp(loss + logits[labels].mean()) if kind == "softmax" else loss)
        gradients.append(gradient[0])
    ref, ref_gradient = naive.stratified_loss(
        kind, labels, np.ones(N_NEURONS), logits.astype(float)
    )
    true = np.exp(logits.astype(float)).sum() if kind == "softmax" else ref
    error = np.std(estimates) / np.sqrt(n_draws)
    assert abs(np.mean(estimates) - true) < 4 * error
    assert error < 0.02 * true
    if kind != "softmax":
        errors = np.std(gradients, axis=0) / np.sqrt(n_draws)
        assert (np.abs(np.mean(gradients, axis=0) - ref_gradient) < 4.5 * errors + 1e-5).all()


@pytest.mark.nojit
@kinds
def test_huge_logits_stay_finite(kind):
    Y, strata = make_strata(tail_size=8)
    logits = random_logits() * np.float32(1e4)
    loss, gradient = engine(kind, strata, logits)
    ref, ref_gradient = reference(kind, Y, strata, logits)
    assert_allclose(loss, ref, rtol=1e-5)
    assert_allclose(gradient, ref_gradient, rtol=1e-5, atol=1e-6)


def test_softmax_learns_nothing_from_an_example_without_labels():
    Y, strata = make_strata(tail_size=8)
    assert label_lists(Y)[1] == []
    _, gradient = engine("softmax", strata, random_logits())
    assert not gradient[1].any()
    assert gradient[2].any()
