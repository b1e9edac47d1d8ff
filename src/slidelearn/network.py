"""The network: layers in order, how a batch flows through them, and what one step changes."""

from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from slidelearn.coarse_rows import NO_COARSE, CoarseRows, make_coarse
from slidelearn.config import Config
from slidelearn.head import NO_HEAD, Head, make_head
from slidelearn.hidden import Hidden, activate
from slidelearn.index import Lookup, NeuronIndex
from slidelearn.layers import Layer, Pairs, make_layer, pair_logits
from slidelearn.margins import Margins
from slidelearn.memory import Memory, Worth
from slidelearn.postings import (
    WHOLE,
    Depth,
    Found,
    Postings,
    best_labels,
    make_postings,
    refile_postings,
)
from slidelearn.ranks import NO_RANKS, Ranks, make_ranks
from slidelearn.rows import BIAS_INPUT, Rows, dense_rows, product
from slidelearn.sampling import unite
from slidelearn.scoring import Known, Neurons, Sparse, plain
from slidelearn.scratch import zeros
from slidelearn.small_rows import small_product
from slidelearn.wide import Wide
from slidelearn.workers import Workers

__all__ = [
    "UNWEIGHTED",
    "Network",
    "Trace",
    "find_labels",
    "hidden_rows",
    "make_network",
    "ranks_beside",
    "retrieve_labels",
    "with_coarse",
    "with_head",
    "with_postings",
    "with_ranks",
]


UNWEIGHTED = np.empty(0, np.float32)  # weights of features that are all alike
_NO_POSTINGS = Postings(
    np.empty(0, np.int64), np.empty(0, np.int32), UNWEIGHTED, UNWEIGHTED, np.empty(0, np.int32)
)


class _Parts(NamedTuple):
    """What a `Network` consists of; an instance of that holds views of it, too."""

    hidden: tuple[Layer, ...]
    mean: NDArray[np.float32]
    output: Layer
    wide: Wide | None
    indexes: tuple[NeuronIndex | None, ...]
    postings: Postings | None = None
    memory: Memory | None = None
    margins: Margins | None = None
    feature_weights: NDArray[np.float32] = UNWEIGHTED
    ranks: Ranks = NO_RANKS
    coarse: CoarseRows = NO_COARSE
    head: Head = NO_HEAD


class Network(_Parts):
    """Everything that is learned.

    Attributes
    ----------
    hidden : tuple of Layer
        Hidden layers with ReLU, first to last.
    mean : float32 array of shape (width,)
        Subtracted from the last hidden activations: the part that all examples share would carry
        noise from one label to all. Zeros if that layer is hashed, since it would make it dense.
    output : Layer
        The hashed output layer; its neurons are the labels.
    wide : Wide or None
        The sparse path from features straight to labels.
    indexes : tuple of NeuronIndex or None
        Hash tables of each hidden layer, then of the output layer; None where a layer is dense
        or every neuron is active.
    postings : Postings or None
        The wide path's own tables, beside those of the output layer.
    memory : Memory or None
        Training examples that vote for their labels in predictions.
    margins : Margins or None
        A classifier of each label, which speaks against it in predictions.
    feature_weights : float32 array of shape (n_features,) or (0,)
        What features are multiplied by before an example is scaled to length 1; (0,) for nothing.
    ranks : Ranks
        Where the wide path has the features of its longest lists, unless the head has all of these.
    coarse : CoarseRows
        The output layer once more, for searches to rank what they find; they do without while it
        moves.
    head : Head
        What wide path and margins weigh once more, for the labels of most features, by feature.
    """

    @property
    def n_features(self) -> int:
        """Width of the input."""
        return self.hidden[0].n_in

    @property
    def n_labels(self) -> int:
        """Width of the output."""
        return self.output.n_out

    def __getstate__(self) -> None:
        """Leave what is made once out of pickles and copies, whose arrays are others."""

    @property
    def strengths(self) -> tuple[Worth, float]:
        """How much votes, twins and margins weigh in predictions."""
        memory, margins = self.memory, self.margins
        return (
            Worth(0.0, 0.0) if memory is None else memory.worth,
            0.0 if margins is None else margins.strength,
        )

    @property
    def simple(self) -> bool:
        """Whether its hidden layer can be computed by the kernel that scores what it finds."""
        return len(self.hidden) == 1 and not self.hidden[0].hashed

    @property
    def searches_postings(self) -> bool:
        """Whether the wide path's tables alone say which neurons are scored when predicting."""
        index = self.indexes[-1]
        return index is not None and index.tables is None and self.postings is not None

    @cached_property
    def room(self) -> int:
        """Numbers of scratch that kernels need for an example."""
        votes = 0 if self.memory is None else self.memory.room
        return max(self.n_features, self.n_labels, votes)

    @cached_property
    def known(self) -> tuple[Any, ...]:
        """What it knows that speaks in predictions: `Known`, as plain tuples for a kernel."""
        layer, output = self.hidden[0], self.output
        hidden = Hidden(layer.weight, layer.small, self.mean) if self.simple else None
        neurons = Neurons(output.weight, output.small, self.coarse)
        postings = self.postings or _NO_POSTINGS
        sparse = self._sparse_scores()
        known = Known(hidden, postings, self.memory, neurons, sparse, self.head, *self.strengths)
        return tuple(plain(known))

    def _sparse_scores(self) -> Sparse | None:
        """What wide path and margins weigh, as far as the network has them."""
        wide, margins = self.wide, self.margins
        if margins is not None:
            weights = UNWEIGHTED if wide is None else wide.weights
            return Sparse(margins.path, weights, margins.bias, self.ranks)
        if wide is None:
            return None
        return Sparse(wide._replace(weights=UNWEIGHTED), wide.weights, UNWEIGHTED, self.ranks)


class Trace(NamedTuple):
    """What one hidden layer saw and did on a piece of a batch, for the way back.

    Attributes
    ----------
    x : Rows
        Its input.
    pairs : Pairs or None
        The neurons it computed; None for all.
    z : float32 array of shape (n, n_out), or (n_pairs,)
        What the activation was computed from.
    gate : float32 array of shape (n, n_out), or (n_pairs,)
        Derivative of its activation, dropout included.
    """

    x: Rows
    pairs: Pairs | None
    z: NDArray[np.float32]
    gate: NDArray[np.float32]


def make_network(
    config: Config, n_features: int, n_labels: int, rng: np.random.Generator
) -> Network:
    """Make a network with random hidden layers and output neurons at zero, not yet indexed.

    Hidden weights have variance 2 / fan-out on the first layer, so that an example of length 1 has
    activations of length about 1 whatever the width; variance 2 / fan-in follows.
    """
    widths = (n_features, *config.hidden)
    hashed = config.hidden_tables is not None
    hidden, indexes = [], []
    for depth, (n_in, n_out) in enumerate(pairwise(widths)):
        scale = np.sqrt(2 / (n_out if depth == 0 else n_in))
        hidden.append(
            make_layer(n_in, n_out, hashed=hashed, optimizer=config.optimizer, scale=scale, rng=rng)
        )
        indexes.append(
            NeuronIndex(config.hidden_tables, config.seed + depth + 1)
            if config.hidden_tables is not None
            else None
        )
    scale = config.temperature / np.sqrt(widths[-1]) if config.start == "random" else 0.0
    output = make_layer(
        widths[-1], n_labels, hashed=True, optimizer=config.optimizer, scale=scale, rng=rng
    )
    searched = config.tail < n_labels
    indexes.append(NeuronIndex(config.tables, config.seed) if searched else None)
    mean = np.zeros(widths[-1], np.float32)
    return Network(tuple(hidden), mean, output, None, tuple(indexes))


def hidden_rows(
    network: Network,
    x: Rows,
    *,
    first_example: int | None = None,
    dropout: float = 0.0,
    rng: np.random.Generator | None = None,
    traces: list[Trace] | None = None,
) -> Rows:
    """Run the hidden layers on a piece of examples; hashed ones compute retrieved neurons only.

    Without dropout and traces, the way of predictions, a dense layer leaves only its activations.
    """
    for layer, index in zip(network.hidden, network.indexes, strict=False):
        if layer.hashed:
            assert index is not None
            pairs = unite((index.lookup(x, index.train_size, first_example),))  # ascending
            after, z, gate = _hashed_forward(layer, x, pairs, dropout, rng)
        elif dropout == 0 and traces is None:
            x = dense_rows(activate(_dense_product(layer, x)))
            continue
        else:
            pairs = None
            after, z, gate = _dense_forward(layer, x, dropout, rng)
        if traces is not None:
            traces.append(Trace(x, pairs, z, gate))
        x = after
    if x.dense:
        x.matrix()[:, :-1] -= network.mean
    return x


def with_postings(network: Network, features: NDArray[np.bool_] | None = None) -> Network:
    """Return the network with tables over its wide path as it is now, if there is one.

    If only weights of some ``features``, (n_features,), are new since it got those that it has,
    the others are kept.
    """
    index, wide = network.indexes[-1], network.wide
    if wide is None or index is None:
        return network
    bias = BIAS_INPUT * network.output.bias
    size, n_usual = index.config.postings, index.config.usual
    if features is None or network.postings is None:
        postings = make_postings(wide, network.n_features, size, bias, n_usual=n_usual)
    else:
        postings = refile_postings(network.postings, wide, features, size, bias, n_usual=n_usual)
    return network._replace(postings=postings)


def with_ranks(network: Network) -> Network:
    """Return the network with ranks over its wide path, if there is one with long lists."""
    wide = network.wide
    if wide is None:
        return network
    return network._replace(ranks=make_ranks(wide.indptr, wide.features, network.n_features))


def with_coarse(network: Network, workers: Workers) -> Network:
    """Return the network with coarse rows of its output layer as it is now.

    Networks whose last hidden layer is hashed get none: of sparse vectors the rows are quicker.
    """
    if network.hidden[-1].hashed:
        return network
    return network._replace(coarse=make_coarse(network.output.weight, workers))


def with_head(network: Network) -> Network:
    """Return the network with the head of its wide path and margins as they are now.

    It is asked by searches that rank by coarse rows, so there is none without. Ranks that
    nobody asks for beside it go.
    """
    wide, margins = network.wide, network.margins
    if wide is None or not len(network.coarse.scales):
        return network
    path, bias = (None, UNWEIGHTED) if margins is None else (margins.path, margins.bias)
    biases = BIAS_INPUT * network.output.bias, bias
    head = make_head(wide, path, biases, network.n_features, network.output.n_in)
    return network._replace(head=head, ranks=ranks_beside(head, network.ranks))


def ranks_beside(head: Head, ranks: Ranks) -> Ranks:
    """What predictions need of ranks: none of them if the head has the labels of all long lists."""
    return NO_RANKS if len(head.labels) == len(ranks.words) else ranks


def find_labels(
    network: Network, x: Rows, h: Rows, size: Lookup, first_example: int | None = None
) -> tuple[Found, Pairs]:
    """Find output neurons by inputs x in the postings, and more by hidden vectors h in the index.

    Postings leave out the head, which whoever has one scores anyway.
    The index is asked, if it has tables, where postings found fewer neurons than it may find.
    Where they found as many, it added none that was among the best: P@1 to P@5 and PSP@5 of
    predictions were the same to 0.01 on commits, calls and sessions, in 0.7 to 0.9 of the time for
    one example.
    """
    index, postings = network.indexes[-1], network.postings
    assert index is not None
    if postings is None:
        none = Pairs(np.zeros(h.n + 1, np.int64), np.empty(0, np.int32))
        found = Found(none, np.empty(0, np.float32))
    else:
        scratch = zeros(network.n_labels)
        depth = Depth(size.wide_cap, size.wide_faint, size.few, WHOLE.left)
        hidden = network.head.labels
        found = best_labels(x, postings, size.wide_limit, x.width, scratch, depth, hidden)
    indptr, neurons = np.zeros(h.n + 1, np.int64), np.empty(0, np.int32)
    if index.tables is None:
        return found, Pairs(indptr, neurons)
    few = np.flatnonzero(np.diff(found.pairs.indptr) < size.limit)
    if len(few):
        more = index.lookup(h if len(few) == h.n else h.take(few), size, first_example)
        indptr[few + 1], neurons = np.diff(more.indptr), more.neurons
        np.cumsum(indptr, out=indptr)
    return found, Pairs(indptr, neurons)


def retrieve_labels(
    network: Network, x: Rows, h: Rows, size: Lookup, first_example: int | None = None
) -> Pairs:
    """Find output neurons as `find_labels` does, ascending in an example."""
    found, more = find_labels(network, x, h, size, first_example)
    return unite((found.pairs, more))


def _dense_forward(
    layer: Layer, x: Rows, dropout: float, rng: np.random.Generator | None
) -> tuple[Rows, NDArray[np.float32], NDArray[np.float32]]:
    """All neurons of a layer with ReLU: activations with the constant column, z and gate."""
    z = _dense_product(layer, x)
    gate = _gate(z, dropout, rng)
    after = np.empty((x.n, layer.n_out + 1), np.float32)
    np.multiply(z, gate, out=after[:, :-1])
    after[:, -1] = BIAS_INPUT
    return dense_rows(after), z, gate


def _dense_product(layer: Layer, x: Rows) -> NDArray[np.float32]:
    """What activations are computed from, (n, n_out)."""
    if layer.small is None:
        return product(x, layer.weight)
    z = np.empty((x.n, layer.n_out), np.float32)
    small_product(x, layer.small, z)
    return z


def _hashed_forward(
    layer: Layer, x: Rows, pairs: Pairs, dropout: float, rng: np.random.Generator | None
) -> tuple[Rows, NDArray[np.float32], NDArray[np.float32]]:
    """The retrieved neurons of a layer with ReLU: sparse activations, z and gate."""
    z = np.empty(len(pairs.neurons), np.float32)
    pair_logits(x, layer.weight, pairs, z)
    gate = _gate(z, dropout, rng)
    return Rows(pairs.indptr, pairs.neurons, z * gate, layer.n_out, False), z, gate


def _gate(
    z: NDArray[np.float32], dropout: float, rng: np.random.Generator | None
) -> NDArray[np.float32]:
    """1 where ReLU passes, 0 where it does not or dropout falls; scaled to keep the mean."""
    gate = (z > 0).astype(np.float32)
    if dropout and rng is not None:
        gate *= rng.random(z.shape, dtype=np.float32) >= dropout
        gate *= np.float32(1 / (1 - dropout))
    return gate
