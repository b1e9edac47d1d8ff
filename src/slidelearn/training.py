"""Training: epochs of steps, rebuilds of the index, and what is measured on the way."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from slidelearn.calibration import choose_strengths, with_strengths
from slidelearn.coarse_rows import NO_COARSE
from slidelearn.config import Config
from slidelearn.csr import count_ids, slice_rows, take_rows
from slidelearn.head import NO_HEAD
from slidelearn.index import Schedule
from slidelearn.margins import fit_margins, make_margins
from slidelearn.memory import Memory, Worth, make_memory
from slidelearn.network import (
    UNWEIGHTED,
    Network,
    hidden_rows,
    make_network,
    with_coarse,
    with_head,
    with_postings,
    with_ranks,
)
from slidelearn.prior import Prior, fold_prior, make_prior
from slidelearn.rivals import by_rival, find_rivals
from slidelearn.rows import Rows, sparse_rows
from slidelearn.sampling import draw_tail, tail_chances
from slidelearn.start import OwnShare, centre_hidden, start_network
from slidelearn.step import train_step
from slidelearn.trimming import trim_memory
from slidelearn.wide import make_wide
from slidelearn.workers import Workers

__all__ = ["EpochReport", "Progress", "Trainer"]

_QUERIES = 2048  # examples that hash tables are centred on


class Progress(NamedTuple):
    """Where a run is, for whoever shows it."""

    epoch: int
    done: int  # examples of this epoch
    total: int
    loss: float  # mean since the epoch began
    examples_per_second: float


class EpochSums(NamedTuple):
    """What the steps of an epoch so far did: examples, and sums over them.

    ``active`` is an int64 array of shape (n_layers,): neurons that examples computed.
    """

    done: int
    loss: float
    active: NDArray[np.int64]


class EpochReport(NamedTuple):
    """What one epoch did.

    Attributes
    ----------
    epoch : int
        Counted from 1.
    train_seconds : float
        Wall time of all epochs so far, with starts and rebuilds; without validation.
    index_seconds : float
        The part of it that went into building and rebuilding tables.
    examples_per_second : float
        In this epoch.
    loss : float
        Mean over this epoch's examples.
    active_share : tuple of float
        Share of each layer's neurons that an example computed, on average. The shared tail
        counts, shared though it is.
    """

    epoch: int
    train_seconds: float
    index_seconds: float
    examples_per_second: float
    loss: float
    active_share: tuple[float, ...]


@dataclass
class Trainer:
    """A training run: its settings, its network and how far it is.

    Attributes
    ----------
    config : Config
        The settings.
    network : Network
        What is being learned.
    own : OwnShare, optional
        What the start holds of the training examples themselves.
    prior : Prior, optional
        Biases by how often labels occur; of a run that began with these examples.
    features : bool array of shape (n_features,), optional
        Those of the examples, of a run that goes on with a trained network: only weights on them
        are new to the postings that it has.
    epoch, step : int
        Epochs and steps done.
    seconds, index_seconds : float
        Wall time spent training, and in the index.
    time_limit : float
        Seconds by which the learning rate has fallen, if the epochs are not done before.
    sums : EpochSums or None
        Of the epoch that has begun; None between epochs.
    rivals : int32 array of shape (n_examples, n_rivals) or None
        What training has confused every example with, once an epoch has begun.
    moved : list of bool arrays
        Which neurons of each layer have moved since they were filed.
    """

    config: Config
    network: Network
    own: OwnShare | None = None
    prior: Prior | None = None
    features: NDArray[np.bool_] | None = None
    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    index_seconds: float = 0.0
    time_limit: float = math.inf
    sums: EpochSums | None = None
    rivals: NDArray[np.int32] | None = None
    moved: list[NDArray[np.bool_]] = field(init=False)

    def __post_init__(self) -> None:
        """Begin with all neurons where the tables have them."""
        layers = (*self.network.hidden, self.network.output)
        self.moved = [np.zeros(layer.n_out, np.bool_) for layer in layers]

    @classmethod
    def start(
        cls,
        config: Config,
        X: csr_matrix,
        Y: csr_matrix,
        workers: Workers,
        feature_weights: NDArray[np.float32] = UNWEIGHTED,
    ) -> "Trainer":
        """Make a network for the data and give it its start: centroids, wide path, tables.

        The examples X (n, d) are weighted already.
        """
        began = time.perf_counter()
        rng = np.random.default_rng(config.seed)
        network = make_network(config, X.shape[1], Y.shape[1], rng)
        trainer = cls(config, network)
        for depth in range(len(network.hidden)):
            trainer.fit_index(depth, X, workers)
        network = centre_hidden(network, take_rows(X, trainer._sample(X, len(network.hidden))))

        def remember() -> Memory | None:
            if not config.neighbours:
                return None
            return make_memory(
                X,
                Y,
                limit=config.neighbours,
                worth=Worth.of(config),
                cooccurrence=config.cooccurrence,
            )

        memory = workers.submit(remember)
        network, trainer.own = start_network(network, config, X, Y, workers)
        trainer.network = network._replace(memory=memory.result(), feature_weights=feature_weights)
        counts = count_ids(Y.indices, Y.shape[1])
        trainer.prior = make_prior(counts, own=int(config.starts_at_examples))
        trainer.make_tables(X, workers)
        trainer.seconds = time.perf_counter() - began
        return trainer

    def run_epoch(
        self,
        X: csr_matrix,
        Y: csr_matrix,
        workers: Workers,
        show: Callable[[Progress], None] | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> EpochReport:
        """Train one epoch, or what is left of it; ``stop`` may end it early.

        The seed decides the order of the examples.
        """
        began, n = time.perf_counter(), X.shape[0]
        size = self.config.batch_size
        order = np.random.default_rng((self.config.seed, self.epoch, 2)).permutation(n)
        total = self.config.epochs * -(-n // size)
        schedules = self._schedules()
        counts = count_ids(Y.indices, Y.shape[1])
        chances = tail_chances(counts, self.config.tail)
        if self.rivals is None:
            self.rivals = np.full((n, self.config.n_rivals), -1, np.int32)
        if self.sums is None:
            self.sums = EpochSums(0, 0.0, np.zeros(len(self.network.hidden) + 1, np.int64))
        before = self.sums.done
        for first in range(before, n, size):
            rows = order[first : first + size]
            elapsed = self.seconds + time.perf_counter() - began
            progress = max(self.step / total, elapsed / self.time_limit)
            factor = self.config.learning_rate_factor(progress)
            report = train_step(
                self.network, self.config, take_rows(X, rows), take_rows(Y, rows),
                number=self.step, lr_factor=factor, workers=workers,
                own=self.own, prior=self.prior,
                tail=draw_tail(chances, np.random.default_rng((self.config.seed, self.step))),
            )  # fmt: skip
            self.step += 1
            self.rivals[rows] = report.rivals
            done, loss, active = self.sums
            self.sums = EpochSums(done + len(rows), loss + report.loss, active + report.active)
            for depth, schedule in enumerate(schedules):
                if schedule is not None:
                    self.moved[depth][report.moved[depth]] = True
                    if schedule.is_due(self.step):
                        self.refresh_index(depth, X, workers)
            if show is not None:
                speed = (self.sums.done - before) / (time.perf_counter() - began)
                mean = self.sums.loss / self.sums.done
                show(Progress(self.epoch + 1, self.sums.done, n, mean, speed))
            if stop is not None and stop():
                break
        self._fold_prior()
        self.epoch += 1
        seconds = time.perf_counter() - began
        self.seconds += seconds
        return self._report((self.sums.done - before) / max(seconds, 1e-9))

    def _report(self, examples_per_second: float) -> EpochReport:
        """End an epoch: what it did."""
        assert self.sums is not None
        done, loss, active = self.sums
        self.sums = None
        widths = [*(layer.n_out for layer in self.network.hidden), self.network.n_labels]
        share = tuple(float(a / max(done * w, 1)) for a, w in zip(active, widths, strict=True))
        mean = loss / max(done, 1)
        return EpochReport(
            self.epoch, self.seconds, self.index_seconds, examples_per_second, mean, share
        )

    def make_tables(self, X: csr_matrix, workers: Workers) -> None:
        """Make what training finds labels by: tables, if missing, postings, and ranks."""
        index = self.network.indexes[-1]
        if index is not None:
            index.drop_rows()  # which would not follow
        self.network = with_ranks(self.network._replace(coarse=NO_COARSE, head=NO_HEAD))
        if index is not None and index.trains and index.tables is None:
            self.fit_index(len(self.network.hidden), X, workers)
        else:
            self.network = with_postings(self.network, self.features)

    def fit_margins(self, X: csr_matrix, Y: csr_matrix, workers: Workers) -> None:
        """Fit the labels' classifiers to what training confused, and what near examples have."""
        config, network = self.config, self.network
        if not config.margin or self.rivals is None:
            return
        began = time.perf_counter()
        found = [self.rivals]
        if network.memory is not None:
            found.append(find_rivals(network.memory, X, Y, config.n_rivals, workers))
        rivals = by_rival(found, Y.shape[1])
        del found
        self.rivals = None
        trim_memory()
        margins = network.margins
        if margins is None:
            path = make_wide(X, Y, 0.0)[0] if network.wide is None else network.wide
            margins = make_margins(path, config.margin)
        fit_margins(
            margins, X, Y, rivals, cost=config.margin_cost, seed=config.seed, workers=workers
        )
        self.network = network._replace(margins=margins)  # never some that are fitted by half
        self.seconds += time.perf_counter() - began

    def calibrate(self, X: csr_matrix, Y: csr_matrix, first: int, workers: Workers) -> None:
        """Choose what predictions weigh on examples that training had not: those from ``first`` on.

        The choice becomes a part of the settings and the biases, and all examples vote.
        """
        network, began = self.network, time.perf_counter()
        trim_memory()
        memory = network.memory
        assert memory is not None
        counts = count_ids(memory.labels.neurons, network.n_labels)
        together = self.config.cooccurrence
        whole = workers.submit(
            lambda: make_memory(X, Y, limit=memory.limit, worth=memory.worth, cooccurrence=together)
        )
        held_X, held_Y = (slice_rows(part, first, part.shape[0]) for part in (X, Y))
        chosen = choose_strengths(network, counts, held_X, held_Y, workers)
        self.config = replace(
            self.config,
            vote=chosen.vote,
            twin=chosen.twin,
            margin=chosen.margin,
            cooccurrence=chosen.cooccurrence,
        )
        network = network._replace(memory=whole.result())
        self.network = with_strengths(network, chosen, counts)
        self.seconds += time.perf_counter() - began

    @property
    def tables_follow(self) -> bool:
        """Whether training looks into all tables, and keeps them in step with the neurons.

        If the wide path's tables alone find the hard negatives, those of the output layer are made
        for predictions, by `fit_index`.
        """
        return all(index is None or index.trains for index in self.network.indexes)

    def _schedules(self) -> list[Schedule | None]:
        """Rebuild schedules of every layer, as they stand after the steps so far."""
        schedules: list[Schedule | None] = []
        for index in self.network.indexes:
            if index is None:
                schedules.append(None)
                continue
            schedule = Schedule(index.config.rebuild_every, index.config.rebuild_decay)
            while schedule.due <= self.step:
                schedule.is_due(int(np.ceil(schedule.due)))
            schedules.append(schedule)
        return schedules

    def refresh_index(self, depth: int, X: csr_matrix, workers: Workers) -> None:
        """File the neurons of a layer that have moved; make new tables if they went far."""
        index, weight = self.network.indexes[depth], self._weight(depth)
        assert index is not None
        began = time.perf_counter()
        self._fold_prior()
        moved = np.flatnonzero(self.moved[depth])
        if index.trains and index.drift(weight, moved, workers) > index.config.max_drift:
            index.fit(weight, self._queries(depth, X), workers)
        elif index.trains:
            index.refile(weight, moved, workers)
        self._finish_index(depth, began)

    def _fold_prior(self) -> None:
        """Let the network hold all that was learned."""
        if self.prior is not None:
            fold_prior(self.prior, self.network.output.weight)

    def _finish_index(self, depth: int, began: float) -> None:
        """File the wide path's labels with those of the output layer; count the time."""
        if depth == len(self.network.hidden):
            self.network = with_postings(self.network, self.features)
        self.moved[depth][:] = False
        self.index_seconds += time.perf_counter() - began

    def fit_index(self, depth: int, X: csr_matrix, workers: Workers) -> None:
        """Make the tables of a layer anew, with the hash family and the centring.

        Both follow the data, and hidden vectors move: tables that kept the centring of the
        start found 89 % of the digits that freshly centred ones found 93 % of.
        """
        self._fold_prior()
        index = self.network.indexes[depth]
        if index is None:
            return
        began = time.perf_counter()
        if depth < len(self.network.hidden) or self.config.files_neurons:
            index.fit(self._weight(depth), self._queries(depth, X), workers)
            trim_memory()
        self._finish_index(depth, began)

    def keep_rows(self, workers: Workers) -> None:
        """Let predictions rank by small rows, in the tables where these are asked first.

        Otherwise by coarse ones, and the head gets its own weights.
        """
        index, began = self.network.indexes[-1], time.perf_counter()
        if index is None:
            return
        if self.network.postings is None:
            index.keep_rows(self.network.output.weight)
        else:
            self.network = with_head(with_coarse(self.network, workers))
        self.seconds += time.perf_counter() - began

    def _queries(self, depth: int, X: csr_matrix) -> Rows:
        """What a sample of the examples sends to a layer."""
        X = take_rows(X, self._sample(X, depth))
        if depth == len(self.network.hidden):
            return hidden_rows(self.network, sparse_rows(X))
        mean = np.zeros(1, np.float32)
        below = self.network._replace(hidden=self.network.hidden[:depth], mean=mean)
        return hidden_rows(below, sparse_rows(X))

    def _sample(self, X: csr_matrix, depth: int) -> np.ndarray:
        """Rows of the examples that tell what reaches a layer."""
        rng = np.random.default_rng((self.config.seed, depth, 3))
        return np.sort(rng.permutation(X.shape[0])[:_QUERIES])

    def _weight(self, depth: int) -> np.ndarray:
        layers = (*self.network.hidden, self.network.output)
        return layers[depth].weight
