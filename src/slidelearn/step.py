"""One training step: pieces of a batch forward and back, then every touched row moves once."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from slidelearn.config import Config
from slidelearn.csr import keep_entries
from slidelearn.layers import (
    Groups,
    Layer,
    Pairs,
    group_entries,
    keep_pairs,
    pair_input_gradient,
    pair_logits,
    pairs_of,
    update_rows,
)
from slidelearn.losses import LOSS_KINDS, Strata, stratified_loss
from slidelearn.network import Network, Trace, hidden_rows, retrieve_labels
from slidelearn.optimizers import Step
from slidelearn.prior import Prior, add_prior, move_prior, pair_classes, prior_gradient
from slidelearn.rivals import keep_rivals
from slidelearn.rows import (
    BIAS_INPUT,
    Rows,
    concatenate_indptr,
    concatenate_rows,
    dense_rows,
    input_gradient,
    product,
    sparse_rows,
    weight_gradient,
)
from slidelearn.sampling import Tail, join_strata
from slidelearn.scratch import zeros
from slidelearn.start import OwnShare, leave_out, own_lengths
from slidelearn.wide import (
    Hits,
    Wide,
    add_pair_scores,
    concatenate_hits,
    find_hits,
    move_wide,
    take_hits,
)
from slidelearn.wide_block import (
    Columns,
    Met,
    add_met_scores,
    block_size,
    columns_of,
    meet_block,
    move_met,
)
from slidelearn.workers import Workers, pieces

__all__ = ["StepReport", "train_step"]

_SHARED_ROWS = 128  # rows of the shared gradient that one task computes
_NO_IDS = np.empty(0, np.int32)


class StepReport(NamedTuple):
    """What one step did.

    Attributes
    ----------
    loss : float
        Summed over the batch.
    n_examples : int
        Examples in the batch.
    active : int64 array of shape (n_layers,)
        Neurons computed in each layer, summed over the batch; the shared tail included.
    moved : list of int32 array, or None
        The neurons of each neuron-major layer that moved, ascending.
    rivals : int32 array of shape (n_examples, r)
        Wrong neurons of largest logits, -1 where there are fewer.
    """

    loss: float
    n_examples: int
    active: NDArray[np.int64]
    moved: list[NDArray[np.int32] | None]
    rivals: NDArray[np.int32]


class _Part(NamedTuple):
    """What a piece of the batch did to one layer.

    ``delta`` is the gradient of what the layer computed: (n, n_out), or (n_pairs,) with pairs.
    """

    x: Rows
    pairs: Pairs | None
    delta: NDArray[np.float32]


class _Batch(NamedTuple):
    """A batch of n examples, and what its pieces share."""

    x: Rows  # features that dropout left in
    labels: Pairs
    place: int  # number of its first example
    tail: Tail
    tail_weight: NDArray[np.float32]  # (width + 1, m), of the output layer
    wide_tail: "_WideTail | None"
    own: OwnShare | None
    prior: Prior | None


class _WideTail(NamedTuple):
    """The shared tail on the wide path: scores (n, m), and which weights each block met."""

    columns: Columns
    scores: NDArray[np.float32]
    size: int  # labels of a block
    blocks: list[Met]


class _Piece(NamedTuple):
    """A piece of the batch after its way forward and back."""

    hidden: list[_Part]
    output: _Part  # of the pairs whose gradient is not negligible
    hits: Hits | None  # of these, on the wide path
    n_pairs: int  # all of them
    shared_delta: NDArray[np.float32]  # (n, m)
    prior_gradient: NDArray[np.float64] | None
    loss: float
    rivals: NDArray[np.int32]


def train_step(
    network: Network,
    config: Config,
    X: csr_matrix,
    Y: csr_matrix,
    *,
    number: int,
    lr_factor: float,
    workers: Workers,
    tail: Tail,
    own: OwnShare | None = None,
    prior: Prior | None = None,
) -> StepReport:
    """Train on one batch: features X (n, d) and labels Y (n, l), canonical.

    The gradient is that of the loss summed over the batch, so that a label seen once in a batch
    moves as far in a large batch as in a small one. ``number`` counts the steps of the run: it
    seeds dropout and random windows. ``tail`` is what the examples share; ``own``, what the start
    holds of them, is left out; ``prior`` moves too.
    """
    if config.input_dropout:
        rng = np.random.default_rng((config.seed, number, 2))
        X = _drop_features(X, config.input_dropout, rng)
    wide_tail = None if network.wide is None else _score_tail(network.wide, X, tail, workers)
    weight, place = network.output.weight[tail.neurons].T, number * config.batch_size
    batch = _Batch(sparse_rows(X), pairs_of(Y), place, tail, weight, wide_tail, own, prior)

    def work(start: int, end: int) -> _Piece:
        return _forward_and_back(network, config, batch, start, end)

    done = workers.map(work, pieces(X.shape[0]))
    moved = _update(network, config, done, batch, lr_factor, workers)
    if prior is not None:
        gradients = [piece.prior_gradient for piece in done if piece.prior_gradient is not None]
        move_prior(prior, np.sum(gradients, axis=0), config.prior_lr * lr_factor)
    return StepReport(
        sum(piece.loss for piece in done),
        X.shape[0],
        _count_active(network, done),
        moved,
        np.concatenate([piece.rivals for piece in done]),
    )


def _score_tail(wide: Wide, X: csr_matrix, tail: Tail, workers: Workers) -> _WideTail:
    """Wide scores of the shared tail for all n examples."""
    columns, scores = columns_of(X), np.zeros((X.shape[0], len(tail.neurons)), np.float32)
    size = block_size(columns)

    def add(start: int, end: int) -> Met:
        met = meet_block(columns, wide, tail.neurons[start:end])
        add_met_scores(columns, wide, met, scores[:, start:end])
        return met

    return _WideTail(columns, scores, size, workers.map(add, pieces(len(tail.neurons), size)))


def _forward_and_back(
    network: Network, config: Config, batch: _Batch, start: int, end: int
) -> _Piece:
    """Run the examples start to end of a batch, without any update."""
    place, own, prior = batch.place + start, batch.own, batch.prior
    rng = np.random.default_rng((config.seed, place, 1))
    x, labels = batch.x.part(start, end), batch.labels.part(start, end)
    traces: list[Trace] = []
    h = hidden_rows(network, x, first_example=place, dropout=config.dropout, rng=rng, traces=traces)
    strata = _active_set(network, x, h, labels, batch.tail, place, own)
    pairs = Pairs(strata.indptr, strata.neurons)
    delta = np.empty(len(pairs.neurons), np.float32)
    pair_logits(h, network.output.weight, pairs, delta)
    shared_delta = product(h, batch.tail_weight)
    hits = None
    if network.wide is not None:
        hits = find_hits(x, network.wide, pairs, zeros(x.width), network.ranks)
        add_pair_scores(network.wide, hits, delta)
    if batch.wide_tail is not None:
        shared_delta += batch.wide_tail.scores[start:end]
    if own is not None:
        lengths = own_lengths(h, traces[-1].z, network.mean)
        leave_out(x, lengths, strata, own, 1 - config.input_dropout, delta)
    if prior is not None:
        classes = pair_classes(prior, strata)
        add_prior(prior, strata, classes, delta, shared_delta)
    rivals = np.full((h.n, config.n_rivals), -1, np.int32)
    keep_rivals(strata, delta, shared_delta, rivals)
    loss = stratified_loss(LOSS_KINDS[config.loss], strata, delta, shared_delta)
    gradient = None
    if prior is not None:
        gradient = prior_gradient(prior, strata, classes, delta, shared_delta)
    n_pairs = len(delta)
    pairs, places = keep_pairs(pairs, delta, config.negligible)
    delta, hits = delta[places], None if hits is None else take_hits(hits, places)
    upstream = input_gradient(h, batch.tail_weight, shared_delta)
    pair_input_gradient(h, network.output.weight, pairs, delta, upstream)
    hidden, output = _back(network.hidden, traces, h, upstream), _Part(h, pairs, delta)
    return _Piece(hidden, output, hits, n_pairs, shared_delta, gradient, loss, rivals)


def _active_set(
    network: Network,
    x: Rows,
    h: Rows,
    labels: Pairs,
    tail: Tail,
    place: int,
    own: OwnShare | None,
) -> Strata:
    """Labels and retrieved neurons of every example, beside the shared tail."""
    index, lone = network.indexes[-1], None if own is None else own.lone
    found = None
    if index is not None:
        found = retrieve_labels(network, x, h, index.train_size, place)
    return join_strata(labels, found, tail, lone)


def _drop_features(X: csr_matrix, share: float, rng: np.random.Generator) -> csr_matrix:
    """Drop a share of the stored features, and scale the others to keep the mean."""
    keep = rng.random(X.nnz, dtype=np.float32) >= share
    kept = keep_entries(X, keep)
    kept.data *= np.float32(1 / (1 - share))
    return kept


def _back(
    layers: Sequence[Layer], traces: list[Trace], h: Rows, upstream: NDArray[np.float32]
) -> list[_Part]:
    """Carry the gradient of the last activations back through the hidden layers."""
    parts: list[_Part] = []
    for depth in range(len(layers) - 1, -1, -1):
        layer, trace = layers[depth], traces[depth]
        if trace.pairs is None:
            delta = upstream.reshape(h.n, layer.n_out + 1)[:, :-1] * trace.gate
        else:
            delta = upstream * trace.gate
        parts.append(_Part(trace.x, trace.pairs, delta))
        if depth == 0:
            break
        if trace.pairs is None:
            upstream = input_gradient(trace.x, layer.weight, delta)
        else:
            upstream = np.zeros_like(trace.x.values)
            pair_input_gradient(trace.x, layer.weight, trace.pairs, delta, upstream)
    return parts[::-1]


def _update(
    network: Network,
    config: Config,
    done: list[_Piece],
    batch: _Batch,
    lr_factor: float,
    workers: Workers,
) -> list[NDArray[np.int32] | None]:
    """Move the touched rows of every layer; returns the neurons, if they are rows, that moved."""
    hidden_step = Step(config.hidden_lr * lr_factor, 0.0)
    moved: list[NDArray[np.int32] | None] = []
    for depth, layer in enumerate(network.hidden):
        part = _merge([piece.hidden[depth] for piece in done])
        if part.pairs is None:
            _update_dense(layer, part, hidden_step, workers)
            moved.append(None)
        else:
            nothing = np.empty((part.x.n, 0), np.float32)
            groups = group_entries(part.pairs.neurons, _NO_IDS)
            _update_hashed(layer, part, groups, nothing, hidden_step, workers)
            moved.append(groups.rows)
    part = _merge([piece.output for piece in done])
    shared_delta = np.concatenate([piece.shared_delta for piece in done])
    step = Step(config.lr * lr_factor, config.weight_decay)
    assert part.pairs is not None
    groups = group_entries(part.pairs.neurons, batch.tail.neurons)
    _update_hashed(network.output, part, groups, shared_delta, step, workers)
    if network.wide is not None and batch.wide_tail is not None:
        hits = concatenate_hits([piece.hits for piece in done if piece.hits is not None])
        wide_lr = config.wide_lr * lr_factor
        _update_wide(network.wide, part, groups, hits, wide_lr, workers)
        _update_wide_tail(network.wide, batch.wide_tail, shared_delta, wide_lr, workers)
    return [*moved, groups.rows]


def _merge(parts: list[_Part]) -> _Part:
    """Join what the pieces of a batch did to one layer."""
    x = concatenate_rows([part.x for part in parts])
    delta = np.concatenate([part.delta for part in parts])
    pairs = [part.pairs for part in parts if part.pairs is not None]
    if not pairs:
        return _Part(x, None, delta)
    indptr = concatenate_indptr([p.indptr for p in pairs])
    return _Part(x, Pairs(indptr, np.concatenate([p.neurons for p in pairs])), delta)


def _update_dense(layer: Layer, part: _Part, step: Step, workers: Workers) -> None:
    """Move an input-major layer: the rows of the inputs that are not zero, and the bias row."""
    if part.x.dense:
        gradient = part.x.matrix().T @ part.delta
        groups = group_entries(_NO_IDS, np.arange(len(gradient)))
        entries = (np.empty(0, np.int64), np.empty(0, np.float32))
    else:
        gradient = BIAS_INPUT * part.delta.sum(axis=0, keepdims=True)
        groups = group_entries(part.x.indices, np.array([layer.n_in]))
        entries = (_owners(part.x.indptr), part.x.values)
    update_rows(layer, groups, entries, dense_rows(part.delta), gradient, step, workers.map)


def _update_hashed(
    layer: Layer,
    part: _Part,
    groups: Groups,
    shared_delta: NDArray[np.float32],
    step: Step,
    workers: Workers,
) -> None:
    """Move a neuron-major layer: the neurons of all pairs and of the shared tail."""
    assert part.pairs is not None
    gradient = np.empty((shared_delta.shape[1], part.x.width + 1), np.float32)

    def multiply(start: int, end: int) -> None:
        gradient[start:end] = weight_gradient(part.x, shared_delta[:, start:end])

    workers.map(multiply, pieces(len(gradient), _SHARED_ROWS))
    entries = (_owners(part.pairs.indptr), part.delta)
    update_rows(layer, groups, entries, part.x, gradient, step, workers.map)


def _update_wide(
    wide: Wide, part: _Part, groups: Groups, hits: Hits, lr: float, workers: Workers
) -> None:
    """Move the wide weights of all pairs."""

    def move(start: int, end: int) -> None:
        move_wide(wide, groups, start, end, hits, part.delta, lr)

    workers.map(move, pieces(len(groups.rows), _SHARED_ROWS))


def _update_wide_tail(
    wide: Wide, tail: _WideTail, delta: NDArray[np.float32], lr: float, workers: Workers
) -> None:
    """Move the wide weights of the shared tail, by the deltas (n, m) of all examples."""

    def move(start: int, end: int) -> None:
        met = tail.blocks[start // tail.size]
        move_met(tail.columns, wide, met, delta[:, start:end], lr)

    workers.map(move, pieces(delta.shape[1], tail.size))


def _owners(indptr: NDArray[np.int64]) -> NDArray[np.int64]:
    """Row of every entry of a CSR structure."""
    return np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))


def _count_active(network: Network, done: list[_Piece]) -> NDArray[np.int64]:
    """Neurons computed in each layer, over all pieces."""
    counts = np.zeros(len(network.hidden) + 1, np.int64)
    for piece in done:
        for depth, part in enumerate(piece.hidden):
            counts[depth] += part.delta.size
        counts[-1] += piece.shared_delta.size
        if piece.shared_delta.shape[1] < network.n_labels:  # else the tail holds the pairs too
            counts[-1] += piece.n_pairs
    return counts
