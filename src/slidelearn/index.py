"""Index: the hash tables of one layer, kept in step with its neurons while they move."""

from dataclasses import dataclass, field
from math import exp
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from slidelearn.config import TableConfig
from slidelearn.hashing import Centring, HashFamily, make_family
from slidelearn.hashing.centroids import Centroids, sample_size
from slidelearn.layers import Pairs
from slidelearn.rows import BIAS_INPUT, Rows, dense_rows
from slidelearn.small_rows import SmallRows, small_rows
from slidelearn.tables import (
    Tables,
    Workspace,
    build_tables,
    make_workspace,
    rank_buckets,
    rank_probed,
    retrieve,
    update_tables,
)
from slidelearn.tables.outlook import Outline, look_out, make_outline
from slidelearn.tables.sketches import SKETCHED, Sketches, make_sketches
from slidelearn.workers import Workers, pieces

__all__ = ["Lookup", "NeuronIndex", "Schedule"]

_BLOCK = 512  # neurons that one thread hashes at a time
_MAX_DENSE_WIDTH = 4096  # wider sparse inputs are hashed as they are, without centring
_DRIFT_SAMPLE = 1024  # moved neurons that tell how far all have drifted


class Lookup(NamedTuple):
    """How much one lookup may find: probes per table, and neurons per example.

    ``wide_cap``, ``wide_faint`` and ``wide_limit`` are of the wide path's tables: labels read from
    a bucket, how little they may weigh there, see `Depth`, and labels found. Where these find fewer
    than ``few``, the usual labels are found too. Where rows beside buckets of centroids rank
    neurons, ``reach`` says how far a search goes, and not ``probes``; see `rank_buckets`.
    """

    probes: int
    limit: int
    wide_cap: int
    wide_limit: int
    few: int
    reach: float = 0.0
    wide_faint: float = 0.0


@dataclass
class Schedule:
    """When to rebuild: SLIDE's exponentially growing intervals (section 4.2 of the paper)."""

    first: int
    decay: float
    rebuilds: int = 0
    due: float = field(init=False)

    def __post_init__(self) -> None:
        """Plan the first rebuild."""
        self.due = self.first

    def is_due(self, step: int) -> bool:
        """Say whether a rebuild is due after ``step`` steps, and if so plan the next one."""
        if step < self.due:
            return False
        self.rebuilds += 1
        self.due = step + self.first * exp(self.decay * self.rebuilds)
        return True


class NeuronIndex:
    """Hash tables over the neurons of one layer.

    Parameters
    ----------
    config : TableConfig
        Family, K, L and how much is retrieved.
    seed : int
        Of the hash family and of random windows in large buckets.
    """

    def __init__(self, config: TableConfig, seed: int) -> None:
        """Make an index without tables; `fit` makes them."""
        self.config = config
        self.seed = seed
        self.family: HashFamily | None = None
        self.centring: Centring | None = None
        self.tables: Tables | None = None
        # Copies in the order of the table, see `keep_rows`.
        self.rows: SmallRows | None = None
        self.sketches: Sketches | None = None
        self._outline: Outline | None = None
        self.truncated = 0  # buckets larger than the cap that lookups met
        self._free: list[Workspace] = []
        self._lock = Lock()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what a pickle cannot hold or need not."""
        return {**self.__dict__, "_free": [], "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a pickle."""
        self.__dict__.update(state, _lock=Lock())

    def fit(self, weight: NDArray[np.float32], queries: Rows, workers: Workers) -> None:
        """Make the hash family for neuron-major weights (N, d + 1), and file every neuron.

        ``queries`` is a sample of the layer's inputs, to centre on.
        """
        dense = queries.dense or queries.width <= _MAX_DENSE_WIDTH
        if dense:
            self.centring = Centring.fit(
                weight[:, :-1], BIAS_INPUT * weight[:, -1], _dense(queries).matrix()[:, :-1]
            )
        n, options = len(weight), {}
        sample = np.arange(n)
        if self.config.family == "centroids":
            n_directions = self.config.directions_for(n)
            options = {"n_directions": n_directions}
            size = min(n, sample_size(n_directions))
            sample = np.sort(np.random.default_rng(self.seed).choice(n, size, replace=False))
        else:
            sample = sample[:1]
        self.family = make_family(
            self.config.family,
            self._sampled(weight, sample),
            k=self.config.k,
            l=self.config.l,
            seed=self.seed,
            **options,
        )
        self.rebuild(weight, workers)

    def rebuild(self, weight: NDArray[np.float32], workers: Workers) -> None:
        """File every neuron anew under the family that there is."""
        codes = self._codes(weight, np.arange(len(weight)), workers)
        self._take_tables(build_tables(codes, self._family().n_buckets))

    def keep_rows(self, weight: NDArray[np.float32]) -> None:
        """Copy neurons (N, d + 1) as bytes, in the order of the table: lookups then rank by them.

        Of every bucket only the best neurons are retrieved, so many more buckets can be probed.
        Of buckets of centroids, sketches say which rows to read. The copies do not follow the
        neurons; the next rebuild drops them. Several tables, or inputs that are not centred, keep
        none.
        """
        assert self.tables is not None
        if self.config.l == 1 and self.centring is not None:
            order = self.tables.neurons[0]
            self.rows = small_rows(weight, "int8", neurons=True, order=order)
            if isinstance(self.family, Centroids) and self.rows.values.shape[1] >= SKETCHED:
                self.sketches = make_sketches(
                    weight, self.tables, self.family, self.centring, self.seed
                )

    def drift(
        self, weight: NDArray[np.float32], moved: NDArray[np.int64], workers: Workers
    ) -> float:
        """Share of the neurons ``moved`` that some table would file elsewhere; of a sample."""
        assert self.tables is not None
        sample = moved[:: max(1, len(moved) // _DRIFT_SAMPLE)]
        if len(sample) == 0:
            return 0.0
        codes = self._codes(weight, sample, workers)
        return float((codes != self.tables.codes[sample]).any(axis=1).mean())

    def refile(
        self, weight: NDArray[np.float32], moved: NDArray[np.int64], workers: Workers
    ) -> None:
        """File the neurons ``moved`` anew, and no others."""
        assert self.tables is not None
        codes = self._codes(weight, moved, workers)
        self._take_tables(update_tables(self.tables, moved, codes)[0])

    def _take_tables(self, tables: Tables) -> None:
        """Look into these from now on."""
        self.tables = tables
        self.drop_rows()
        self._free.clear()

    def drop_rows(self) -> None:
        """Forget what `keep_rows` has copied."""
        self.rows = self.sketches = self._outline = None

    def _codes(
        self, weight: NDArray[np.float32], neurons: NDArray[np.int64], workers: Workers
    ) -> NDArray[np.int32]:
        """Hash some neurons, (m, L)."""
        family = self._family()
        codes = np.empty((len(neurons), family.n_tables), np.int32)

        def hash_block(start: int, end: int) -> None:
            codes[start:end] = family.codes(self._hashable(weight[neurons[start:end]]))

        workers.map(hash_block, pieces(len(neurons), _BLOCK))
        return codes

    def lookup(self, queries: Rows, size: Lookup, first_example: int | None = None) -> Pairs:
        """Retrieve neurons for every row of queries; see `retrieve` for their numbers."""
        assert self.tables is not None
        family = self._family()
        if self.centring is None:
            vectors = queries.csr()
        else:  # rows, if there are any, are multiplied with all numbers of a query
            queries = _dense(queries)
            vectors = self.centring.queries(queries.matrix()[:, :-1])
        if self.rows is not None and isinstance(family, Centroids):
            assert self.centring is not None
            if self._outline is None:
                self._outline = make_outline(family, self.tables)
            outlook = look_out(vectors, self.centring, self._outline)
            return rank_buckets(
                self.tables, self.rows, self.sketches, queries, outlook, size.reach, size.limit
            )
        n_probes = min(size.probes, family.n_buckets)
        probes = family.probes(vectors, n_probes, self.tables.filled)
        if self.rows is not None:
            return rank_probed(self.tables, self.rows, probes, queries, size.limit)
        with self._lock:
            workspace = self._free.pop() if self._free else make_workspace(self.tables)
        found = retrieve(
            self.tables,
            probes,
            limit=size.limit,
            cap=self.config.cap,
            strategy=self.config.strategy,
            min_count=self.config.min_count,
            seed=self.seed,
            workspace=workspace,
            first_example=first_example,
        )
        with self._lock:
            self._free.append(workspace)
            self.truncated += found.truncated
        return Pairs(found.indptr, found.neurons)

    @property
    def trains(self) -> bool:
        """Whether training looks neurons up, so that the tables must follow them."""
        return self.config.limit > 0

    @property
    def train_size(self) -> Lookup:
        """What a lookup may find in training."""
        config = self.config
        wide = config.wide_cap, config.wide_limit
        return Lookup(config.probed[0], config.limit, *wide, config.limit)

    @property
    def predict_size(self) -> Lookup:
        """What a lookup may find when predicting."""
        config = self.config
        limit = few = config.predict_limit
        if self.ranked:
            limit = min(limit, config.predict_ranked)
        reach = config.predict_reach
        wide = config.predict_wide_cap, config.predict_wide_limit
        return Lookup(config.probed[1], limit, *wide, few, reach, config.predict_wide_faint)

    @property
    def ranked(self) -> bool:
        """Whether lookups go as far as they must, by what buckets promise."""
        return self.rows is not None and isinstance(self.family, Centroids)

    def _family(self) -> HashFamily:
        assert self.family is not None
        return self.family

    def _sampled(
        self, weight: NDArray[np.float32], sample: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Some neurons as the family takes them; in blocks, to hold them but once."""
        out: NDArray[np.float32] | None = None
        for start, end in pieces(len(sample), _BLOCK):
            block = self._hashable(weight[sample[start:end]])
            if out is None:
                out = np.empty((len(sample), block.shape[1]), np.float32)
            out[start:end] = block
        assert out is not None
        return out

    def _hashable(self, weight: NDArray[np.float32]) -> NDArray[np.float32]:
        """Neurons (n, d + 1) as the family takes them."""
        if self.centring is None:
            return np.ascontiguousarray(weight[:, :-1])
        return self.centring.neurons(weight[:, :-1], BIAS_INPUT * weight[:, -1])


def _dense(rows: Rows) -> Rows:
    """The same rows, dense."""
    if rows.dense:
        return rows
    matrix = np.full((rows.n, rows.width + 1), BIAS_INPUT, np.float32)
    matrix[:, :-1] = rows.csr().toarray()
    return dense_rows(matrix)
