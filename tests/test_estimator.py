"""SlideClassifier as scikit-learn and its users see it."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array, csr_matrix, issparse
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import slidelearn
from problems import clusters
from slidelearn import SlideClassifier, estimator
from slidelearn.datasets import Dataset
from slidelearn.errors import ConfigError, DataError
from slidelearn.fitting import fit_model
from slidelearn.model_file import save_model
from slidelearn.targets import name_classes, read_target, restore_classes

QUICK = {"hidden": 32, "epochs": 2, "batch_size": 64, "n_jobs": 1}
HASHED = {"tail": 10}


def expected_failed_checks(classifier):
    return {
        "check_classifiers_multilabel_representation_invariance": (
            "the check passes an indicator matrix as a list of lists; here that is a list of label "
            "lists, and both readings of [[0, 1], [1, 0]] cannot be had"
        )
    }


@parametrize_with_checks(
    [SlideClassifier(hidden=16, n_jobs=1)], expected_failed_checks=expected_failed_checks
)
def test_scikit_learn(estimator, check):
    check(estimator)


def test_importing_is_light():
    code = (
        "import sys, slidelearn; dir(slidelearn); "
        "heavy = {'numba', 'numpy', 'scipy', 'sklearn'} & set(sys.modules); sys.exit(bool(heavy))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("name", slidelearn.__all__)
def test_public_names(name):
    assert getattr(slidelearn, name) is not None
    assert name in dir(slidelearn)


def test_no_other_names():
    with pytest.raises(AttributeError, match="no attribute 'SlideRegressor'"):
        _ = slidelearn.SlideRegressor


FORMS = {
    "csr": lambda Y, labels: (Y, labels),
    "csr array": lambda Y, labels: (csr_array(Y), labels),
    "csc": lambda Y, labels: (Y.tocsc(), labels),
    "dense": lambda Y, labels: (Y.toarray(), labels),
    "bool": lambda Y, labels: (Y.toarray().astype(bool), labels),
    "lists of ints": lambda Y, labels: ([[i] for i in labels.tolist()], labels),
    "tuples of strings": lambda Y, labels: ([(f"n{i:02}",) for i in labels], _names(labels)),
    "sets": lambda Y, labels: ([{f"n{i:02}"} for i in labels], _names(labels)),
    "ints": lambda Y, labels: (labels * 10 - 50, labels * 10 - 50),
    "strings": lambda Y, labels: (_names(labels), _names(labels)),
    "objects": lambda Y, labels: (_names(labels).astype(object), _names(labels)),
    "list of strings": lambda Y, labels: (_names(labels).tolist(), _names(labels)),
}


def _names(labels):
    return np.array([f"n{i:02}" for i in labels])


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_labels(form):
    X, Y, labels = clusters()
    given_labels, expected = FORMS[form](Y, labels)
    classifier = SlideClassifier(**QUICK, config=HASHED).fit(X, given_labels)
    assert classifier.model_.hashed
    np.testing.assert_array_equal(classifier.classes_, np.unique(expected))
    top, scores = classifier.predict_topk(X, 3, exact=True)
    assert (top[:, 0] == expected).mean() > 0.9
    assert top.shape == scores.shape == (400, 3)
    assert scores.dtype == np.float32
    assert (np.diff(scores, axis=1) <= 0).all()
    assert classifier.score(X, given_labels) > 0.8
    predicted = classifier.predict(X)
    if classifier.multilabel_:
        assert issparse(predicted) == (form not in ("dense", "bool"))
        assert predicted.shape == (400, 40)
    else:
        assert predicted.shape == (400,)


def test_prediction_of_several_labels():
    """With the softmax loss the best label and those half as probable; else all above 0."""
    rng = np.random.default_rng(0)
    Y = (rng.random((300, 6)) < 0.4).astype(int)
    X = Y + 0.1 * rng.random(Y.shape)
    for loss in ("softmax", "bce", "hinge"):
        config = {"loss": loss, "normalize": False}
        classifier = SlideClassifier(epochs=30, n_jobs=1, config=config).fit(X, Y)
        scores, predicted = classifier.decision_function(X), classifier.predict(X)
        least = scores.max(axis=1, keepdims=True) - np.log(2) if loss == "softmax" else 0
        np.testing.assert_array_equal(predicted, scores >= least)
        filled = Y.any(axis=1)
        assert (predicted == Y)[filled].mean() > 0.9, loss


def test_probabilities():
    X, _, labels = clusters()
    several = [[i] for i in labels.tolist()]
    for loss in ("softmax", "bce"):
        for Y in (labels, several):
            classifier = SlideClassifier(**QUICK, config={"loss": loss}).fit(X, Y)
            scores = classifier.decision_function(X).astype(np.float64)
            if loss == "softmax":
                expected = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
            else:
                expected = 1 / (1 + np.exp(-scores))
            if not classifier.multilabel_:
                expected /= expected.sum(axis=1, keepdims=True)
            np.testing.assert_allclose(classifier.predict_proba(X), expected, rtol=1e-9)
    hinge = SlideClassifier(config={"loss": "hinge"})
    assert not hasattr(hinge, "predict_proba")
    assert not hasattr(hinge.set_params(**QUICK).fit(X, labels), "predict_proba")


def test_fewer_labels_than_asked_for():
    X = np.eye(3)
    for Y, fill in ((["a", "b", "b"], ""), ([4, 5, 5], -1), ([2.0, 1.0, 1.0], np.nan)):
        labels, scores = SlideClassifier(epochs=1, n_jobs=1).fit(X, np.array(Y)).predict_topk(X, 5)
        assert labels.shape == (3, 5)
        np.testing.assert_array_equal(labels[:, 2:], np.full((3, 3), fill, labels.dtype))
        np.testing.assert_array_equal(np.isfinite(scores), np.arange(5)[None] < [[2]] * 3)


def test_dense_results_are_bounded(monkeypatch):
    X, Y, _ = clusters()
    classifier = SlideClassifier(**QUICK).fit(X, Y)
    monkeypatch.setattr(estimator, "_DENSE_LIMIT", 400 * 40 - 1)
    for method in (classifier.decision_function, classifier.predict_proba):
        assert method(X[:399]).shape == (399, 40)
        with pytest.raises(DataError, match=r"400 examples with 40 labels .* use predict_topk"):
            method(X)


@pytest.mark.parametrize("k", [0, -1, 2.0, True, "5"])
def test_a_wrong_k(k):
    X, Y, _ = clusters()
    classifier = SlideClassifier(**QUICK).fit(X, Y)
    with pytest.raises(ConfigError, match="choose a whole number of at least 1"):
        classifier.predict_topk(X, k)


def test_labels_never_seen_before():
    old, new = clusters(n_labels=20), clusters(n_labels=20, first_label=20)
    classifier = SlideClassifier(hidden=32, n_jobs=1, config=HASHED)
    for _ in range(3):
        classifier.partial_fit(old[0], old[2])
    assert classifier.classes_.tolist() == list(range(20))
    for _ in range(2):
        classifier.partial_fit(new[0], new[2] - 40)
    assert classifier.classes_.tolist() == [*range(20), *range(-20, 0)]
    assert classifier.score(new[0], new[2] - 40) > 0.8
    labels, _ = classifier.predict_topk(old[0], 1)
    assert set(labels.ravel().tolist()) <= set(classifier.classes_.tolist())
    with pytest.raises(DataError, match="labels of type str, but the classes are of type int"):
        classifier.partial_fit(old[0], _names(old[2]))
    with pytest.raises(DataError, match="changed between class vectors and sets"):
        classifier.partial_fit(old[0], [[i] for i in old[2].tolist()])


def test_announced_classes():
    X, _, labels = clusters(n_labels=5)
    classifier = SlideClassifier(hidden=8, n_jobs=1)
    classifier.partial_fit(X, _names(labels), classes=["n04", "zebra"])
    assert classifier.classes_.tolist() == ["n04", "zebra", "n00", "n01", "n02", "n03"]


def test_label_lists_grow():
    X, _, labels = clusters(n_labels=20)
    classifier = SlideClassifier(hidden=32, n_jobs=1, config=HASHED)
    classifier.partial_fit(X, [[f"n{i:02}"] for i in labels])
    classifier.partial_fit(X, [["all", f"n{i:02}"] for i in labels])
    assert classifier.classes_[-1] == "all"
    assert classifier.predict(X).shape == (400, 21)
    assert classifier.score(X, [["all", f"n{i:02}"] for i in labels]) > 0.9
    assert classifier.score(X, [["unknown"]] * 400) == 0


@pytest.mark.parametrize("form", ["strings", "ints", "lists of ints", "tuples of strings", "dense"])
def test_saved_and_loaded(form, tmp_path):
    X, Y, labels = clusters()
    given_labels, _ = FORMS[form](Y, labels)
    classifier = SlideClassifier(**QUICK, config=HASHED).fit(X, given_labels)
    classifier.save(tmp_path)
    for loaded in (slidelearn.load(tmp_path), pickle.loads(pickle.dumps(classifier))):
        assert loaded.classes_.dtype.kind == classifier.classes_.dtype.kind
        np.testing.assert_array_equal(loaded.predict_topk(X)[0], classifier.predict_topk(X)[0])
        np.testing.assert_array_equal(loaded.predict_topk(X)[1], classifier.predict_topk(X)[1])
        ours, theirs = classifier.predict(X), loaded.predict(X)
        assert type(ours) is type(theirs)
        np.testing.assert_array_equal(*(p.toarray() if issparse(p) else p for p in (ours, theirs)))
        assert loaded.n_features_in_ == 60
        again = clone(loaded).fit(X, given_labels)
        np.testing.assert_array_equal(again.predict_topk(X)[1], classifier.predict_topk(X)[1])
        assert loaded.partial_fit(X, given_labels).score(X, given_labels) > 0.8


def test_a_folder_of_the_command_line(tmp_path):
    X, Y, labels = clusters()
    for names in (None, _names(np.arange(40)).tolist()):
        settings = {"hidden": [32], "threads": 1, "batch_size": 64}
        save_model(fit_model(Dataset(X, Y, names), settings), tmp_path)
        loaded = slidelearn.load(tmp_path)
        top, _ = loaded.predict_topk(X, 1, exact=True)
        assert (top[:, 0] == (labels if names is None else _names(labels))).mean() > 0.9
        assert loaded.score(X, Y) > 0.9
        assert loaded.predict(X).shape == Y.shape


def test_pipelines_and_searches():
    words = ["red round fruit", "long yellow fruit", "fast red car", "slow yellow bus"] * 8
    names = [["apple"], ["banana", "yellow"], ["ferrari"], ["bus", "yellow"]] * 8
    pipeline = make_pipeline(TfidfVectorizer(), SlideClassifier(epochs=5, n_jobs=1))
    assert pipeline.fit(words, names).predict(words).shape == (32, 5)
    assert cross_val_score(pipeline, words, names, cv=KFold(2)).min() == 1
    X, y = load_iris(return_X_y=True)
    pipeline = make_pipeline(StandardScaler(), SlideClassifier(n_jobs=1))
    search = GridSearchCV(pipeline, {"slideclassifier__hidden": [(4,), np.int64(64)]}, cv=3)
    assert search.fit(X, y).best_score_ > 0.9


def test_parameters():
    X, Y, _ = clusters()
    given = {"hidden": np.array([16, 8]), "epochs": np.int64(1), "lr": np.float32(0.5)}
    classifier = SlideClassifier(**given, n_jobs=2, config={"dropout": 0.25, "lr": 0.1})
    config = classifier.fit(X, Y).model_.config
    assert (config.hidden, config.epochs, config.lr) == ((16, 8), 1, 0.5)
    assert (config.dropout, config.threads, config.seed) == (0.25, 2, 0)
    with pytest.raises(ConfigError, match="epochs is -1"):
        SlideClassifier(epochs=-1).fit(X, Y)
    with pytest.raises(ConfigError, match="depth is no setting"):
        SlideClassifier(config={"depth": 3}).fit(X, Y)


def test_random_states():
    X, Y, _ = clusters()
    weights = [
        SlideClassifier(**QUICK, random_state=state).fit(X, Y).model_.network.hidden[0].weight
        for state in (1, 1, np.random.RandomState(0), np.random.RandomState(0), 2)
    ]
    np.testing.assert_array_equal(weights[0], weights[1])
    np.testing.assert_array_equal(weights[2], weights[3])
    assert not np.array_equal(weights[0], weights[4])


def test_verbose(capsys):
    X, Y, _ = clusters()
    SlideClassifier(**QUICK, verbose=1).fit(X, Y)
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 2
    assert captured.err.startswith("epoch 1: loss ")
    assert captured.out == ""


@pytest.mark.parametrize(
    ("Y", "message"),
    [
        ([["a"], ["b", "a", "b"]], "Y row 1 names label b twice"),
        ([["a"], [1]], "labels of type int and str"),
        ([[1.5], ["a"]], "labels of type float and str"),
        (np.array([[0, 1], [2, 1]]), "Y row 1, column 0 is 2; labels are 0 or 1"),
        (csr_matrix([[0.5, 1], [0, 1]]), "Y row 0, column 0 is 0.5"),
        ([["a"]], "X has 2 rows but Y has 1"),
        ([[], []], "the data have 0 labels"),
        (np.array([1j, 2j]), "labels are strings or whole numbers|Complex data not supported"),
    ],
)
def test_malformed_labels(Y, message):
    with pytest.raises(ValueError, match=message):
        SlideClassifier().fit(np.eye(2), Y)


@given(st.lists(st.sets(st.integers(-3, 9), max_size=4), min_size=1, max_size=8), st.booleans())
@settings(deadline=None, max_examples=100)
def test_label_lists_equal_their_indicators(sets, strings):
    rows = [[str(i) if strings else i for i in row] for row in sets]
    classes = sorted({label for row in rows for label in row})
    target = read_target(rows)
    assert target.classes.tolist() == classes
    assert target.Y.toarray().tolist() == [[int(c in row) for c in classes] for row in rows]
    assert target.Y.has_canonical_format
    known = np.array(["7", "3"]) if strings else np.array([7, 3])
    more = read_target(rows, known)
    assert more.classes.tolist() == [*known.tolist(), *(c for c in classes if c not in known)]
    assert more.Y.toarray().tolist() == [[int(c in r) for c in more.classes.tolist()] for r in rows]


@pytest.mark.parametrize("classes", [[3, 1], [0, 1, 2], ["b", ""], [0.1, 1e300], [True, False]])
def test_classes_have_names(classes):
    classes = np.array(classes)
    restored = restore_classes(*name_classes(classes), len(classes))
    np.testing.assert_array_equal(restored, classes)
    assert restored.dtype.kind == classes.dtype.kind


@pytest.mark.parametrize("tail", [5, 100])
def test_labels_with_one_example_each_are_found_by_it(tail):
    """None of them is a target in training: the start alone finds them."""
    X, y = np.eye(20, dtype=np.float32), np.arange(20)
    classifier = SlideClassifier(epochs=2, config={"tail": tail}).fit(X, y)
    assert classifier.predict(X).tolist() == y.tolist()


@pytest.mark.parametrize(
    ("spoil", "fragment"),
    [
        (lambda x: x.data.__setitem__(0, np.nan), "is not finite"),
        (lambda x: x.indices.__setitem__(0, -1), "out of bounds"),
        (lambda x: x.indices.__setitem__(0, 10**6), "out of bounds"),
        (lambda x: setattr(x, "indptr", np.array([0, 10**6], np.int32)), "malformed|indptr"),
        (lambda x: setattr(x, "indices", x.indices[:-1]), "malformed|indptr"),
    ],
)
def test_what_is_wrong_with_an_example_is_said(spoil, fragment):
    X, Y, _ = clusters()
    classifier = SlideClassifier(hidden=8, epochs=1).fit(X, Y)
    example = csr_matrix(X[0])
    before = classifier.predict_topk(example, 2)
    spoil(example)
    with pytest.raises(ValueError, match=fragment):
        classifier.predict_topk(example, 2)
    again = X[0][:, ::-1][:, ::-1].tocsc()  # another form of the same
    for one, other in zip(classifier.predict_topk(again, 2), before, strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match="expecting"):
        classifier.predict_topk(X[0][:, 1:], 2)
