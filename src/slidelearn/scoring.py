"""Scoring: what a network says of the neurons that an example found, in stages of growing cost.

The wide path's tables, the memory and the index name some hundred neurons. What the first two said
of them, with logits by coarse rows, decides which of them are looked up in the wide path and in the
margins, and what these add whose rows are read in full. Before that, the best of the head's labels
join them. Without coarse rows all logits are computed at first, and there is no head.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from slidelearn.coarse_rows import CoarseRows
from slidelearn.cooccurrence import Cooccurrence, rank_again
from slidelearn.head import Head, score_head
from slidelearn.hidden import Hidden, activations
from slidelearn.index import Lookup
from slidelearn.layers import Pairs, coarse_logits, pair_logits, small_logits
from slidelearn.margins import squared_hinges
from slidelearn.memory import Memory, Votes, Worth, find_votes
from slidelearn.pair_sums import add_sums
from slidelearn.postings import WHOLE, Depth, Found, Postings, best_labels
from slidelearn.ranks import Ranks
from slidelearn.retrieved import (
    Retrieved,
    add_up,
    drop_hopeless,
    gather,
    join,
    keep_best,
    keep_pairs,
    take,
)
from slidelearn.rows import Rows
from slidelearn.scratch import check_room
from slidelearn.small_rows import SmallRows
from slidelearn.wide import Wide

__all__ = ["Cut", "Known", "Neurons", "Sparse", "plain", "score"]

# Times as many labels as postings may find that are left by sums before biases are read, which took
# a quarter of a lookup for all of them. Of an example's best 5 outside of the head, lookups of the
# calls find 2.54 by all biases and 2.55, 2.57 and 2.56 with 2, 3 and 6, those of commits 3.92
# always. Without a head the labels of most features would be left: a recall of 0.974, not 0.992.
_BY_SUMS = 2


class Cut(NamedTuple):
    """How many neurons of an example are left for each stage.

    Attributes
    ----------
    logits : int
        Those whose inner product with the hidden vector is computed, roughly where it can be.
    scores : int
        Those that the wide path and the margins are asked about.
    rows : int
        Those whose logits are computed again, by their rows in full.
    head : int
        Those of the head whose logits are computed.
    best : int
        Those that somebody asked for. If 0, all that are found.
    slack : float
        Wide path and margins are asked about none that seems worse by more than this than so many
        others do, the head's among them.
    """

    logits: int
    scores: int
    rows: int
    head: int
    best: int
    slack: float


class Sparse(NamedTuple):
    """Weights of the margins, those of the wide path on the same features, and the margins' biases.

    What a network does not have is empty: another type would have to be compiled for.
    """

    margins: Wide
    wide: NDArray[np.float32]
    bias: NDArray[np.float32]
    ranks: Ranks


class Neurons(NamedTuple):
    """Rows of the output layer, in full or small, and coarse rows, if any."""

    rows: NDArray[np.float32]
    small: SmallRows | None
    coarse: CoarseRows


class Known(NamedTuple):
    """All that a network knows of its output neurons and that speaks in predictions.

    ``hidden`` is its hidden layer, if a kernel can compute it.
    """

    hidden: Hidden | None
    postings: Postings
    memory: Memory | None
    output: Neurons
    sparse: Sparse | None
    head: Head
    worth: Worth
    margin: float


def plain(value: Any) -> Any:
    """Nested named tuples as plain ones, which Numba takes in a quarter of the time.

    It looks every class up; 65 values took it 19 us, and 5 in plain tuples.

    Examples
    --------
    >>> plain((Cut(1, 2, 3, 4, 5, 6.0), None, 7))
    ((1, 2, 3, 4, 5, 6.0), None, 7)
    """
    return tuple(map(plain, value)) if isinstance(value, tuple) else value


@njit(cache=True, nogil=True)
def score(
    known: tuple[Any, ...],
    asked: tuple[Any, ...],
    labels: NDArray[np.int64],
    scores: NDArray[np.float32],
) -> tuple[Any, ...]:
    """Score what was or is found, and what is voted for, as far as stages leave it.

    All in one function: to call each part from Python takes longer than what it does for one
    example.

    Parameters
    ----------
    known : tuple
        `Known`, as a `plain` tuple.
    asked : tuple
        Plain, too: examples (`Rows`); their hidden vectors, or None to compute the hidden layer
        here; what the postings say (`Found`) and what more the index found (`Pairs`), or None to
        look into the postings here; how much these may find (`Lookup`); the `Cut`; and scratch.
    labels, scores : arrays of shape (n, k)
        -1 and -inf; the best fill them, ranked by their company.

    Returns
    -------
    tuple
        `Retrieved`, plain.
    """
    hidden, postings, memory, (rows, small, coarse), sparse, head_parts, worth, margin = known
    x_parts, h_parts, found_parts, size, cut_parts, scratch = asked
    x, coarse_rows, head = Rows(*x_parts), CoarseRows(*coarse), Head(*head_parts)
    cut, weights = Cut(*cut_parts), Worth(*worth)
    tables = Postings(*postings)
    bias = tables.bias
    check_room(scratch, max(len(rows), len(bias)))
    roughly = len(coarse_rows.scales) > 0 and len(bias) > 0 and labels.shape[1] > 0
    headed = roughly and len(head.labels) > 0
    h, votes = _hidden(h_parts, x, hidden), _votes(x, memory, scratch)
    found, more = _find(found_parts, x, tables, Lookup(*size), head, headed, scratch)
    rows_left = head.rows if headed else head.rows[:0]
    pairs, keys, shares, twins = gather(found, more, votes, rows_left, weights.vote, scratch)
    pairs, places = keep_pairs(pairs, keys, cut.logits)
    shares, twins, keys = shares[places], twins[places], keys[places]
    active = len(places)
    logits, nothing = np.empty(active, np.float32), np.zeros(active, np.float32)
    if roughly:
        coarse_logits(h, coarse_rows, bias, pairs, logits)
    else:
        _score_rows(h, rows, small, pairs, logits)
    _add_logits(found, pairs, logits, bias, keys)
    scored = Retrieved(pairs, logits, nothing, nothing, shares, twins, active)
    best = score_head(x, head, votes, weights, margin, cut.head)
    if headed:
        coarse_logits(h, coarse_rows, bias, best.pairs, best.logits)
    pairs, places = keep_pairs(pairs, keys, cut.scores)
    if roughly:
        others = best.pairs, add_up(best, weights, margin)
        hopeful = pairs, keys[places], places
        pairs, places = drop_hopeless(*hopeful, *others, cut.best, cut.slack)
    scored = take(scored, pairs, places)
    _add_sparse(x, sparse, pairs, scratch, scored.wide, scored.hinges)
    if headed:
        scored = join(scored, best)
    if roughly:
        sums = add_up(scored, weights, margin)
        pairs, places = keep_pairs(scored.pairs, sums, cut.rows)
        scored = take(scored, pairs, places)
        _score_rows(h, rows, small, pairs, scored.logits)
    if labels.shape[1] > 0:
        keep_best(scored.pairs, add_up(scored, weights, margin), labels, scores)
        _rank_again(memory, labels, scores, scratch)
    pairs, logits, wide, hinges, shares, twins, active = scored
    return (pairs.indptr, pairs.neurons), logits, wide, hinges, shares, twins, active


@njit(cache=True, nogil=True, forceinline=True)
def _hidden(h: tuple[Any, ...] | None, x: Rows, hidden: tuple[Any, ...] | None) -> Rows:
    """The hidden vectors of examples: those that came, or what the hidden layer makes of x."""
    if h is None:
        assert hidden is not None
        return activations(x, Hidden(*hidden))
    return Rows(*h)


@njit(cache=True, nogil=True)
def _find(
    found: tuple[Any, ...] | None,
    x: Rows,
    postings: Postings,
    size: Lookup,
    head: Head,
    headed: bool,
    scratch: NDArray[np.float32],
) -> tuple[Found, Pairs]:
    """What was found by postings or what they say now, and what more the index has found."""
    if found is None:
        more = Pairs(np.zeros(len(x.indptr), np.int64), np.empty(0, np.int32))
        left = _BY_SUMS * size.wide_limit if headed else WHOLE.left
        depth = Depth(size.wide_cap, size.wide_faint, size.few, left)
        hidden = head.labels if headed else head.labels[:0]
        by_postings = best_labels(x, postings, size.wide_limit, x.width, scratch, depth, hidden)
    else:
        (pairs, weights), more_pairs = found
        by_postings, more = Found(Pairs(*pairs), weights), Pairs(*more_pairs)
    return by_postings, more


@njit(cache=True, nogil=True, forceinline=True)
def _votes(x: Rows, memory: tuple[Any, ...] | None, scratch: NDArray[np.float32]) -> Votes:
    """Votes of the memory, or none."""
    if memory is None:
        indptr = np.zeros(len(x.indptr), np.int64)
        nothing = np.empty(0, np.float32)
        return Votes(Pairs(indptr, np.empty(0, np.int32)), nothing, nothing)
    return find_votes(_memory(memory), x, scratch, ascending=False)


@njit(cache=True, nogil=True)
def _memory(parts: tuple[Any, ...]) -> Memory:
    """Name the parts of a memory again."""
    examples, labels, tables, n_labels, limit, probes, worth, (partners, shares, strength) = parts
    together = Cooccurrence(Pairs(*partners), shares, strength)
    postings, pairs = Postings(*tables), Pairs(*labels)
    return Memory(
        Wide(*examples), pairs, postings, n_labels, limit, probes, Worth(*worth), together
    )


@njit(cache=True, nogil=True, forceinline=True)
def _add_sparse(
    x: Rows,
    sparse: tuple[Any, ...] | None,
    pairs: Pairs,
    scratch: NDArray[np.float32],
    scores: NDArray[np.float32],
    hinges: NDArray[np.float32],
) -> None:
    """Add wide scores of pairs to scores, and squared hinges of margins to hinges, (n_pairs,).

    Both paths have the same features, so these are read once.
    """
    if sparse is None:
        return
    margins, weights, bias, ranks_parts = sparse
    path, beside, sums, sums_beside = Wide(*margins), weights, hinges, scores
    if len(bias) == 0:
        path = Wide(path.indptr, path.features, weights, path.squares)
        beside, sums, sums_beside = weights[:0], scores, hinges
    else:
        for p in range(len(hinges)):
            hinges[p] = bias[pairs.neurons[p]]
    add_sums(x, path, beside, pairs, scratch, sums, sums_beside, Ranks(*ranks_parts))
    if len(bias) > 0:
        squared_hinges(hinges)


@njit(cache=True, nogil=True, forceinline=True)
def _score_rows(
    h: Rows,
    rows: NDArray[np.float32],
    small: tuple[Any, ...] | None,
    pairs: Pairs,
    logits: NDArray[np.float32],
) -> None:
    """Compute logits (n_pairs,) from rows, or from small ones; Numba compiles what there is."""
    if small is None:
        pair_logits(h, rows, pairs, logits)
    else:
        small_logits(h, SmallRows(*small), pairs, logits)


@njit(cache=True, nogil=True)
def _add_logits(
    found: Found,
    pairs: Pairs,
    logits: NDArray[np.float32],
    bias: NDArray[np.float32],
    keys: NDArray[np.float32],
) -> None:
    """Add logits to the keys of pairs, both (n_pairs,); the bias, if both hold it, only once."""
    for i in range(len(pairs.indptr) - 1):
        twice = found.pairs.indptr[i + 1] > found.pairs.indptr[i]
        for p in range(pairs.indptr[i], pairs.indptr[i + 1]):
            own = bias[pairs.neurons[p]] if twice else np.float32(0)
            keys[p] += logits[p] - own


@njit(cache=True, nogil=True)
def _rank_again(
    memory: tuple[Any, ...] | None,
    labels: NDArray[np.int64],
    scores: NDArray[np.float32],
    scratch: NDArray[np.float32],
) -> None:
    """Rank the best, labels and scores (n, k), by the company that a memory knows."""
    if memory is not None:
        together = _memory(memory).cooccurrence
        if together.strength > 0:
            rank_again(together, labels, scores, scratch)
