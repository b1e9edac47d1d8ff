"""Arrays of more than 2^31 entries: files with holes stand for them, of which little is read."""

import sys

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.sparse import csr_matrix

from slidelearn.layers import Groups, Layer, Pairs, pair_input_gradient, pair_logits, update_rows
from slidelearn.optimizers import Optimizer, Step, make_optimizer
from slidelearn.rows import Rows, dense_rows, sparse_rows
from slidelearn.sampling import draw_tail, tail_chances
from slidelearn.scratch import zeros
from slidelearn.wide import (
    Wide,
    add_block_scores,
    add_pair_scores,
    columns_of,
    find_hits,
    move_block,
    move_wide,
)

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or sys.maxsize < 2**40, reason="needs files with holes"
)

BIG = 2**31 + 5
FEATURES = np.array([1, 4, 7], np.int32)


@pytest.fixture
def holes(tmp_path):
    """A function that makes arrays of zeros which take no room."""

    def make(dtype, shape):
        with open(tmp_path / str(len(list(tmp_path.iterdir()))), "wb+") as file:
            file.truncate(int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize)
            return np.memmap(file, dtype, "r+", shape=shape).view(np.ndarray)

    return make


def wide_path(holes, last):
    """Two labels: the first has so many entries that those of the other lie beyond 2^31."""
    size = BIG + len(last)
    wide = Wide(
        np.array([0, BIG, size]), holes(np.int32, size), holes(np.float32, size),
        holes(np.float32, size),
    )  # fmt: skip
    wide.features[BIG:], wide.weights[BIG:], wide.squares[BIG:] = last, 1 + np.arange(len(last)), 1
    return wide


@pytest.mark.parametrize("searched", [False, True])
def test_a_wide_path(holes, searched):
    last = np.arange(200, dtype=np.int32) if searched else FEATURES
    wide = wide_path(holes, last)
    X = csr_matrix(([2.0], ([0], [4])), (1, 200), dtype=np.float32)
    x = sparse_rows(X)
    place = BIG + int(np.searchsorted(last, 4))
    hits = find_hits(x, wide, Pairs(np.array([0, 1]), np.array([1], np.int32)), zeros(200))
    assert hits.places.tolist() == [place]
    scores = np.zeros(1, np.float32)
    add_pair_scores(wide, hits, scores)
    expected = 2 * wide.weights[place]
    assert scores.tolist() == [expected]
    columns = columns_of(X)
    block = np.zeros((1, 1), np.float32)
    add_block_scores(columns, wide, np.array([1]), block)
    assert block.tolist() == [[expected]]
    before = wide.weights[place]
    groups = Groups(
        np.array([1], np.int32), np.array([0, 1]), np.array([0]), np.array([-1], np.int64)
    )
    move_wide(wide, groups, 0, 1, hits, np.array([0.5], np.float32), 0.1)
    moved = wide.weights[place]
    assert moved < before
    move_block(columns, wide, np.array([1]), np.array([[0.5]], np.float32), 0.1)
    assert wide.weights[place] < moved
    assert not wide.weights[: 2**12].any()


def test_a_layer(holes):
    width = 1023
    n = BIG // (width + 1) + 2
    weight = holes(np.float32, (n, width + 1))
    weight[-1] = np.arange(width + 1)
    h = dense_rows(np.ones((1, width + 1), np.float32))
    pairs, out = Pairs(np.array([0, 1]), np.array([n - 1], np.int32)), np.empty(1, np.float32)
    pair_logits(h, weight, pairs, out)
    assert_allclose(out, weight[-1].sum(), rtol=1e-5)
    gradient = np.zeros(h.values.shape, np.float32)
    pair_input_gradient(h, weight, pairs, np.ones(1, np.float32), gradient)
    assert_allclose(gradient[:-1], weight[-1, :-1])
    small = make_optimizer("adagrad", (1, 1))
    optimizer = Optimizer(small.kind, np.ones(n, np.float32), *small[2:])
    groups = Groups(np.array([n - 1]), np.array([0, 1]), np.array([0]), np.array([-1]))
    entry = (np.zeros(1, np.int64), np.ones(1, np.float32))
    shared = np.empty((0, width + 1), np.float32)
    before = weight[-1].copy()
    update_rows(
        Layer(weight, optimizer, True), groups, entry, h, shared, Step(0.1, 0.0),
        lambda work, ranges: [work(*r) for r in ranges],
    )  # fmt: skip
    assert (weight[-1] < before).all()
    assert not weight[0].any()


def test_examples(holes):
    indices, values = holes(np.int32, BIG + 2), holes(np.float32, BIG + 2)
    indices[BIG:], values[BIG:] = [0, 2], [3, 4]
    x = Rows(np.array([0, BIG, BIG + 2]), indices, values, 3, False)
    weight = np.array([[1, 10, 100, 0]], np.float32)
    out = np.empty(1, np.float32)
    pair_logits(x, weight, Pairs(np.array([0, 0, 1]), np.zeros(1, np.int32)), out)
    assert out.tolist() == [403]


def test_counts_of_labels():
    counts = np.array([2**33, 2**32, 1, 0])
    chances = tail_chances(counts, 2)
    assert_allclose(chances.each, [1, 2 / 3, 2 / counts.sum(), 0])
    assert set(draw_tail(chances, np.random.default_rng(0)).neurons) <= {0, 1, 2}
