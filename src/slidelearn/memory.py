"""The memory: a hashed layer with a neuron for every training example, which votes for its labels.

The weights of such a neuron are the example's features, so its activation is the cosine of the two
examples. Its tables are postings: a bucket is a feature and holds the examples in which it weighs
most. The nearest examples that an example finds there vote for their labels, each with a power of
its activation, and the share of the votes is added to the labels' logits. Where the data say so,
labels that have an example which is nearly the same lose some; see `slidelearn.twins`. The network
says what a label's examples have in common, the memory what single ones do: P@1 on validation
parts, without and with it: 55.6 and 56.2 on commits, 44.0 and 46.4 on 200,000 of the calls, 66.4
and 69.3 on delicious.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from slidelearn.config import Config
from slidelearn.cooccurrence import Cooccurrence, count_cooccurrence
from slidelearn.csr import make_csr, stack_rows
from slidelearn.layers import Pairs, pairs_of
from slidelearn.pair_sums import add_sums
from slidelearn.postings import (
    UNBIASED,
    WHOLE,
    Postings,
    best_labels,
    make_postings,
    refile_postings,
)
from slidelearn.prefetching import prefetch
from slidelearn.rows import Rows, features_of, sparse_rows
from slidelearn.scratch import check_room, zeros
from slidelearn.sorting import sort_ids
from slidelearn.wide import Wide

__all__ = [
    "PER_FEATURE",
    "Memory",
    "Votes",
    "Worth",
    "add_block_votes",
    "choose_probes",
    "extend_memory",
    "find_votes",
    "make_memory",
    "room_for_votes",
]

PER_FEATURE = 512  # examples that are filed under each feature
# Features of more examples are not filed: the few of them that a bucket holds say little. A third
# of the time of a lookup went there; the ten nearest of commits and calls are as near without.
_COMMON = 8 * PER_FEATURE
# Among so many examples the largest 8 features of one find those near it: with 16, 8 and 6 of them
# P@1 to P@5 and PSP@1 to PSP@5 on validation parts of calls, commits and sessions stay within 0.1
# points, most within 0.02. On bibtex, where an example has 70 features, 16 lost 0.4 points of P@1.
_MANY = 50_000
_PROBES = 8
_AHEAD = 8  # neighbours by which labels are prefetched before they are counted
_SHARPNESS = 8  # power of a neighbour's cosine that is its weight


class Worth(NamedTuple):
    """What a label's logit gains if all votes are for it, and loses where it has a twin.

    A twin is an example with a cosine of 1. At a cosine of c it loses the 8th power of c of that.
    """

    vote: float
    twin: float

    @classmethod
    def of(cls, config: Config) -> "Worth":
        """What the settings say; a twin that nobody chose weighs nothing."""
        return cls(config.vote, config.twin or 0.0)


class Memory(NamedTuple):
    """Training examples, and what finds those near another.

    Attributes
    ----------
    examples : Wide
        Features of every example, as weights; they do not move, so there are no ``squares``.
    labels : Pairs
        Labels of every example.
    postings : Postings
        Tables over the examples.
    n_labels : int
        Labels there are.
    limit : int
        Most examples that vote.
    probes : int
        Most features of an example that its nearest are looked up by, the largest.
    worth : Worth
        What votes and twins weigh.
    cooccurrence : Cooccurrence
        Which labels the examples have together.
    """

    examples: Wide
    labels: Pairs
    postings: Postings
    n_labels: int
    limit: int
    probes: int
    worth: Worth
    cooccurrence: Cooccurrence

    @property
    def room(self) -> int:
        """Numbers of scratch that `find_votes` needs."""
        return max(len(self.labels.indptr), len(self.postings.indptr), self.n_labels)


class Votes(NamedTuple):
    """What the memory says of n examples.

    Attributes
    ----------
    pairs : Pairs
        The labels that were voted for, ascending in an example if that was asked for.
    shares : float32 array of shape (n_pairs,)
        Which share of the votes was for them.
    twins : float32 array of shape (n_pairs,)
        The 8th power of the largest cosine that one of their examples has, at most 1.
    """

    pairs: Pairs
    shares: NDArray[np.float32]
    twins: NDArray[np.float32]


def make_memory(
    X: csr_matrix, Y: csr_matrix, *, limit: int, worth: Worth, cooccurrence: float = 0.0
) -> Memory:
    """Remember examples X (n, d), of length 1, with their labels Y (n, l).

    Which of these occur together is remembered too, unless the strength ``cooccurrence`` is 0.

    Examples
    --------
    >>> X = csr_matrix(np.array([[1, 0], [0.6, 0.8]], np.float32))
    >>> memory = make_memory(X, csr_matrix([[1, 0], [0, 1]]), limit=1, worth=Worth(2.0, 0.0))
    >>> votes = find_votes(memory, sparse_rows(X), room_for_votes(memory))
    >>> votes.pairs.neurons.tolist(), votes.shares.tolist()
    ([0, 1], [1.0, 1.0])
    """
    examples = _as_path(X)
    postings = make_postings(examples, X.shape[1], PER_FEATURE, UNBIASED, most=_COMMON)
    together, probes = count_cooccurrence(Y, cooccurrence), choose_probes(*X.shape)
    return Memory(examples, pairs_of(Y), postings, Y.shape[1], limit, probes, worth, together)


def choose_probes(n: int, n_features: int) -> int:
    """How many features of an example those near it among n are looked up by.

    Examples
    --------
    >>> choose_probes(1000, 500), choose_probes(100_000, 500)
    (500, 8)
    """
    return _PROBES if n >= _MANY else n_features


def extend_memory(memory: Memory, X: csr_matrix, Y: csr_matrix) -> Memory:
    """Remember more examples; their labels Y (n, l) are those of the memory and maybe more.

    Equal to a new memory of all examples; only those with a feature of X (n, d) are filed anew.
    """
    old, labels = memory.examples, memory.labels
    n = len(labels.indptr) - 1
    old_X = make_csr(old.weights, old.features, old.indptr, (n, X.shape[1]))
    ones = np.ones(len(labels.neurons), np.uint8)
    old_Y = make_csr(ones, labels.neurons, labels.indptr, (n, Y.shape[1]))
    examples, whole_Y = _as_path(stack_rows([old_X, X])), stack_rows([old_Y, Y])
    postings = refile_postings(
        memory.postings, examples, features_of(X), PER_FEATURE, UNBIASED, most=_COMMON
    )
    together = count_cooccurrence(whole_Y, memory.cooccurrence.strength)
    return memory._replace(
        examples=examples,
        labels=pairs_of(whole_Y),
        postings=postings,
        n_labels=Y.shape[1],
        probes=choose_probes(whole_Y.shape[0], X.shape[1]),
        cooccurrence=together,
    )


def _as_path(X: csr_matrix) -> Wide:
    """Features of examples X (n, d) as weights that do not move."""
    x = sparse_rows(X)
    return Wide(x.indptr, x.indices, x.values, np.empty(0, np.float32))


def room_for_votes(memory: Memory) -> NDArray[np.float32]:
    """Scratch that `find_votes` needs, of zeros."""
    return zeros(memory.room)


@njit(cache=True, nogil=True, forceinline=True)
def find_votes(
    memory: Memory, x: Rows, scratch: NDArray[np.float32], ascending: bool = True
) -> Votes:
    """Let the nearest remembered examples of every row of ``x`` vote.

    ``scratch`` is that of `room_for_votes`, zero before and after. To let labels of an example
    ascend takes a tenth of the time.
    """
    check_room(scratch, len(memory.labels.indptr) - 1)
    near = best_labels(x, memory.postings, memory.limit, memory.probes, scratch, WHOLE).pairs
    cosines = np.zeros(len(near.neurons), np.float32)
    nothing = cosines[:0]
    add_sums(x, memory.examples, nothing, near, scratch, cosines, nothing)
    starts, most = memory.labels.indptr, 0
    for example in near.neurons:
        most += starts[example + 1] - starts[example]
    labels, indptr = np.empty(most, np.int32), np.zeros(len(x.indptr), np.int64)
    shares, twins = np.empty(most, np.float32), np.empty(most, np.float32)
    check_room(scratch, memory.n_labels)
    _count_votes(memory.labels, near, cosines, ascending, scratch, indptr, labels, shares, twins)
    size = indptr[-1]
    return Votes(Pairs(indptr, labels[:size]), shares[:size], twins[:size])


@njit(cache=True, nogil=True)
def _count_votes(
    known: Pairs,
    near: Pairs,
    cosines: NDArray[np.float32],
    ascending: bool,
    slots: NDArray[np.float32],
    indptr: NDArray[np.int64],
    labels: NDArray[np.int32],
    shares: NDArray[np.float32],
    twins: NDArray[np.float32],
) -> None:
    """Share the votes of every row's neighbours, cosines (n_near,), out to labels, packed as CSR.

    A label's twin is the neighbour of its that is nearest. ``slots`` is scratch (n_labels,) or
    longer, zero before and after: which of the labels of a row one is, counted from 1.
    """
    sums, tops = np.empty(len(labels), np.float32), np.empty(len(labels), np.float32)
    for i in range(len(near.indptr) - 1):
        start, n, total, nearest = indptr[i], 0, np.float32(0), np.float32(0)
        for p in range(near.indptr[i], near.indptr[i + 1]):
            nearest = max(nearest, cosines[p])
        for p in range(near.indptr[i], near.indptr[i + 1]):
            if p + 2 * _AHEAD < len(near.neurons):
                prefetch(known.indptr, near.neurons[p + 2 * _AHEAD])
                prefetch(known.neurons, known.indptr[near.neurons[p + _AHEAD]])
            if cosines[p] <= 0:
                continue
            example, weight = near.neurons[p], (cosines[p] / nearest) ** _SHARPNESS
            if weight == 0:
                continue
            total += weight
            for e in range(known.indptr[example], known.indptr[example + 1]):
                label = known.neurons[e]
                if slots[label] == 0:
                    labels[start + n], sums[n], tops[n] = label, 0, 0
                    n += 1
                    slots[label] = n
                slot = np.int64(slots[label]) - 1
                sums[slot] += weight
                tops[slot] = max(tops[slot], cosines[p])
        if ascending:
            sort_ids(labels[start : start + n])
        for p in range(start, start + n):
            slot = np.int64(slots[labels[p]]) - 1
            shares[p] = sums[slot] / total
            twins[p] = min(tops[slot], np.float32(1)) ** _SHARPNESS
            slots[labels[p]] = 0
        indptr[i + 1] = start + n


@njit(cache=True, nogil=True)
def add_block_votes(votes: Votes, worth: Worth, first: int, out: NDArray[np.float32]) -> None:
    """Add votes to the logits of some labels, out (n, block), which count from ``first``."""
    for i in range(out.shape[0]):
        own = votes.pairs.neurons[votes.pairs.indptr[i] : votes.pairs.indptr[i + 1]]
        for v in range(np.searchsorted(own, first), len(own)):
            if own[v] >= first + out.shape[1]:
                break
            place = votes.pairs.indptr[i] + v
            out[i, own[v] - first] += np.float32(worth.vote) * votes.shares[place]
            out[i, own[v] - first] -= np.float32(worth.twin) * votes.twins[place]
