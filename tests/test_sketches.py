"""Sketches: bounds of products as their formula says, and the neurons that they leave to read."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import naive
from slidelearn.config import TableConfig
from slidelearn.index import Lookup, NeuronIndex
from slidelearn.rows import BIAS_INPUT, dense_rows
from slidelearn.tables.outlook import look_out, make_outline
from slidelearn.tables.sketches import (
    BLOCK,
    cut_query,
    make_block,
    make_sketches,
    most_products,
    n_words,
    open_sketches,
    turn_row,
)
from slidelearn.workers import Workers


def problem(n_neurons, d, seed=0):
    """An index that keeps rows of neurons in a few clusters, the weights, and queries."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((5, d))
    weight = np.zeros((n_neurons, d + 1), np.float32)
    weight[:, :d] = centres[rng.integers(0, 5, n_neurons)] + rng.standard_normal((n_neurons, d))
    weight[:, d] = rng.standard_normal(n_neurons)
    queries = np.full((30, d + 1), BIAS_INPUT, np.float32)
    queries[:, :d] = np.abs(rng.standard_normal((30, d)))
    index, queries = NeuronIndex(TableConfig(n_buckets=8), seed=3), dense_rows(queries)
    with Workers(1) as workers:
        index.fit(weight, queries, workers)
    index.keep_rows(weight)
    return index, weight, queries


def bounds(index, sketches, query):
    """What the products of all neurons with a query (d + 1,) are at most, in the table's order."""
    row = np.empty(len(sketches.turn), np.float32)
    planes = np.empty((4, len(row) // 64), np.uint64)
    cut = cut_query(query, sketches.turn, row, planes)
    codes = index.tables.codes[index.tables.neurons[0], 0] // index.family.n_levels
    toward, found = (index.family.centroids[0] @ query)[codes], []
    block = make_block()
    for start in range(0, len(codes), 100):  # blocks that are not full, in either half
        n, first = min(100, len(codes) - start), BLOCK * (start // 100 % 2)
        block.places[first : first + n] = np.arange(start, start + n)
        block.products[first : first + n] = toward[start : start + n]
        most_products(sketches, block, first, n, planes, cut)
        found.append(block.products[first : first + n].copy())
    return np.concatenate(found)


@pytest.mark.nojit
@pytest.mark.parametrize("d", [1, 3, 64, 100])
def test_bounds_are_those_of_the_formula(d):
    index, weight, queries = problem(40, d)
    family, order = index.family, index.tables.neurons[0]
    sketches = make_sketches(weight, index.tables, family, index.centring, seed=0)
    vectors = index.centring.neurons(weight[:, :-1], BIAS_INPUT * weight[:, -1])[order]
    own = family.centroids[0][index.tables.codes[order, 0] // family.n_levels]
    assert sketches.words.shape == (40, n_words(d) + 2)
    for query in index.centring.queries(queries.matrix()[:3, :-1]):
        want = naive.most_products(vectors.astype(float), own.astype(float), query, sketches.turn)
        assert_allclose(bounds(index, sketches, query), want, rtol=1e-4, atol=1e-4)


def test_most_products_are_below_their_bounds_and_not_far():
    index, weight, queries = problem(2000, 128)
    outline = make_outline(index.family, index.tables)
    asked = index.centring.queries(queries.matrix()[:, :-1])
    outlook = look_out(asked, index.centring, outline)
    logits = (queries.matrix() @ weight.T)[:, index.tables.neurons[0]]
    above = np.stack([bounds(index, index.sketches, query) for query in asked])
    above += outlook.shifts[:, None] - logits
    assert 0.9 < (above > 0).mean() < 0.99
    assert above.mean() < logits.std()


def test_a_query_alone_expects_what_it_does_among_others():
    index, _, queries = problem(300, 70)
    outline = make_outline(index.family, index.tables)
    asked = index.centring.queries(queries.matrix()[:, :-1])
    outlook = look_out(asked, index.centring, outline)
    for i in range(len(asked)):
        alone = look_out(asked[i : i + 1], index.centring, outline)
        for got, want in zip(alone[1:], outlook[1:], strict=True):
            assert_allclose(got[0], want[i], rtol=1e-4, atol=1e-4)
    exact = asked @ index.family.centroids[0].T
    assert np.abs(outlook.products - exact).max() < 0.01 * np.abs(exact).max()


@pytest.mark.parametrize("limit", [5, 50])
def test_sketches_leave_the_best_to_read(limit):
    index, _, queries = problem(3000, 128)
    size = Lookup(1, limit, 1, 1, 0, reach=1000)
    found = index.lookup(queries, size)
    index.sketches = None
    same = index.lookup(queries, size)
    assert_array_equal(found.indptr, same.indptr)
    kept = [np.isin(b, a).mean() for a, b in zip(*split(found, same), strict=True)]
    assert np.mean(kept) > 0.97


def split(*found):
    """The neurons of every query."""
    return [np.split(pairs.neurons, pairs.indptr[1:-1]) for pairs in found]


def test_neurons_of_zeros_and_queries_of_zeros_have_bounds():
    index, weight, _ = problem(40, 5)
    weight[3:9] = 0
    sketches = make_sketches(weight, index.tables, index.family, index.centring, seed=0)
    assert np.isfinite(sketches.numbers[:, -4:]).all()
    assert np.isfinite(bounds(index, sketches, np.zeros(6, np.float32))).all()


def test_turning_keeps_products():
    rng = np.random.default_rng(0)
    rows, turn = rng.standard_normal((2, 256)).astype(np.float32), np.ones(256, np.float32)
    turn[rng.random(256) < 0.5] = -1
    turned = rows.copy()
    for row in turned:
        turn_row(row, turn)
    assert_allclose(turned @ turned.T, rows @ rows.T, rtol=1e-4, atol=1e-3)
    assert np.abs(turned - rows).max() > 1


def test_what_a_file_holds_is_all_there_is():
    index, weight, _ = problem(40, 70)
    again = open_sketches(index.sketches.words.copy(), index.seed)
    for one, other in zip(index.sketches, again, strict=True):
        assert_array_equal(one, other)
    with Workers(1) as workers:
        index.refile(weight, np.arange(3), workers)
    assert index.sketches is None
