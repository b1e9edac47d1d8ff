import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from threadpoolctl import threadpool_limits

import naive
from slidelearn.errors import ConfigError, DataError
from slidelearn.hashing import (
    DWTA,
    FAMILIES,
    Centring,
    Centroids,
    MinHash,
    SimHash,
    make_family,
    restore_family,
)
from slidelearn.hashing.centroids import MOST_LEVELS
from slidelearn.hashing.mixing import below, mix32, mix_pair
from slidelearn.hashing.multiprobe import cheapest_flips
from slidelearn.tables import build_tables


def dense(n, d, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def sparse_rows(n, d, density=0.2, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.random((n, d), dtype=np.float32) * (rng.random((n, d)) < density)
    values[0] = 0  # an empty vector is always among them
    return values


def any_family(name, V, seed=0):
    options = {"centroids": {"n_directions": 7}, "simhash": {}}.get(name, {"bits": 6})
    return make_family(name, V, k=4, l=3, seed=seed, **options)


# --- mixing


@given(st.integers(0, 2**40), st.integers(-1, 2**40), st.integers(1, 2**31 - 1))
@settings(deadline=None)  # the first call compiles
def test_mixing_is_the_same_as_with_integers_that_cannot_overflow(a, b, bound):
    assert mix32(a) == naive.mix32(a)
    assert mix_pair(a, b) == naive.mix_pair(a, b)
    assert below(mix32(a), bound) == naive.below(naive.mix32(a), bound)


def test_every_input_bit_flips_every_output_bit_half_of_the_time():
    x = np.random.default_rng(0).integers(0, 2**32, 2000)
    mixed = np.array([naive.mix32(int(i)) for i in x])
    for bit in range(32):
        changed = mixed ^ np.array([naive.mix32(int(i) ^ (1 << bit)) for i in x])
        share = (changed[:, None] >> np.arange(32) & 1).mean(axis=0)
        assert np.abs(share - 0.5).max() < 5 * 0.5 / np.sqrt(len(x))


@given(st.lists(st.integers(0, 9) | st.just(np.inf), min_size=1, max_size=6), st.integers(1, 64))
@settings(deadline=None)  # the first call compiles
def test_flips_are_the_cheapest_subsets_in_order(costs, n_flips):
    masks, totals = np.empty((2, n_flips), np.int64), np.empty((2, n_flips))
    found = cheapest_flips(np.array(costs, np.float32), masks, totals)
    ref, total_of = naive.cheapest_flips(costs, n_flips)
    got = masks[0, :found].tolist()
    assert got[0] == 0
    assert len(set(got)) == found
    assert [total_of[mask] for mask in got] == [cost for cost in ref if cost < np.inf]


# --- every family


@pytest.fixture(params=FAMILIES)
def name(request):
    return request.param


@pytest.mark.parametrize("make", [dense, sparse_rows])
def test_the_first_probe_is_the_code_and_probes_are_distinct_buckets(name, make):
    V = make(50, 24)
    family = any_family(name, V)
    probes = family.probes(V, 5)
    assert probes.dtype == np.int32
    assert probes.shape == (50, 3, 5)
    if name != "centroids":  # whose queries look elsewhere than neurons are filed
        assert (probes[:, :, 0] == family.codes(V)).all()
    assert family.codes(V).min() >= 0
    assert probes.max() < family.n_buckets
    for buckets in probes.reshape(-1, 5):
        known = buckets[buckets >= 0]
        assert len(set(known)) == len(known)
        assert (buckets[len(known) :] == -1).all()


def test_dense_and_csr_vectors_hash_alike(name):
    V = sparse_rows(40, 24)
    family = any_family(name, V)
    shuffled = sparse.csr_array(V)
    for start, end in zip(shuffled.indptr, shuffled.indptr[1:], strict=False):
        for part in (shuffled.indices, shuffled.data):
            part[start:end] = part[start:end][::-1].copy()
    shuffled.has_canonical_format = shuffled.has_sorted_indices = False
    for other in (sparse.csr_matrix(V), shuffled, sparse.csc_array(V), V.astype(np.float64)):
        assert (family.hashes(V) == family.hashes(other)).all()
        assert (family.probes(V, 4) == family.probes(other, 4)).all()


def test_codes_do_not_depend_on_the_block_a_row_is_in(name, monkeypatch):
    V = dense(70, 24)
    family = any_family(name, V)
    ref = family.codes(V)
    monkeypatch.setattr("slidelearn.hashing.vectors._BLOCK_BYTES", 4 * 7 * 12)
    assert (family.codes(V) == ref).all()
    assert (np.concatenate([family.codes(V[:13]), family.codes(V[13:])]) == ref).all()


def test_a_seed_fixes_a_family_and_another_seed_changes_it(name):
    V = dense(50, 24)
    ref = any_family(name, V).codes(V)
    with threadpool_limits(1):
        assert (any_family(name, V).codes(V) == ref).all()
    assert (any_family(name, V, seed=1).codes(V) != ref).any()


def test_tables_of_a_family_differ(name):
    V = dense(200, 24)
    codes = any_family(name, V).codes(V)
    assert (codes[:, 0] != codes[:, 1]).any()
    assert (codes[:, 1] != codes[:, 2]).any()


def test_a_family_is_restored_from_its_arrays(name):
    V = dense(30, 24)
    family = any_family(name, V)
    copy = restore_family(name, family.arrays())
    assert (copy.n_features, copy.n_tables) == (family.n_features, family.n_tables)
    assert copy.n_buckets == family.n_buckets
    assert (copy.probes(V, 3) == family.probes(V, 3)).all()


@pytest.mark.parametrize("make", [dense, lambda n, d: sparse.csr_array((n, d), dtype=np.float32)])
def test_no_rows_and_one_row(name, make):
    family = any_family(name, dense(30, 24))
    assert family.codes(make(0, 24)).shape == (0, 3)
    assert family.hashes(make(0, 24)).shape[:2] == (0, 3)
    assert family.codes(make(1, 24)).shape == (1, 3)


def test_vectors_of_another_width_are_refused(name):
    family = any_family(name, dense(30, 24))
    with pytest.raises(DataError, match=r"\(2, 25\).*\(n, 24\)"):
        family.codes(dense(2, 25))


@pytest.mark.parametrize("n_probes", [0, 65])
def test_a_number_of_probes_out_of_range_is_refused(name, n_probes):
    with pytest.raises(ConfigError, match=f"n_probes is {n_probes}, choose a value from 1 to"):
        any_family(name, dense(30, 24)).probes(dense(2, 24), n_probes)


def test_an_unknown_family_is_refused_with_the_names():
    with pytest.raises(ConfigError, match=r"'lsh'.*simhash, dwta, minhash, centroids"):
        make_family("lsh", dense(2, 3), k=1, l=1, seed=0)
    with pytest.raises(ConfigError, match="'lsh'"):
        restore_family("lsh", {})


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("simhash", {"k": 25}, "k is 25, choose a value from 1 to 24"),
        ("simhash", {"l": 0}, "l is 0"),
        ("simhash", {"sparsity": 0.0}, r"sparsity is 0\.0"),
        ("simhash", {"entries": "ones"}, "entries is 'ones', choose 'gaussian' or 'sign'"),
        ("dwta", {"bin_size": 25}, "bin_size is 25, choose a value from 1 to 24"),
        ("minhash", {"bits": 0}, "bits is 0"),
        ("centroids", {"n_directions": 31}, "n_buckets is 31, choose .* the 30 vectors"),
    ],
)
def test_settings_out_of_range_are_refused(name, options, message):
    with pytest.raises(ConfigError, match=message):
        make_family(name, dense(30, 24), **{"k": 4, "l": 2, "seed": 0, **options})


# --- SimHash


@pytest.mark.parametrize("options", [{}, {"entries": "sign"}, {"sparsity": 0.25}])
def test_simhash_hashes_are_signs_packed_into_codes(options):
    V = dense(40, 24)
    family = SimHash.create(24, k=5, l=3, seed=0, **options)
    planes = family.planes.toarray() if "sparsity" in options else family.planes
    ref = naive.sign_hashes(V, planes, 3)
    assert (family.hashes(V) == ref).all()
    assert (family.codes(V) == naive.pack_bits(ref)).all()


def test_sparse_planes_have_the_share_of_entries_that_was_asked_for():
    planes = SimHash.create(40, k=4, l=5, seed=0, entries="sign", sparsity=0.25).planes
    assert (np.count_nonzero(planes.toarray(), axis=0) == 10).all()
    assert set(planes.data) == {-1.0, 1.0}
    restored = SimHash.from_arrays(SimHash(planes, 5).arrays())
    assert (restored.planes != planes).nnz == 0


def test_simhash_probes_flip_the_least_certain_signs_first():
    V = dense(20, 24)
    family = SimHash.create(24, k=4, l=3, seed=0)
    sizes = np.abs(V @ family.planes).reshape(20, 3, 4)
    probes = family.probes(V, 16)
    for row, table in np.ndindex(20, 3):
        ref, total_of = naive.cheapest_flips(sizes[row, table].tolist(), 16)
        flips = probes[row, table] ^ probes[row, table, 0]
        assert np.allclose([total_of[mask] for mask in flips.tolist()], ref, rtol=1e-5)


@pytest.mark.parametrize("options", [{}, {"entries": "sign"}, {"entries": "sign", "sparsity": 0.3}])
def test_simhash_collides_by_the_angle(options):
    V = dense(2, 200)
    for mix in (0.2, 1.0, 3.0):
        pair = np.stack([V[0], V[0] + np.float32(mix) * V[1]])
        cosine = pair[0] @ pair[1] / np.linalg.norm(pair[0]) / np.linalg.norm(pair[1])
        ref = 1 - np.arccos(cosine) / np.pi
        hashes = SimHash.create(200, k=20, l=200, seed=1, **options).hashes(pair)
        got = (hashes[0] == hashes[1]).mean()
        assert abs(got - ref) < 4 * np.sqrt(ref * (1 - ref) / hashes[0].size)


# --- DWTA


@pytest.mark.parametrize("density", [1.0, 0.3, 0.03])
def test_dwta_hashes_are_winners_and_empty_bins_borrow(density):
    V = np.round(sparse_rows(30, 26, density) * 8) / 8  # coarse, so that values tie
    V[1] *= -1
    family = DWTA.create(26, k=4, l=5, seed=3, bits=6, bin_size=4)
    ref = naive.winner_hashes(V, family.bins, family.places, 20, 3).reshape(30, 5, 4, 3)
    first, second, leads = ref[..., 0].astype(int), ref[..., 1].astype(int), ref[..., 2]
    assert (family.hashes(V) == first).all()
    assert (family.codes(V) == naive.fold_all(first, 3, 64)).all()
    probes = family.probes(V, 2)
    for row, table in np.ndindex(30, 5):
        closest = leads[row, table].argmin()
        if leads[row, table, closest] == np.inf:
            assert probes[row, table, 1] == -1
            continue
        replaced = first[row, table].copy()
        replaced[closest] = second[row, table, closest]
        ref_bucket = naive.fold(replaced, table, 3, 64)
        assert probes[row, table, 1] in (ref_bucket, -1)
        assert (probes[row, table, 1] == -1) == (ref_bucket == probes[row, table, 0])


def test_every_dwta_bin_has_its_places_once():
    family = DWTA.create(26, k=4, l=5, seed=0, bin_size=4)
    for h in range(20):
        assert sorted(family.places[family.bins == h]) == [0, 1, 2, 3]


@pytest.mark.parametrize("size", [2, 3, 5])
def test_dwta_collides_when_random_bins_have_the_same_winner(size):
    V = dense(2, 11)
    V[1] += V[0]
    ref = naive.subset_agreement(V[0], V[1], size)
    hashes = DWTA.create(11, k=20, l=200, seed=1, bin_size=size).hashes(V)
    got = (hashes[0] == hashes[1]).mean()
    # Bins of one permutation are disjoint, so they vary less than independent ones.
    assert 0.1 < ref < 0.95
    assert abs(got - ref) < 4 * np.sqrt(ref * (1 - ref) / hashes[0].size)


def test_vectors_with_the_same_order_have_the_same_dwta_codes():
    V = np.abs(dense(5, 30))
    family = DWTA.create(30, k=3, l=10, seed=0)
    assert (family.codes(V) == family.codes(V**3 * 7)).all()


# --- MinHash


def test_minhash_hashes_are_the_first_features_of_random_orders():
    V = sparse_rows(20, 30)
    family = MinHash.create(30, k=2, l=4, seed=5, bits=7)
    ref = naive.min_hashes(V, family.seeds).reshape(20, 4, 2, 2)
    assert (family.hashes(V) == ref[..., 0]).all()
    assert (family.codes(V) == naive.fold_all(ref[..., 0], 5, 128)).all()
    replaced = ref[..., 0].copy()
    replaced[..., 0] = ref[..., 0, 1]
    rich = (V > 0).sum(axis=1) > 1
    second = naive.fold_all(replaced, 5, 128)
    assert (family.probes(V, 2)[rich, :, 1] == second[rich]).mean() > 0.95  # the rest coincide


def test_minhash_collides_by_jaccard():
    V = sparse_rows(3, 60, 0.5, seed=2)[1:]
    for pair in (V, np.stack([V[0], V[0] * (np.arange(60) < 40)])):
        ref = naive.jaccard(*pair)
        hashes = MinHash.create(60, k=20, l=200, seed=1).hashes(pair)
        got = (hashes[0] == hashes[1]).mean()
        assert abs(got - ref) < 4 * np.sqrt(ref * (1 - ref) / hashes[0].size)


@pytest.mark.parametrize("name", ["dwta", "minhash"])
def test_only_empty_vectors_go_to_bucket_zero(name):
    V = sparse_rows(200, 24)
    empty = ~V.any(axis=1)
    family = make_family(name, V, k=2, l=5, seed=0, bits=3)
    stored_zeros = sparse.csr_array((np.zeros(1, np.float32), ([0], [3])), shape=(1, 24))
    assert (family.codes(stored_zeros) == 0).all()
    assert (family.codes(V)[empty] == 0).all()
    assert (family.codes(V)[~empty] > 0).all()
    assert (family.probes(V, 4)[empty, :, 1:] == -1).all()
    assert (family.hashes(V)[empty] == -1).all()


# --- Centroids


def directions(family, V):
    return family.codes(V)[:, 0] // family.n_levels


def test_centroid_codes_are_the_nearest_directions_and_levels_of_length():
    V = dense(300, 16) * np.random.default_rng(1).lognormal(0, 0.8, (300, 1)).astype(np.float32)
    V[7] = 0
    family = Centroids.fit(V, n_directions=13, l=2, seed=0)
    lengths = np.linalg.norm(V, axis=1)
    unit = V / np.maximum(lengths, 1e-9)[:, None]
    ratios = np.maximum(lengths, 1e-9)[:, None] / family.lengths
    levels = np.abs(np.log(ratios)).argmin(axis=1)
    assert len(set(levels)) > 3
    for table in range(2):
        distances = np.linalg.norm(unit[:, None] - family.centroids[table], axis=2)
        codes = family.codes(V)[:, table]
        ref = distances.argmin(axis=1) * family.n_levels + levels
        assert (codes == ref)[lengths > 0].all()
        assert codes[7] == family.n_levels - 1  # points nowhere


def test_centroid_probes_expect_the_largest_products():
    V = dense(200, 16) * np.random.default_rng(1).lognormal(0, 0.8, (200, 1)).astype(np.float32)
    family = Centroids.fit(V, n_directions=9, l=2, seed=0)
    for table, n_probes in ((0, family.n_buckets), (1, family.n_buckets), (1, 20)):
        centroids, radii = family.centroids[table], family.radii[table]
        expected = V @ centroids.T + np.linalg.norm(V, axis=1)[:, None] * radii
        keys = (expected[:, :, None] * family.lengths).reshape(200, -1)
        probes = family.probes(V, n_probes)[:, table]
        for row in range(200):
            positive = np.argsort(-keys[row], kind="stable")[: (keys[row] >= 0).sum()]
            assert (probes[row, : len(positive)] == positive[:n_probes]).all()
            assert len(set(probes[row])) == n_probes


def test_centroid_probes_pass_over_buckets_without_neurons():
    V = dense(60, 8) * np.random.default_rng(1).lognormal(0, 0.8, (60, 1)).astype(np.float32)
    family = Centroids.fit(V, n_directions=9, l=2, seed=0)
    tables = build_tables(family.codes(V), family.n_buckets)
    every, probes = family.probes(V, family.n_buckets), family.probes(V, 70, tables.filled)
    for row, table in np.ndindex(60, 2):
        holds = np.isin(every[row, table], tables.codes[:, table])
        first = every[row, table, holds][:9].tolist()  # all of which expect a positive product
        assert probes[row, table, : len(first)].tolist() == first
        known = probes[row, table][probes[row, table] >= 0]
        assert sorted(known) == sorted(set(tables.codes[:, table]))


def test_levels_are_as_many_as_the_lengths_ask_for():
    V = dense(400, 8)
    unit = V / np.linalg.norm(V, axis=1, keepdims=True)
    assert Centroids.fit(unit, n_directions=4, l=1, seed=0).n_levels == 1
    longer = unit * np.geomspace(1, 10, 400, dtype=np.float32)[:, None]
    levels = Centroids.fit(longer, n_directions=4, l=1, seed=0).lengths
    assert np.allclose(levels[0], 10)
    assert 0.5 < levels[-1] < 2
    far = unit * np.geomspace(1, 1e9, 400, dtype=np.float32)[:, None]
    assert Centroids.fit(far, n_directions=4, l=1, seed=0).n_levels == MOST_LEVELS
    longer[0] *= 1e5
    family = Centroids.fit(longer, n_directions=4, l=1, seed=0)
    assert len(set(family.codes(longer)[:, 0] % family.n_levels)) > 4  # one does not hide the rest


def test_a_radius_is_the_standard_deviation_of_directions():
    V = dense(20_000, 6) + 7
    family = Centroids.fit(V, n_directions=1, l=1, seed=0)
    unit = V / np.linalg.norm(V, axis=1, keepdims=True)
    assert np.allclose(family.centroids[0, 0], unit.mean(axis=0), atol=0.01)
    assert np.allclose(family.radii, np.sqrt(unit.var(axis=0).mean()), rtol=0.03)


def test_a_wide_bucket_is_probed_before_a_narrow_one_of_the_same_mean():
    centroids, lengths = np.ones((1, 2, 3), np.float32), np.ones(1, np.float32)
    family = Centroids(centroids, np.array([[0.1, 0.5]], np.float32), lengths)
    assert family.probes(dense(4, 3), 2)[:, 0].tolist() == [[1, 0]] * 4


def test_equal_centroids_give_the_smaller_bucket():
    lengths = np.ones(1, np.float32)
    family = Centroids(np.ones((1, 4, 3), np.float32), np.zeros((1, 4), np.float32), lengths)
    assert (family.probes(dense(5, 3), 3) == [0, 1, 2]).all()


def test_numbers_that_are_none_give_no_bucket_that_does_not_exist():
    centroids = np.full((1, 3, 4), np.nan, np.float32)
    family = Centroids(centroids, np.zeros((1, 3), np.float32), np.array([2, 1], np.float32))
    probes = family.probes(dense(5, 4), 6)
    assert ((probes >= -1) & (probes < 6)).all()


@pytest.mark.parametrize("as_rows", [np.asarray, sparse.csr_array])
def test_centroids_find_clusters_and_share_them_out(as_rows):
    rng = np.random.default_rng(0)
    clusters = rng.standard_normal((8, 20))
    member = np.repeat(np.arange(8), 50)
    V = as_rows((clusters[member] + 0.1 * rng.standard_normal((400, 20))).astype(np.float32))
    codes = directions(Centroids.fit(V, n_directions=8, l=1, seed=0), V)
    for cluster in range(8):
        assert len(set(codes[member == cluster])) == 1
    assert len(set(codes)) == 8
    more = directions(Centroids.fit(V, n_directions=24, l=1, seed=0), V)
    assert np.bincount(more).max() < 3 * 400 / 24


def test_a_centroid_learns_from_a_sample_of_the_vectors():
    V = dense(5000, 8)
    family = Centroids.fit(V, n_directions=3, l=1, seed=0)  # 2048 of the 5000
    codes = directions(family, V)
    V = V / np.linalg.norm(V, axis=1, keepdims=True)
    explained = 1 - np.square(V - family.centroids[0, codes]).sum() / np.square(V).sum()
    assert explained > 0.12  # of 8 dimensions, three means can explain about one
    assert np.bincount(codes, minlength=3).min() > 1000


def test_equal_vectors_and_zeros_can_be_clustered():
    for V in (np.ones((9, 4), np.float32), np.zeros((9, 4), np.float32)):
        family = Centroids.fit(V, n_directions=9, l=2, seed=0)
        assert np.isfinite(family.centroids).all()
        assert (family.codes(V) == family.codes(V)[0]).all()


def test_the_default_number_of_buckets_follows_the_number_of_vectors():
    for n, n_directions in ((2, 2), (800, 80)):
        family = make_family("centroids", dense(n, 3), k=1, l=1, seed=0)
        assert family.n_buckets == n_directions * family.n_levels


# --- Centring


@given(st.integers(2, 30), st.integers(1, 6), st.floats(0, 100), st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_centring_ranks_neurons_as_before(n, d, bias_size, seed):
    rng = np.random.default_rng(seed)
    W, H = rng.standard_normal((n, d)) + 3, rng.random((7, d)) + 1
    b = bias_size * rng.standard_normal(n)
    centring = Centring.fit(W, b, H[:5])
    scores = centring.queries(H).astype(float) @ centring.neurons(W, b).astype(float).T
    shift = scores - (H @ W.T + b)  # one number per query
    size = 1 + np.abs(b).max() + np.abs(H @ W.T).max()
    assert np.allclose(shift, shift[:, :1], atol=1e-5 * size)


def test_centring_takes_the_means_away_and_balances_the_bias():
    rng = np.random.default_rng(0)
    W, H = dense(500, 6) + 3, np.abs(dense(400, 6, seed=1))
    b = rng.standard_normal(500).astype(np.float32)
    centring = Centring.fit(W, b, H)
    neurons, queries = centring.neurons(W, b), centring.queries(H)
    assert neurons.dtype == queries.dtype == np.float32
    assert neurons.shape == (500, 7)
    assert np.allclose(neurons.mean(axis=0), 0, atol=1e-5)
    assert np.allclose(queries[:, :-1].mean(axis=0), 0, atol=1e-5)
    shares = [(V[:, -1] ** 2).sum() / (V**2).sum() for V in (neurons, queries)]
    assert np.isclose(*shares, rtol=1e-4)


def test_centring_without_any_spread_is_finite():
    W, b = np.ones((4, 3), np.float32), np.zeros(4, np.float32)
    for bias in (b, np.arange(4, dtype=np.float32)):
        centring = Centring.fit(W, bias, W[:2])
        assert np.isfinite(centring.neurons(W, bias)).all()
        assert np.isfinite(centring.queries(W)).all()
        order = (centring.queries(W[:1]) @ centring.neurons(W, bias).T).argsort(kind="stable")
        assert (order == np.arange(4)).all()
