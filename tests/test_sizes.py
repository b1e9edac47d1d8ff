"""Arrays of more than 2^31 entries: files with holes stand for them, of which little is read."""

import sys

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_matrix

from batches import random_features, random_labels
from slidelearn.config import Config
from slidelearn.csr import copy_csr, keep_entries, make_csr, slice_rows, stack_rows, take_rows
from slidelearn.datasets import dataset
from slidelearn.errors import DataError
from slidelearn.layers import Groups, Layer, Pairs, pair_input_gradient, pair_logits, update_rows
from slidelearn.network_arrays import name_layers
from slidelearn.optimizers import Optimizer, Step, make_optimizer
from slidelearn.predicting import predict_topk
from slidelearn.rows import Rows, dense_rows, sparse_rows
from slidelearn.sampling import draw_tail, tail_chances
from slidelearn.scratch import zeros
from slidelearn.step import train_step
from slidelearn.training import Trainer
from slidelearn.wide import Wide, add_pair_scores, find_hits, make_wide, move_wide
from slidelearn.wide_block import add_met_scores, columns_of, meet_block, move_met
from slidelearn.workers import Workers

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


def behind(holes, rows):
    """A matrix whose row 0 has so many entries that those of some ``rows`` lie beyond 2^31."""
    size = BIG + rows.nnz
    indices, data = holes(np.int32, size), holes(rows.dtype, size)
    indices[BIG:], data[BIG:] = rows.indices, rows.data
    indptr = np.concatenate(([0], BIG + rows.indptr.astype(np.int64)))
    X = make_csr(data, indices, indptr, (rows.shape[0] + 1, rows.shape[1]))
    assert (X.indptr.dtype, X.indices.dtype, X.nnz) == (np.int64, np.int32, size)
    assert np.shares_memory(X.indices, indices)
    assert np.shares_memory(X.data, data)
    return X


def assert_same_rows(got, expected):
    assert got.shape == expected.shape
    for part in ("data", "indices", "indptr"):
        assert_array_equal(getattr(got, part), getattr(expected, part))


def test_rows_of_a_matrix(holes):
    rows = random_features(20, 30)
    X = behind(holes, rows)
    part = slice_rows(X, 1, 21)
    assert_same_rows(part, rows)
    assert np.shares_memory(part.indices, X.indices)
    first = slice_rows(X, 0, 2)
    assert np.shares_memory(first.indices, X.indices)
    assert first.indptr.tolist() == [0, BIG, BIG]
    chosen = np.array([7, 3, 19, 3])
    assert_same_rows(take_rows(X, chosen + 1), rows[chosen])
    assert_same_rows(stack_rows([part, part])[20:], rows)
    assert_same_rows(copy_csr(part), rows)
    assert_same_rows(keep_entries(part, np.ones(part.nnz, np.bool_)), rows)


def test_a_training_step_and_predictions(holes):
    rows, labels = random_features(64, 30), random_labels(64, 50)
    X, Y = behind(holes, rows), behind(holes, labels)
    config = Config(hidden=(8,), tail=10, batch_size=32, input_dropout=0.1)
    chosen = np.random.default_rng(0).permutation(64)[:32]
    with Workers(1) as workers:
        trained = []
        for batch, queries in (
            ((rows[chosen], labels[chosen]), rows),
            ((take_rows(X, 1 + chosen), take_rows(Y, 1 + chosen)), slice_rows(X, 1, 65)),
        ):
            trainer = Trainer.start(config, rows, labels, workers)
            tail = draw_tail(tail_chances(np.ones(50), 10), np.random.default_rng(0))
            train_step(
                trainer.network, config, *batch, number=0, lr_factor=1.0, workers=workers,
                tail=tail, own=trainer.own, prior=trainer.prior,
            )  # fmt: skip
            top = predict_topk(trainer.network, queries, 5, exact=False, workers=workers)
            trained.append(name_layers(trainer.network) | top._asdict())
    for name, array in trained[0].items():
        assert_array_equal(trained[1][name], array, err_msg=name)


def test_centroids(holes):
    rows, labels = random_features(20, 30), random_labels(20, 5)
    X, Y = behind(holes, rows), stack_rows([csr_matrix((1, 5), dtype=np.uint8), labels])
    for ours, theirs in zip(make_wide(X, Y, 2.0)[0], make_wide(rows, labels, 2.0)[0], strict=True):
        assert_array_equal(ours, theirs)


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
    met, block = meet_block(columns, wide, np.array([1])), np.zeros((1, 1), np.float32)
    assert met.places.tolist() == [place]
    add_met_scores(columns, wide, met, block)
    assert block.tolist() == [[expected]]
    before = wide.weights[place]
    groups = Groups(
        np.array([1], np.int32), np.array([0, 1]), np.array([0]), np.array([-1], np.int64)
    )
    move_wide(wide, groups, 0, 1, hits, np.array([0.5], np.float32), 0.1)
    moved = wide.weights[place]
    assert moved < before
    move_met(columns, wide, met, np.array([[0.5]], np.float32), 0.1)
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


def test_more_examples_than_ids_are_refused(monkeypatch):
    monkeypatch.setattr(dataset, "MAX_IDS", 3)
    dataset.check_dataset(dataset.Dataset(np.ones((3, 2)), np.ones((3, 2))))
    with pytest.raises(DataError, match="X has 4 rows; a dataset has at most 3"):
        dataset.check_dataset(dataset.Dataset(np.ones((4, 2)), np.ones((4, 2))))
