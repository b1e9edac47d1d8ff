"""Settings: the one home of defaults, their checks and the messages when they are out of range."""

import dataclasses
import math
import os
import tomllib
from dataclasses import dataclass, field
from typing import Any, Self

from slidelearn.errors import ConfigError
from slidelearn.hashing import FAMILIES
from slidelearn.tables import STRATEGIES

__all__ = ["LOSSES", "OPTIMIZERS", "Config", "TableConfig", "load_config"]

LOSSES = ("softmax", "bce", "hinge")
OPTIMIZERS = ("adagrad", "sgd", "adam")
SCHEDULES = ("cosine", "linear", "constant")


@dataclass(frozen=True)
class TableConfig:
    """How the active neurons of one hashed layer are found.

    The defaults are for layers of 10^4 neurons and more; `rules` sets ``n_buckets`` by the width.
    """

    family: str = "centroids"  # simhash, dwta, minhash or centroids
    k: int = 9  # hashes per table; centroids have one
    l: int = 1  # tables  # noqa: E741
    n_buckets: int | None = None  # centroids, each of which has several; None: sqrt(8 N)
    probes: int | None = None  # buckets looked into in every table while training; see `probed`
    limit: int = 8  # most neurons retrieved for an example while training; 0: no lookup then
    predict_probes: int | None = None  # buckets looked into in every table when predicting
    predict_limit: int = 512  # most neurons retrieved for an example when predicting
    predict_reach: float = 5.0  # how far a search goes; see `rank_buckets`
    predict_ranked: int = 10  # neurons that a search keeps by rows beside the tables, or 2k
    postings: int = 1024  # labels that the wide path files under each feature
    wide_cap: int = 128  # of these, the largest weights, as many as training reads
    predict_wide_cap: int = 420  # and predicting
    predict_wide_faint: float = 0.4  # of the heaviest label's weight; see `Depth`
    usual: int = 32  # labels of the largest biases, for examples that find few there
    wide_limit: int = 16  # most labels retrieved through them while training
    predict_wide_limit: int = 50  # and when predicting
    predict_logits: int = 60  # most neurons of an example whose logits predictions compute
    predict_scores: int = 20  # and that wide path and margins are asked about
    predict_slack: float = 3.0  # as long as no more are as much better; see `drop_hopeless`
    predict_head: int = 14  # most labels of the head whose logits predictions compute
    cap: int = 4096  # most neurons read from one bucket
    strategy: str = "vanilla"  # which of them are kept: vanilla, topk or threshold
    min_count: int = 2  # collisions that "threshold" asks for
    max_drift: float = 0.3  # share of moved neurons whose bucket changed that asks for new tables
    rebuild_every: int = 500  # steps until neurons are filed anew for the first time
    rebuild_decay: float = 0.5  # the time to the next time grows by exp(decay * times)

    def __post_init__(self) -> None:
        """Check the ranges."""
        _check_choice("family", self.family, tuple(FAMILIES))
        _check_choice("strategy", self.strategy, STRATEGIES)
        for field_ in dataclasses.fields(self):
            value = getattr(self, field_.name)
            if field_.type in ("int", int, "int | None", int | None) and value is not None:
                least = 0 if field_.name in ("limit", "usual") else 1
                _check_range(field_.name, value, least, 2**31 - 1)
        _check_range("rebuild_decay", self.rebuild_decay, 0, 10)
        _check_range("max_drift", self.max_drift, 0, 1)
        _check_range("predict_reach", self.predict_reach, 0, 1000)
        _check_range("predict_wide_faint", self.predict_wide_faint, 0, 1)
        _check_range("predict_slack", self.predict_slack, 0, 1000)

    def directions_for(self, n_neurons: int) -> int:
        """Centroids for a layer of so many neurons."""
        return min(n_neurons, self.n_buckets or math.ceil(math.sqrt(8 * n_neurons)))

    @property
    def probed(self) -> tuple[int, int]:
        """Buckets looked into in every table, in training and when predicting without a reach.

        Buckets of centroids are small. Training with 4 of them, 16 or 64 leads to the same.
        """
        usual = (16, 128) if self.family == "centroids" else (4, 4)
        return self.probes or usual[0], self.predict_probes or usual[1]


@dataclass(frozen=True)
class Config:
    """Everything that decides what a training run does.

    Attributes
    ----------
    hidden : tuple of int
        Widths of the hidden layers, first to last; at least one.
    hidden_tables : TableConfig or None
        If given, hidden layers are hashed: only retrieved neurons are computed. None: dense.
    tables : TableConfig
        How hard negatives, and candidates when predicting, are found in the output layer.
    tail : int
        Size m of the tail, drawn for every batch by how often labels occur, and shared by its
        examples. From ``n_labels`` on, every output neuron is active and
        the loss is exact.
    loss : {"softmax", "bce", "hinge"}
        On the strata; "hinge" is squared.
    optimizer : {"adagrad", "sgd", "adam"}
        Row-wise Adagrad, plain SGD, or Adam that touches active rows only.
    lr, hidden_lr, wide_lr : float
        Learning rates of the output layer, the hidden layers and the wide path.
    schedule : {"cosine", "linear", "constant"}
        How the learning rates fall over the run.
    lr_end : float
        Share of the learning rates that is left at the end of the run.
    weight_decay : float
        Share of a touched output row's weights that a step with learning rate 1 removes.
    negligible : float
        Gradient of the logit of a label or retrieved neuron below which that example does not
        train it. A third to three quarters of them are below 0.001, with half a percent of the sum.
    dropout, input_dropout : float
        Share of hidden activations and of input features that are dropped in training.
    temperature : float
        Length of an output neuron at the centroid start: the logit at a cosine of 1.
    doubt : float or None
        Labels with n examples start with n / (n + doubt) of ``temperature`` and of ``wide``. None:
        what suits the training data, as far as the wide path tells; below 1, ``wide`` doubles.
    start : {"centroid", "random"}
        Where output neurons start.
    prior : float
        Weight at the start of the logarithm of how often a label occurs.
    prior_lr : float
        Learning rate of what is added to that, alike for labels that occur about as often.
    wide : float
        Weight at the start of the sparse path from features straight to the labels they occur
        with, in logits at a cosine of 1. 0 switches the path off.
    neighbours : int
        Most training examples that vote for their labels in a prediction; 0 for none.
    vote : float
        What a label's logit gains if all votes are for it.
    twin : float or None
        What a label's logit loses where one of its training examples has a cosine of 1; at a cosine
        of c, the 8th power of c of that. None: what suits the training data, as far as the start
        tells.
    cooccurrence : float
        What a label's logit gains for each unit of the logarithm of 1 + 100 times its chance, as
        the company that it kept in the training examples has it; 0 for nothing.
    margin : float
        What a label's logit loses where the margin of its classifier is 0; 0 for no classifiers.
    margin_cost : float
        What a squared hinge of 1 costs in their fit, where half the squared length is the rest.
    rivals : int
        Labels that every example is a negative of in their fit: at most so many that training
        confused with its own, and as many that examples near it have.
    calibration : int
        Examples that training leaves out, on which ``vote``, ``twin``, ``margin`` and
        ``cooccurrence`` are chosen in the end; 0 keeps them as they are. Without votes, margins or
        tables none are left out.
    normalize : bool
        Scale every example's features to length 1.
    value_power : float or None
        Power that values of features are raised to before that: below 1, a word that a text has ten
        times counts less than ten words, and rare words less. None: what suits the training data.
    relevance, rarity : float or None
        Powers of what features are multiplied by then: of how much a feature says about labels, and
        of how rare it is; see `slidelearn.weighting`. None for both: what suits the training data.
    """

    hidden: tuple[int, ...] = (512,)
    hidden_tables: TableConfig | None = None
    tables: TableConfig = field(default_factory=TableConfig)
    tail: int = 300
    loss: str = "softmax"
    optimizer: str = "adagrad"
    epochs: int = 3
    batch_size: int = 256
    lr: float = 0.03
    hidden_lr: float = 0.03
    wide_lr: float = 3.0
    schedule: str = "cosine"
    lr_end: float = 0.4
    weight_decay: float = 0.0
    negligible: float = 0.001
    dropout: float = 0.5
    input_dropout: float = 0.0
    temperature: float = 7.0
    doubt: float | None = None
    start: str = "centroid"
    prior: float = 0.6
    prior_lr: float = 0.3
    wide: float = 30.0
    neighbours: int = 50
    vote: float = 1.5
    twin: float | None = None
    cooccurrence: float = 0.4
    margin: float = 1.0
    margin_cost: float = 0.5
    rivals: int = 15
    calibration: int = 0
    normalize: bool = True
    value_power: float | None = None
    relevance: float | None = None
    rarity: float | None = None
    seed: int = 0
    threads: int = 0  # 0: as many as the process may use

    def __post_init__(self) -> None:
        """Check the ranges."""
        object.__setattr__(self, "hidden", tuple(self.hidden))
        if not self.hidden:
            raise ConfigError("hidden is empty, give the width of at least one layer")
        for width in self.hidden:
            _check_range("hidden", width, 1, 2**24)
        if self.hidden_tables is not None:
            _check_range("hidden_tables.limit", self.hidden_tables.limit, 1, 2**31 - 1)
        _check_choice("loss", self.loss, LOSSES)
        _check_choice("optimizer", self.optimizer, OPTIMIZERS)
        _check_choice("schedule", self.schedule, SCHEDULES)
        _check_choice("start", self.start, ("centroid", "random"))
        for name in ("epochs", "batch_size"):
            _check_range(name, getattr(self, name), 1, 2**31 - 1)
        for name in ("tail", "neighbours", "rivals", "calibration", "seed", "threads"):
            _check_range(name, getattr(self, name), 0, 2**31 - 1)
        for name in (
            "lr",
            "hidden_lr",
            "wide_lr",
            "weight_decay",
            "negligible",
            "temperature",
            "prior",
            "prior_lr",
            "wide",
            "vote",
            "cooccurrence",
            "margin",
            "margin_cost",
        ):
            _check_range(name, getattr(self, name), 0, 1e6)
        for name in ("doubt", "twin"):
            _check_range(name, getattr(self, name) or 0, 0, 1e6)
        for name in ("relevance", "rarity"):
            _check_range(name, getattr(self, name) or 0, 0, 10)
        _check_range("value_power", 1 if self.value_power is None else self.value_power, 0, 10)
        for name in ("dropout", "input_dropout"):
            _check_range(name, getattr(self, name), 0, 0.99)
        _check_range("lr_end", self.lr_end, 0, 1)

    @property
    def n_threads(self) -> int:
        """Threads that the run uses."""
        if self.threads:
            return self.threads
        if hasattr(os, "sched_getaffinity"):
            return len(os.sched_getaffinity(0))
        return os.cpu_count() or 1

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold; `from_dict` restores them."""
        plain = dataclasses.asdict(self)
        plain["hidden"] = list(self.hidden)
        return plain

    @classmethod
    def from_dict(cls, values: dict[str, Any], base: "Config | None" = None) -> Self:
        """Make a Config from plain values; what they leave out comes from ``base``.

        Raises
        ------
        ConfigError
            If a name is unknown or a value is of the wrong type or out of its range.
        """
        start = base if base is not None else cls()
        return _replace(start, values, "")  # type: ignore[no-any-return]

    @property
    def n_rivals(self) -> int:
        """Rivals that training keeps of every example."""
        return self.rivals if self.margin else 0

    def calibrates(self, n_labels: int) -> bool:
        """Whether there are votes and margins to weigh, and tables to do so with."""
        return self.margin > 0 and self.neighbours > 0 and self.tail < n_labels

    @property
    def files_neurons(self) -> bool:
        """Whether the output layer has tables of its own, beside those of the wide path.

        Where training asks only the latter, predictions do too: with tables of the output layer
        and without, P@1, P@3 and P@5 are the same on commits and calls, and they took 6 % of the
        training time.
        """
        return self.wide == 0 or self.tables.limit > 0

    @property
    def starts_at_examples(self) -> bool:
        """Whether labels start where their examples are."""
        return self.start == "centroid" or self.wide > 0

    def learning_rate_factor(self, progress: float) -> float:
        """Share of the learning rate left when a run is ``progress`` (0 to 1) of the way."""
        if self.schedule == "constant":
            return 1.0
        left = 1.0 - min(max(progress, 0.0), 1.0)
        if self.schedule == "cosine":
            left = 0.5 * (1 - math.cos(math.pi * left))
        return self.lr_end + (1 - self.lr_end) * left


def load_config(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read overrides from a TOML file: the fields of `Config`, and tables for the nested ones.

    Raises
    ------
    ConfigError
        If the file cannot be read or is no TOML.
    """
    try:
        with open(path, "rb") as stream:
            return tomllib.load(stream)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a TOML file ({error})") from None


def _replace(config: Any, values: dict[str, Any], prefix: str) -> Any:
    """Copy a dataclass with some fields changed, each checked for its type."""
    known = {f.name: f for f in dataclasses.fields(config)}
    changes: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            raise ConfigError(f"{prefix}{name} is no setting, choose among {', '.join(known)}")
        changes[name] = _convert(f"{prefix}{name}", str(known[name].type), value, config, name)
    return dataclasses.replace(config, **changes)


def _convert(label: str, kind: str, value: Any, config: Any, name: str) -> Any:
    """Check one plain value against the type of its field."""
    if "TableConfig" in kind:
        if value is None and "None" in kind:
            return None
        if not isinstance(value, dict):
            raise ConfigError(f"{label} is {value!r}, give a table of settings")
        return _replace(getattr(config, name) or TableConfig(), value, f"{label}.")
    kind = kind.replace("<class '", "").replace("'>", "")
    accepted: tuple[type, ...] = {
        "int": (int,), "float": (float, int), "str": (str,), "bool": (bool,),
        "int | None": (int, type(None)), "float | None": (float, int, type(None)),
        "tuple[int, ...]": (list, tuple),
    }.get(kind, ())  # fmt: skip
    wrong = not isinstance(value, accepted) or (isinstance(value, bool) and bool not in accepted)
    if not wrong and isinstance(value, list | tuple):
        wrong = not all(isinstance(item, int) and not isinstance(item, bool) for item in value)
    if wrong:
        wanted = "a list of whole numbers" if "tuple" in kind else f"a value of type {kind}"
        raise ConfigError(f"{label} is {value!r}, give {wanted}")
    return value


def _check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"{name} is {value!r}, choose one of {', '.join(choices)}")


def _check_range(name: str, value: Any, low: float, high: float) -> None:
    if not low <= value <= high:  # also refuses NaN
        raise ConfigError(f"{name} is {value}, choose a value from {low:g} to {high:g}")
