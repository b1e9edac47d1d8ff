"""What a twin costs its labels where training data hold near repetitions, and where they do not."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

import naive
from batches import label_matrix, random_features, random_labels
from slidelearn import twins
from slidelearn.calibration import TWINS
from slidelearn.config import Config
from slidelearn.datasets import Dataset
from slidelearn.fitting import fit_model
from slidelearn.leave_one_out import asked_rows
from slidelearn.model import prepare_features
from slidelearn.twins import choose_twin
from slidelearn.workers import Workers


def choose(X, Y, threads=1, **settings):
    """What a twin costs."""
    with Workers(threads) as workers:
        return choose_twin(X, Y, Config(**settings), workers).twin


def of_pages(n_pages, shared, seed=0):
    """Passages: three words of their page, and eight of a text that a page holds once.

    A page has six passages and six words, of 400. If texts are ``shared``, five pages have each.
    """
    rng = np.random.default_rng(seed)
    each = 6
    texts = rng.integers(0, 5000, (each * n_pages, 8))
    of_passages = np.arange(each * n_pages)
    if shared:
        of_passages = rng.permutation(np.repeat(of_passages, 5)[: len(texts)])
    words = 5000 + np.array([rng.choice(400, 6, replace=False) for _ in range(n_pages)])
    labels = np.repeat(np.arange(n_pages), each)
    X = np.zeros((len(labels), 5400), np.float32)
    for i, (page, text) in enumerate(zip(labels, of_passages, strict=True)):
        X[i, texts[text]] = 1
        X[i, rng.choice(words[page], 3, replace=False)] = 1
    return prepare_features(csr_matrix(X), Config()), label_matrix(labels[:, None], n_pages)


@pytest.mark.nojit
@pytest.mark.parametrize("seed", range(6))
def test_the_choice_is_the_oracles(seed, monkeypatch):
    """Half of the seeds repeat examples with other labels, so that both choices are met."""
    monkeypatch.setattr(twins, "_ASKED", 40)
    X, Y = abs(random_features(120, 25, seed, density=0.2)), random_labels(120, 12, seed)
    if seed % 2:
        order = np.random.default_rng(seed).permutation(120)
        X = X[np.minimum(order, order[::-1])]
    X = prepare_features(X.tocsr(), Config())
    x, y = X.toarray().astype(float), Y.toarray()
    rows = asked_rows(120, 40, Config())
    others = np.setdiff1d(np.arange(120), rows)
    sums = []
    for twin in TWINS:
        more = np.zeros(y.shape)
        for i in rows:
            more[i] = naive.votes(x[others], y[others], x[i], 50, 1.5, twin)
        sums.append(naive.left_out_precisions(x, y, 30, 0.6, 1, more)[rows])
    best = int(np.argmax(np.sum(sums, axis=1)))
    chosen = 0 if naive.as_good([sums[0], sums[best]])[0] == 0 else best
    assert choose(X, Y, threads=2, doubt=1.0) == 2 * TWINS[chosen]


def test_texts_that_pages_share_speak_against_the_pages_that_have_them():
    X, Y = of_pages(500, shared=True)
    assert choose(X, Y) > 0


def test_texts_of_one_page_change_nothing():
    assert choose(*of_pages(500, shared=False)) == 0


def test_what_is_given_or_cannot_be_told_stays():
    X, Y = of_pages(500, shared=True)
    assert choose(X, Y, twin=0.5) == 0.5
    assert choose(X, Y, neighbours=0) == 0
    assert choose(X[:1900], Y[:1900]) == 0


def test_pages_that_share_texts_are_told_apart():
    """A fit chooses by itself, with features as they are; without, fewer are found."""
    X, Y = of_pages(700, shared=True)
    asked = np.random.default_rng(1).permutation(X.shape[0])[:300]
    known = np.setdiff1d(np.arange(X.shape[0]), asked)
    data, truth = Dataset(X[known], Y[known]), Y[asked].indices
    right = []
    for settings in ({}, {"twin": 0.0}):
        model = fit_model(data, {"hidden": [16], "tail": 50, "relevance": 0.0} | settings)
        labels = model.predict_topk(X[asked], 1).labels[:, 0]
        right.append((labels == truth).mean())
    assert model.config.twin == 0
    assert right[0] > right[1] + 0.03
