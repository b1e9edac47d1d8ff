"""The estimator: slidelearn as a scikit-learn classifier."""

import os
import sys
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_matrix, issparse
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data

from slidelearn.datasets import Dataset, as_csr_features
from slidelearn.errors import ConfigError, DataError
from slidelearn.fitting import FitEvents, continue_model, fit_model
from slidelearn.metrics import hits
from slidelearn.model import Model
from slidelearn.model_file import load_model, save_model
from slidelearn.predicting import TopK
from slidelearn.targets import Target, name_classes, read_target, restore_classes
from slidelearn.workers import PIECE

__all__ = ["SlideClassifier"]

_DENSE_LIMIT = 2**26  # scores that a dense result may hold
_MOST_PREDICTED = 1000  # labels that `predict` looks at for an example
_FILL = {"i": -1, "u": 0, "f": np.nan, "U": "", "O": "", "b": False}


def _gives_probabilities(classifier: "SlideClassifier") -> bool:
    """Whether scores are logits; those of the hinge loss are not."""
    fitted = hasattr(classifier, "model_")
    settings = classifier.model_.config.to_dict() if fitted else classifier.config or {}
    if settings.get("loss") == "hinge":
        raise AttributeError("the hinge loss gives no probabilities, use decision_function")
    return True


class SlideClassifier(ClassifierMixin, BaseEstimator):
    """A network whose very wide output layer computes only the neurons that hash tables find.

    Parameters
    ----------
    hidden : int or sequence of int, optional
        Widths of the hidden layers.
    epochs : int, optional
        Passes over the data.
    batch_size : int, optional
        Examples per step.
    lr : float, optional
        Learning rate of the output layer.
    random_state : int, RandomState or None
        The same whole number gives the same model, bit for bit, whatever the number of threads.
    n_jobs : int, optional
        Threads; None or -1 for as many as the process may use.
    config : dict, optional
        Any other setting, by the names of `Config`; the parameters above win.
    verbose : int
        Above 0, every epoch is reported on stderr.

    A parameter that is None is chosen from the data by rules.

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
        The labels; sorted after `fit`, while those that later calls of `partial_fit` brought
        follow behind. For an indicator matrix the numbers of its columns.
    n_features_in_ : int
        Features.
    multilabel_ : bool
        False if Y was a class vector, one label for an example.
    model_ : Model
        The network with its settings.

    Examples
    --------
    >>> X = [[1.0, 0.0], [0.0, 1.0]]
    >>> classifier = SlideClassifier(epochs=1).fit(X, [["cat", "pet"], ["tree"]])
    >>> labels, scores = classifier.predict_topk(X, k=1)
    >>> labels[1, 0], scores.shape
    (np.str_('tree'), (2, 1))
    """

    def __init__(
        self,
        *,
        hidden: Any = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        lr: float | None = None,
        random_state: Any = 0,
        n_jobs: int | None = None,
        config: dict[str, Any] | None = None,
        verbose: int = 0,
    ) -> None:
        """Store the parameters."""
        self.hidden = hidden
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.config = config
        self.verbose = verbose

    def fit(self, X: Any, Y: Any) -> Self:
        """Train on examples X and their labels Y.

        Parameters
        ----------
        X : sparse matrix or array of shape (n, d)
            Features.
        Y : array, sparse matrix or list
            A class vector (n,); or a list of n label lists; or an indicator matrix (n, l), sparse
            or a two-dimensional array.

        Raises
        ------
        DataError
            If the data are malformed.
        ConfigError
            If a parameter is out of its range.
        """
        features = self._features(X, Y, reset=True)
        target = read_target(Y)
        self._check_lengths(features, target)
        data = self._dataset(features, target)
        self._keep(fit_model(data, self._overrides(), events=self._events()), target)
        return self

    def partial_fit(self, X: Any, Y: Any, classes: ArrayLike | None = None) -> Self:
        """Train one epoch on more examples, which may have labels never seen before.

        The examples join those that vote in predictions, each time that they are given: for several
        passes over the same data, call `fit` with more epochs.

        Parameters
        ----------
        X, Y
            As for `fit`, and Y in the form of the first call. New labels join ``classes_`` at its
            end; an indicator matrix brings them as further columns.
        classes : array, optional
            Labels to know from the first call on. They need not be complete.
        """
        first = not hasattr(self, "model_")
        features = self._features(X, Y, reset=first)
        known = (None if classes is None else np.unique(classes)) if first else self.classes_
        target = read_target(Y, known)
        self._check_lengths(features, target)
        data = self._dataset(features, target)
        if first:
            settings = {"schedule": "constant"} | self._overrides() | {"epochs": 1}
            model = fit_model(data, settings, events=self._events())
        else:
            if self.multilabel_ == (target.form == "vector"):
                raise DataError("Y changed between class vectors and sets of labels; use one form")
            model = continue_model(self.model_, data, epochs=1, events=self._events())
        self._keep(model, target)
        return self

    def predict(self, X: Any) -> Any:
        """Predict the labels of examples X (n, d).

        Returns
        -------
        array of shape (n,), or indicator matrix of shape (n, n_classes)
            The best class if Y was a class vector. Otherwise an indicator matrix, an array if Y was
            one and csr_matrix if not. With the softmax loss it holds the best label and all that
            are at least half as probable; with "bce" and "hinge" those with a score above 0.
        """
        check_is_fitted(self)
        features = self._features(X)
        if not self.multilabel_:
            return self.classes_[self._best(features, 1).labels[:, 0]]
        top = self._best(features, min(self._estimator_facts["most_labels"], len(self.classes_)))
        softmax = self.model_.config.loss == "softmax"
        least = top.scores[:, :1] - np.log(np.float32(2)) if softmax else np.float32(0)
        chosen = (top.labels >= 0) & (top.scores >= least)
        rows, places = np.nonzero(chosen)
        Y = csr_matrix(
            (np.ones(len(rows), np.int64), (rows, top.labels[rows, places])),
            shape=(features.shape[0], len(self.classes_)),
        )
        return Y.toarray() if self._estimator_facts["form"] == "dense" else Y

    def predict_topk(
        self, X: Any, k: int = 5, *, exact: bool = False, recall: float | None = None
    ) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Find the k best labels of every example X (n, d).

        Parameters
        ----------
        X : sparse matrix or array of shape (n, d)
            Features.
        k : int
            Labels per example.
        exact : bool
            Score every label; by default only those that the hash tables find, if there are any.
        recall : float, optional
            Share of the exact top k that a search must find: it goes as far as that takes, as
            measured after training, and scores every label if no search finds as much or k is
            above 20. By default 0.99, as far as a search finds as much, and more than 20 labels go
            in proportion further than these.

        Returns
        -------
        labels : array of shape (n, k)
            Best first.
        scores : float32 array of shape (n, k)
            Logits. Where there are fewer than k labels, or fewer were found, scores are -inf and
            labels -1, NaN or an empty string.
        """
        if not hasattr(self, "model_"):  # to ask scikit-learn takes 7 us
            check_is_fitted(self)
        if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
            raise ConfigError(f"k is {k!r}, choose a whole number of at least 1")
        top = self.model_.predict_topk(
            self._features(X), int(k), exact=exact, recall=recall, threads=self._jobs()
        )
        labels = self.classes_[np.maximum(top.labels, 0)]
        labels[top.labels < 0] = _FILL[labels.dtype.kind]
        return labels, top.scores

    def decision_function(self, X: Any) -> NDArray[np.float32]:
        """Logits of every label, a dense array (n, n_classes); (n,) for two classes of a vector.

        Raises
        ------
        DataError
            If the array would hold more than 67,108,864 scores; use `predict_topk` then.
        """
        scores = self._scores(X)
        if not self.multilabel_ and len(self.classes_) == 2:
            return scores[:, 1] - scores[:, 0]
        return scores

    @available_if(_gives_probabilities)
    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Probability of every label, a dense array (n, n_classes).

        With the softmax loss every row sums to 1, also if examples have several labels: it then is
        the share that a label has in the example's labels. With "bce" every label has a
        probability of its own; those of a class vector are scaled to the sum 1.

        Raises
        ------
        DataError
            If the array would hold more than 67,108,864 scores; use `predict_topk` then.
        """
        scores: NDArray[np.float64] = self._scores(X).astype(np.float64)
        if self.model_.config.loss == "softmax":
            scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        else:
            scores = 1 / (1 + np.exp(-np.clip(scores, -700, 700)))
            if self.multilabel_:
                return scores
        scores /= scores.sum(axis=1, keepdims=True)
        return scores

    def score(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> float:
        """Accuracy of `predict` for class vectors; P@1, as a share, for sets of labels."""
        check_is_fitted(self)
        if not self.multilabel_:
            return float(super().score(X, y, sample_weight))
        features = self._features(X)
        target = read_target(y, self.classes_)
        self._check_lengths(features, target)
        hit = hits(self._best(features, 1).labels, target.Y)[:, 0].astype(np.float64)
        weights = None if sample_weight is None else np.asarray(sample_weight)
        return float(np.average(hit, weights=weights))

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the model into a folder that `load` and the command line read.

        Raises
        ------
        ModelError
            If the folder cannot be written.
        """
        check_is_fitted(self)
        save_model(self.model_, folder)

    @classmethod
    def load(cls, folder: str | os.PathLike[str], *, verify: bool = True) -> Self:
        """Read a fitted classifier from a folder that `save` or the command line wrote.

        Its parameters are the settings that the model was trained with. Without ``verify`` the
        content of the files is trusted, and even a large model is there in some 10 ms.

        Raises
        ------
        ModelError
            If there is no model, or it is damaged or from a newer version.
        """
        model = load_model(folder, verify=verify)
        settings = model.config.to_dict()
        seed, threads = settings.pop("seed"), settings.pop("threads")
        classifier = cls(random_state=seed, n_jobs=threads or None, config=settings)
        classifier.model_ = model
        classifier._restore()
        return classifier

    def __sklearn_tags__(self) -> Tags:
        """Say what data are supported."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.classifier_tags.multi_label = True
        return tags

    @property
    def _estimator_facts(self) -> dict[str, Any]:
        """What the model folder keeps for the estimator; a run of the command line has none."""
        found: dict[str, Any] = self.model_.facts.get("estimator", {})
        return {"form": "sparse", "kind": "str", "most_labels": 10} | found

    def _features(self, X: Any, Y: Any = "no_validation", *, reset: bool = False) -> csr_matrix:
        """Canonical features, after scikit-learn's own checks where these add to ours."""
        if reset and Y is None:
            validate_data(self, X, None, accept_sparse="csr")  # says that y is required
        if not reset and issparse(X) and X.shape[0] and X.shape[1:] == (self.n_features_in_,):
            return as_csr_features(X)  # has no names to compare; more checks take 0.2 ms
        checked = validate_data(self, X, accept_sparse="csr", dtype="numeric", reset=reset)
        return as_csr_features(checked)

    @staticmethod
    def _check_lengths(X: csr_matrix, target: Target) -> None:
        if X.shape[0] != target.Y.shape[0]:
            raise DataError(
                f"X has {X.shape[0]} rows but Y has {target.Y.shape[0]}; give one row an example"
            )

    def _dataset(self, X: csr_matrix, target: Target) -> Dataset:
        names = getattr(self, "feature_names_in_", None)
        labels, _ = name_classes(target.classes)
        return Dataset(X, target.Y, labels, None if names is None else [str(n) for n in names])

    def _keep(self, model: Model, target: Target) -> None:
        """Keep a trained model with what the estimator must know about it."""
        before = model.facts.get("estimator", {})
        most = int(np.diff(target.Y.indptr).max(initial=1))
        model.facts["estimator"] = {
            "form": before.get("form", target.form),
            "kind": name_classes(target.classes)[1],
            "most_labels": max(min(most, _MOST_PREDICTED), before.get("most_labels", 1)),
        }
        self.model_ = model
        self.classes_ = target.classes
        self.multilabel_ = model.facts["estimator"]["form"] != "vector"

    def _restore(self) -> None:
        """Learn everything else from a model that was read from a folder."""
        model, facts = self.model_, self._estimator_facts
        self.classes_ = restore_classes(model.label_names, facts["kind"], model.network.n_labels)
        self.multilabel_ = facts["form"] != "vector"
        self.n_features_in_ = model.network.n_features
        if model.feature_names is not None:
            self.feature_names_in_ = np.array(model.feature_names, dtype=object)

    def _best(self, X: csr_matrix, k: int) -> TopK:
        """The k best labels; every label is scored for examples that retrieved nothing."""
        top = self.model_.predict_topk(X, k, threads=self._jobs())
        empty = np.flatnonzero(top.labels[:, 0] < 0)
        if len(empty):
            exact = self.model_.predict_topk(X[empty], k, exact=True, threads=self._jobs())
            top.labels[empty], top.scores[empty] = exact.labels, exact.scores
        return top

    def _scores(self, X: Any) -> NDArray[np.float32]:
        check_is_fitted(self)
        features = self._features(X)
        size = features.shape[0] * len(self.classes_)
        if size > _DENSE_LIMIT:
            raise DataError(
                f"{features.shape[0]} examples with {len(self.classes_)} labels have {size} scores,"
                f" more than {_DENSE_LIMIT}; use predict_topk, or fewer examples at a time"
            )
        # Empty rows fill the last piece: products then round a row alike in every batch.
        n = features.shape[0]
        padded = csr_matrix(features, copy=False)
        padded.resize(-(-n // PIECE) * PIECE, features.shape[1])
        return self.model_.scores(padded, threads=self._jobs())[:n]

    def _jobs(self) -> int:
        return 0 if self.n_jobs in (None, -1) else int(self.n_jobs)

    def _overrides(self) -> dict[str, Any]:
        """Settings that are not left to the rules, as plain values."""
        settings = dict(self.config or {})
        given = {"epochs": self.epochs, "batch_size": self.batch_size, "lr": self.lr}
        settings |= {name: _plain(value) for name, value in given.items() if value is not None}
        if self.hidden is not None:
            settings["hidden"] = [_plain(width) for width in np.atleast_1d(self.hidden)]
        seed = self.random_state
        if not isinstance(seed, (int, np.integer)):
            seed = check_random_state(seed).randint(2**31 - 1)
        return settings | {"seed": int(seed), "threads": self._jobs()}

    def _events(self) -> FitEvents:
        return FitEvents(on_epoch=_print_epoch) if self.verbose else FitEvents()


def _plain(value: Any) -> Any:
    """A NumPy scalar as a Python number."""
    return value.item() if isinstance(value, np.generic) else value


def _print_epoch(record: dict[str, Any]) -> None:
    print(
        f"epoch {record['epoch']}: loss {record['loss']:.4f}, {record['train_seconds']:.1f} s, "
        f"{record['examples_per_second']:.0f} examples/s",
        file=sys.stderr,
    )
