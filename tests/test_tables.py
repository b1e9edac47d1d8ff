import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import naive
from slidelearn.errors import ConfigError, DataError
from slidelearn.tables import (
    STRATEGIES,
    build_tables,
    make_rule,
    make_workspace,
    occupancy,
    retrieve,
    retrieve_one,
    update_tables,
)


def random_codes(n, n_tables, n_buckets, seed=0):
    """Codes of very uneven buckets."""
    rng = np.random.default_rng(seed)
    return (n_buckets * rng.random((n, n_tables)) ** 3).astype(np.int32)


def random_probes(n, n_tables, n_buckets, n_probes, seed=1):
    """Distinct buckets in each table, some of them missing at the end."""
    rng = np.random.default_rng(seed)
    probes = rng.random((n, n_tables, n_buckets)).argsort(axis=2)[:, :, :n_probes].astype(np.int32)
    probes[rng.random(n) < 0.2, :, n_probes // 2 :] = -1
    return probes


def equal(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


sizes = st.tuples(
    st.integers(1, 40), st.integers(1, 20), st.integers(1, 9), st.integers(0, 2**32 - 1)
)


@given(sizes)
@settings(deadline=None)  # the first call compiles
def test_every_neuron_is_in_the_bucket_of_its_code_in_every_table(size):
    n, n_tables, n_buckets, seed = size
    codes = random_codes(n, n_tables, n_buckets, seed)
    tables = build_tables(codes, n_buckets)
    ref = naive.build_tables(codes, n_buckets)
    for table, bucket in np.ndindex(n_tables, n_buckets):
        start, end = tables.offsets[table, bucket : bucket + 2]
        assert tables.neurons[table, start:end].tolist() == ref[table][bucket]
        later = [b for b in range(bucket, n_buckets) if ref[table][b]]
        assert tables.filled[table, bucket] == min(later, default=n_buckets)
    assert (tables.filled[:, -1] == n_buckets).all()
    assert (np.sort(tables.neurons, axis=1) == np.arange(n)).all()
    assert equal(build_tables(tables.codes, n_buckets), tables)


def test_tables_of_more_columns_than_are_copied_at_once():
    codes = random_codes(50, 37, 6)
    tables = build_tables(np.asfortranarray(codes), 6)
    for table in range(37):
        assert (tables.neurons[table] == np.argsort(codes[:, table], kind="stable")).all()


@pytest.mark.parametrize("n", [0, 1])
def test_no_neurons_and_one_neuron(n):
    tables = build_tables(np.zeros((n, 2), np.int32), 1)
    assert tables.offsets.tolist() == [[0, n], [0, n]]
    for strategy in STRATEGIES:
        found = retrieve(tables, np.zeros((3, 2, 1), np.int32), limit=5, cap=5, strategy=strategy)
        assert found.indptr.tolist() == [0, n, 2 * n, 3 * n]
    assert occupancy(tables).largest.tolist() == [n, n]


@given(sizes, st.integers(0, 10), st.booleans())
@settings(deadline=None)  # the first call compiles
def test_an_update_equals_a_rebuild(size, n_changed, in_one_table):
    n, n_tables, n_buckets, seed = size
    rng = np.random.default_rng(seed)
    tables = build_tables(random_codes(n, n_tables, n_buckets, seed), n_buckets)
    before = [array.copy() for array in tables]
    neurons = rng.permutation(n)[:n_changed]
    codes = tables.codes[neurons]
    where = slice(0, 1) if in_one_table else slice(None)
    codes[:, where] = rng.integers(0, n_buckets, codes[:, where].shape)
    ref_codes = tables.codes.copy()
    ref_codes[neurons] = codes
    updated, n_moved = update_tables(tables, neurons, codes)
    assert equal(updated, build_tables(ref_codes, n_buckets))
    assert n_moved == (ref_codes != before[2]).sum()
    assert equal(tables, before)
    if n_moved == 0:
        assert updated is tables


def test_occupancy_counts_buckets():
    codes = random_codes(60, 3, 8)
    got = occupancy(build_tables(codes, 8), n_largest=5)
    ref = [[len(bucket) for bucket in table] for table in naive.build_tables(codes, 8)]
    assert got.non_empty.tolist() == [sum(size > 0 for size in table) for table in ref]
    assert got.largest.tolist() == [max(table) for table in ref]
    seen = [np.mean([ref[t][code] for code in codes[:, t]]) for t in range(3)]
    assert np.allclose(got.mean_seen, seen)
    every = sorted((-ref[t][b], t, b) for t, b in np.ndindex(3, 8))
    assert got.largest_buckets == [(t, b, -size) for size, t, b in every[:5]]


@given(
    sizes,
    st.integers(0, 5),
    st.integers(1, 9),
    st.sampled_from([1, 2, 5, 100]),
    st.sampled_from([1, 3, 7, 100]),
    st.sampled_from(STRATEGIES),
    st.integers(1, 4),
)
@settings(max_examples=300, deadline=None)
def test_retrieval(size, n, n_probes, limit, cap, strategy, min_count):
    n_neurons, n_tables, n_buckets, seed = size
    codes = random_codes(n_neurons, n_tables, n_buckets, seed)
    tables = build_tables(codes, n_buckets)
    probes = random_probes(n, n_tables, n_buckets, min(n_probes, n_buckets), seed)
    workspace = make_workspace(tables)
    settings_ = {"limit": limit, "cap": cap, "strategy": strategy, "min_count": min_count}
    got = retrieve(tables, probes, **settings_, seed=seed, workspace=workspace, first_example=1000)
    buckets = naive.build_tables(codes, n_buckets)
    n_cut = 0
    for i in range(n):
        ref, cut = naive.retrieve(buckets, probes[i], 1000 + i, **settings_, seed=seed)
        row = slice(got.indptr[i], got.indptr[i + 1])
        found = list(zip(got.neurons[row].tolist(), got.counts[row].tolist(), strict=True))
        assert found == ref
        n_cut += cut
    assert got.truncated == n_cut
    assert not workspace.counts.any()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_retrieval_does_not_depend_on_how_examples_are_batched(strategy):
    tables = build_tables(random_codes(500, 6, 9), 9)
    probes = random_probes(40, 6, 9, 2)
    options = {"limit": 20, "cap": 15, "strategy": strategy, "seed": 3}
    whole = retrieve(tables, probes, **options, first_example=0)
    parts = [
        retrieve(tables, probes[a:b], **options, first_example=a) for a, b in ((0, 13), (13, 40))
    ]
    assert (np.concatenate([part.neurons for part in parts]) == whole.neurons).all()
    assert (np.concatenate([part.counts for part in parts]) == whole.counts).all()
    assert sum(part.truncated for part in parts) == whole.truncated > 0
    other = retrieve(tables, probes, **{**options, "seed": 4}, first_example=0)
    assert not np.array_equal(other.neurons, whole.neurons)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_examples_without_numbers_draw_alike(strategy):
    tables = build_tables(random_codes(500, 6, 9), 9)
    probes = np.repeat(random_probes(1, 6, 9, 2), 4, axis=0)
    got = retrieve(tables, probes, limit=20, cap=15, strategy=strategy)
    rows = got.neurons.reshape(4, -1)
    assert (rows == rows[0]).all()
    assert got.truncated > 0


def test_a_full_hand_is_drawn_from_anywhere_in_a_bucket():
    tables = build_tables(np.zeros((100, 1), np.int32), 1)
    probes = np.zeros((2000, 1, 1), np.int32)
    got = retrieve(tables, probes, limit=8, cap=200, strategy="vanilla", first_example=0)
    seen = np.bincount(got.neurons, minlength=100)
    assert np.abs(seen - 160).max() < 5 * np.sqrt(160)
    assert got.truncated == 0


def test_nothing_is_retrieved_twice_and_the_cap_holds():
    tables = build_tables(np.zeros((1000, 3), np.int32), 1)
    probes = np.zeros((50, 3, 1), np.int32)
    got = retrieve(tables, probes, limit=1000, cap=10, first_example=0)
    assert got.truncated == 150
    for start, end in zip(got.indptr, got.indptr[1:], strict=False):
        assert len(set(got.neurons[start:end])) == end - start <= 30
        assert got.counts[start:end].sum() == 30
    assert len(set(got.neurons)) > 500  # windows open all over the bucket


def test_vanilla_visits_every_table_first_equally_often():
    codes = np.repeat(np.arange(5), 2)[:, None] == np.arange(5)  # table t: neurons 2t, 2t + 1
    tables = build_tables(codes.astype(np.int32), 2)
    probes, options = np.ones((2000, 5, 1), np.int32), {"limit": 2, "cap": 9}
    got = retrieve(tables, probes, **options, strategy="vanilla", first_example=0)
    first_tables = np.bincount(got.neurons[::2] // 2)
    assert np.abs(first_tables - 400).max() < 5 * np.sqrt(400 * 0.8)


def test_one_example_into_given_arrays():
    codes = random_codes(100, 4, 5)
    tables = build_tables(codes, 5)
    probes = random_probes(3, 4, 5, 2)
    whole = retrieve(tables, probes, limit=7, cap=50)
    neurons, counts = np.empty(7, np.int32), np.empty(7, np.int32)
    rule, workspace = make_rule(limit=7, cap=50, strategy="topk"), make_workspace(tables)
    for i in range(3):
        written, _ = retrieve_one(tables, probes[i], i, rule, workspace, neurons, counts)
        row = slice(whole.indptr[i], whole.indptr[i + 1])
        assert (neurons[:written] == whole.neurons[row]).all()
        assert (counts[:written] == whole.counts[row]).all()


@pytest.mark.parametrize("bad", [-1, 4])
def test_codes_that_are_not_buckets_are_refused(bad):
    codes = np.zeros((5, 3), np.int32)
    codes[2, 1] = bad
    with pytest.raises(DataError, match=f"code {bad} of row 2, table 1 .* 0 to 3"):
        build_tables(codes, 4)


def test_updates_of_wrong_neurons_are_refused():
    tables = build_tables(np.zeros((5, 3), np.int32), 4)
    codes = np.zeros((2, 3), np.int32)
    with pytest.raises(DataError, match="1 to 5, the tables hold 0 to 4"):
        update_tables(tables, np.array([1, 5]), codes)
    with pytest.raises(DataError, match="not distinct"):
        update_tables(tables, np.array([1, 1]), codes)
    with pytest.raises(DataError, match="code 9 of row 0"):
        update_tables(tables, np.array([1, 2]), codes + 9)


def test_probes_that_do_not_fit_are_refused():
    tables = build_tables(np.zeros((5, 3), np.int32), 4)
    with pytest.raises(DataError, match=r"\(2, 2, 1\), the tables take \(n, 3, P\)"):
        retrieve(tables, np.zeros((2, 2, 1), np.int32), limit=1, cap=1)
    with pytest.raises(DataError, match="run from 4 to 4"):
        retrieve(tables, np.full((2, 3, 1), 4, np.int32), limit=1, cap=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit": 0}, "limit is 0"),
        ({"cap": 0}, "cap is 0"),
        ({"strategy": "threshold", "min_count": 0}, "min_count is 0"),
        ({"strategy": "best"}, "'best', choose one of vanilla, topk, threshold"),
    ],
)
def test_rules_out_of_range_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        make_rule(**{"limit": 1, "cap": 1, "strategy": "topk", **options})


def test_kernels_run_without_compilation():
    program = """
import warnings; warnings.simplefilter("error")
import numpy as np
from slidelearn.hashing import make_family
from slidelearn.tables import STRATEGIES, build_tables, retrieve
V = np.random.default_rng(0).random((9, 8), dtype=np.float32)
V[0] = 0
for name in ("simhash", "dwta", "minhash", "centroids"):
    options = {"bin_size": 3} if name == "dwta" else {}
    family = make_family(name, V, k=2, l=2, seed=0, **options)
    tables = build_tables(family.codes(V), family.n_buckets)
    for strategy in STRATEGIES:
        found = retrieve(tables, family.probes(V, 2), limit=3, cap=2, strategy=strategy)
        print(name, strategy, family.codes(V).tolist(), found.neurons.tolist(), found.truncated)
"""
    outputs = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "NUMBA_DISABLE_JIT": off},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for off in ("0", "1")
    ]
    assert outputs[0] == outputs[1]
    assert len(outputs[0].splitlines()) == 12
