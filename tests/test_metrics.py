"""Ranking metrics against plain Python, by hand, and by their properties."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

import naive_metrics as naive
from slidelearn import metrics
from slidelearn.errors import ConfigError, DataError


@st.composite
def problems(draw, min_examples=1):
    """Labels (dense, for the oracle) and a ranking with gaps, wrong labels and repeated ids."""
    n = draw(st.integers(min_examples, 8))
    n_labels = draw(st.integers(1, 9))
    columns = draw(st.integers(n_labels, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    Y = rng.random((n, n_labels)) < draw(st.sampled_from([0.0, 0.2, 0.6, 1.0]))
    top = rng.integers(-1, n_labels, (n, columns))
    return top, Y.astype(np.float32)


@given(problems(), st.integers(1, 14))
@settings(deadline=None, max_examples=150)
def test_every_metric_equals_the_naive_one(problem, k):
    top, Y = problem
    sparse = csr_matrix(Y)
    inverse = np.random.default_rng(k).uniform(1, 9, Y.shape[1])
    np.testing.assert_array_equal(metrics.hits(top, sparse), naive.hits(top, Y))
    assert metrics.precision_at_k(top, sparse, k) == pytest.approx(naive.precision_at_k(top, Y, k))
    assert metrics.ndcg_at_k(top, sparse, k) == pytest.approx(naive.ndcg_at_k(top, Y, k))
    ref = naive.psp_at_k(top, Y, inverse, k)
    assert metrics.psp_at_k(top, sparse, inverse, k) == pytest.approx(ref)


@given(problems(min_examples=3))
@settings(deadline=None, max_examples=50)
def test_propensity_equals_the_naive_one(problem):
    _, Y = problem
    np.testing.assert_allclose(metrics.propensity(csr_matrix(Y)), naive.propensity(Y))
    ref = naive.propensity(Y, a=0.5, b=0.4)
    np.testing.assert_allclose(metrics.propensity(csr_matrix(Y), a=0.5, b=0.4), ref)


@given(problems(), st.integers(1, 14))
@settings(deadline=None, max_examples=100)
def test_recall_equals_the_naive_one(problem, k):
    top, _ = problem
    exact = np.random.default_rng(k).permuted(top, axis=1)
    assert metrics.recall_at_k(top, exact, k) == pytest.approx(naive.recall_at_k(top, exact, k))


@given(problems())
@settings(deadline=None, max_examples=50)
def test_a_perfect_ranking_scores_one_where_it_can(problem):
    _, Y = problem
    Y[:, 0] = 1  # every example has a label
    sparse = csr_matrix(Y)
    inverse = metrics.propensity(sparse)
    order = np.argsort(-(Y * inverse), axis=1, kind="stable")  # rarest true labels first
    for k in (1, 2, Y.shape[1]):
        assert metrics.ndcg_at_k(order, sparse, k) == pytest.approx(1.0)
        assert metrics.psp_at_k(order, sparse, inverse, k) == pytest.approx(1.0)
    assert metrics.precision_at_k(order, sparse, 1) == 1.0


def test_values_worked_out_by_hand():
    Y = csr_matrix([[1, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]])
    top = np.array([[0, 2, 1], [2, 3, -1], [1, 2, 3]], dtype=np.int32)
    inverse = np.array([1.0, 2.0, 3.0, 4.0])
    assert metrics.precision_at_k(top, Y, 1) == pytest.approx(1 / 3)
    assert metrics.precision_at_k(top, Y, 3) == pytest.approx(3 / 9)
    first = (1 + 1 / 2) / (1 + 1 / math.log2(3))
    second = 1 / math.log2(3)
    assert metrics.ndcg_at_k(top, Y, 3) == pytest.approx((first + second + 0) / 3)
    assert metrics.psp_at_k(top, Y, inverse, 1) == pytest.approx(1 / (2 + 4))
    assert metrics.psp_at_k(top, Y, inverse, 3) == pytest.approx((1 + 2 + 4) / (1 + 2 + 4))


def test_propensity_follows_the_published_formula():
    Y = csr_matrix(np.eye(100, 2, dtype=np.float32))
    c = (math.log(100) - 1) * 2.5**0.55
    assert metrics.propensity(Y)[0] == pytest.approx(1 + c * 2.5**-0.55)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_propensity_of_very_few_examples_is_one(n):
    assert metrics.propensity(csr_matrix((n, 3))).tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("index_type", [np.int32, np.int64])
def test_unsorted_and_zero_entries_of_y_do_not_matter(index_type):
    messy = csr_matrix((1, 6), dtype=np.float32)
    messy.data = np.array([1, 1, 0], dtype=np.float32)
    messy.indices = np.array([4, 1, 2], dtype=index_type)
    messy.indptr = np.array([0, 3], dtype=index_type)
    assert metrics.hits(np.array([[4, 2, 1]]), messy).tolist() == [[True, False, True]]
    assert metrics.psp_at_k(np.array([[4, 2, 1]]), messy, np.ones(6), 3) == 1.0
    np.testing.assert_array_equal(messy.indices, [4, 1, 2])


def test_a_repeated_id_is_a_hit_once():
    Y = csr_matrix([[0, 1, 1]])
    assert metrics.precision_at_k(np.array([[1, 1, 1]]), Y, 3) == pytest.approx(1 / 3)
    assert metrics.recall_at_k(np.array([[1, 1, 1]]), np.array([[1, 2, 0]]), 3) == pytest.approx(
        1 / 3
    )


def test_report_gathers_the_metrics_in_percent():
    rng = np.random.default_rng(0)
    Y = csr_matrix(rng.random((20, 30)) < 0.1)
    top = np.argsort(rng.random((20, 30)), axis=1)[:, :7]
    inverse = metrics.propensity(Y)
    got = metrics.report(top, Y, inverse, ks=(1, 5))
    assert list(got) == ["p@1", "p@5", "ndcg@1", "ndcg@5", "psp@1", "psp@5"]
    for k in (1, 5):
        assert got[f"p@{k}"] == pytest.approx(100 * metrics.precision_at_k(top, Y, k))
        assert got[f"ndcg@{k}"] == pytest.approx(100 * metrics.ndcg_at_k(top, Y, k))
        assert got[f"psp@{k}"] == pytest.approx(100 * metrics.psp_at_k(top, Y, inverse, k))
    assert list(metrics.report(top, Y)) == ["p@1", "p@3", "p@5", "ndcg@1", "ndcg@3", "ndcg@5"]


def test_two_labels_are_enough_for_a_report_at_five():
    Y = csr_matrix([[1, 0], [1, 1]])
    got = metrics.report(np.array([[0, 1], [1, 0]]), Y, np.ones(2))
    assert got["p@5"] == pytest.approx(100 * 3 / 10)
    assert got["psp@5"] == pytest.approx(100.0)
    assert got["ndcg@5"] == pytest.approx(100.0)


def test_ids_beyond_single_precision_are_told_apart():
    wide = 2**24 + 2
    Y = csr_matrix(([1.0], ([0], [wide - 1])), shape=(1, wide))
    assert metrics.hits(np.array([[wide - 2, wide - 1]]), Y).tolist() == [[False, True]]


def test_nothing_to_find():
    assert metrics.recall_at_k(np.array([[1, 2]]), np.array([[-1, -1]]), 2) == 1.0
    assert metrics.psp_at_k(np.array([[0]]), csr_matrix((1, 2)), np.ones(2), 1) == 0.0


LABELS = csr_matrix([[0, 1, 0], [1, 0, 0]])


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: metrics.hits(np.array([[0]]), LABELS), DataError, "1 rows but Y has 2"),
        (lambda: metrics.hits(np.array([[0], [3]]), LABELS), DataError, r"top\[1, 0\] is 3"),
        (lambda: metrics.hits(np.array([[0], [-2]]), LABELS), DataError, "is -2"),
        (lambda: metrics.hits(np.array([[0.0], [1.0]]), LABELS), DataError, "dtype float64"),
        (lambda: metrics.hits(np.array([0, 1]), LABELS), DataError, r"shape \(2,\)"),
        (lambda: metrics.hits(np.array([[0], [1]]), 2 * LABELS), DataError, "labels are 0 or 1"),
        (lambda: metrics.precision_at_k(np.array([[0], [1]]), LABELS, 2), DataError, "k=2"),
        (lambda: metrics.precision_at_k(np.array([[0], [1]]), LABELS, 0), ConfigError, "k is 0"),
        (lambda: metrics.report(np.array([[0], [1]]), LABELS, ks=()), ConfigError, "ks is empty"),
        (lambda: metrics.report(np.array([[0], [1]]), LABELS, ks=(1, 0)), ConfigError, "k is 0"),
        (
            lambda: metrics.hits(np.zeros((0, 1), int), csr_matrix((0, 3))),
            DataError,
            "0 examples",
        ),
        (
            lambda: metrics.psp_at_k(np.array([[0], [1]]), LABELS, np.ones(2), 1),
            DataError,
            "Y has 3 labels",
        ),
        (
            lambda: metrics.recall_at_k(np.array([[0]]), np.array([[0], [1]]), 1),
            DataError,
            "exact_top has 2",
        ),
    ],
)
def test_mistakes_are_named(call, error, words):
    with pytest.raises(error, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)
