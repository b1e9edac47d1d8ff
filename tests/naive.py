"""Plain NumPy oracles: the same answers the slow and obvious way, from nothing of the package."""

from itertools import combinations

import numpy as np

# --- pseudo-random integers, with Python's integers that cannot overflow


def mix32(x):
    x &= 0xFFFFFFFF
    x ^= x >> 16
    x = x * 0x3504F333 % 2**32
    x ^= x >> 15
    x = x * 0x5DB3D743 % 2**32
    return x ^ (x >> 16)


def mix_pair(a, b):
    return mix32((mix32(a) * 5 + b + 1) % 2**32)


def below(x, bound):
    return x * bound // 2**32


# --- hash families


def sign_hashes(V, planes, n_tables):
    return (V @ planes > 0).astype(int).reshape(len(V), n_tables, -1)


def pack_bits(hashes):
    return (hashes << np.arange(hashes.shape[2])).sum(axis=2)


def cheapest_flips(costs, n_flips):
    """Total costs of the cheapest subsets, and the cost of any subset by its bit mask."""
    total = {
        mask: sum(cost for k, cost in enumerate(costs) if mask >> k & 1)
        for mask in range(2 ** len(costs))
    }
    return sorted(total.values())[:n_flips], total


def two_winners(vector, features, places):
    """Places of the two largest non-zero values of a bin, and the lead of the first."""
    filled = sorted((-vector[i], place) for i, place in zip(features, places, strict=True))
    filled = [(value, place) for value, place in filled if value != 0]
    first = filled[0][1] if filled else -1
    second = filled[1][1] if len(filled) > 1 else -1
    return first, second, filled[1][0] - filled[0][0] if len(filled) > 1 else np.inf


def winner_hashes(V, bins, places, n_hashes, seed):
    """Winners, runners-up and leads of every bin; empty bins ask others."""
    out = []
    for vector in V:
        found = []
        for h in range(n_hashes):
            features, permutations = np.nonzero(bins == h)
            found.append(two_winners(vector, features, places[features, permutations]))
        borrowed = list(found)
        for h in range(n_hashes):
            for attempt in range(100):
                if borrowed[h][0] >= 0:
                    break
                borrowed[h] = found[below(mix_pair(mix_pair(seed, h), attempt), n_hashes)]
        out.append(borrowed)
    return np.array(out)  # (n, L * K, 3)


def min_hashes(V, seeds):
    """The first and second feature of every vector in every order, -1 for none."""
    out = np.full((len(V), len(seeds), 2), -1)
    for row, vector in enumerate(V):
        for h, seed in enumerate(seeds):
            order = sorted(np.flatnonzero(vector), key=lambda i, s=seed: mix32(int(i) ^ int(s)))
            out[row, h, : min(2, len(order))] = order[:2]
    return out


def fold(hashes, table, seed, n_buckets):
    mixed = mix_pair(seed, table)
    for value in hashes:
        mixed = mix_pair(mixed, int(value))
    return 1 + below(mixed, n_buckets - 1) if max(hashes) >= 0 else 0


def fold_all(hashes, seed, n_buckets):
    """Codes (n, L) of hashes (n, L, K)."""
    return np.array(
        [[fold(h, t, seed, n_buckets) for t, h in enumerate(tables)] for tables in hashes]
    )


def subset_agreement(v, w, size):
    """Share of the subsets of ``size`` features whose largest value is at the same feature."""
    subsets = [list(s) for s in combinations(range(len(v)), size)]
    return np.mean([v[s].argmax() == w[s].argmax() for s in subsets])


def jaccard(v, w):
    return np.logical_and(v, w).sum() / np.logical_or(v, w).sum()


# --- tables


def build_tables(codes, n_buckets):
    """Lists of neurons: [table][bucket]."""
    return [[list(np.flatnonzero(column == b)) for b in range(n_buckets)] for column in codes.T]


def window(bucket, cap, seed, example, table, probe):
    """What an example reads of a bucket."""
    if len(bucket) <= cap:
        return bucket
    start = below(mix_pair(mix_pair(mix_pair(seed, example), table), probe), len(bucket))
    return (bucket + bucket)[start : start + cap]


def visiting_order(n_tables, seed, example):
    order = list(range(n_tables))
    for i in range(n_tables):
        draw = mix_pair(mix_pair(mix_pair(seed, example), i), -1)
        j = i + below(draw, n_tables - i)
        order[i], order[j] = order[j], order[i]
    return order


def retrieve(buckets, probes, example, limit, cap, strategy, min_count, seed):
    """Neurons with their counts for one example, and how many buckets were cut."""
    counts, n_cut = {}, 0
    vanilla = strategy == "vanilla"
    tables = range(len(buckets))
    for table in visiting_order(len(buckets), seed, example) if vanilla else tables:
        for p, bucket in enumerate(probes[table]):
            if bucket < 0 or (vanilla and len(counts) == limit):
                continue
            n_cut += len(buckets[table][bucket]) > cap
            for neuron in window(buckets[table][bucket], cap, seed, example, table, p):
                if vanilla and len(counts) == limit:
                    break
                counts[neuron] = counts.get(neuron, 0) + 1
    found = list(counts.items())
    if not vanilla:
        least = min_count if strategy == "threshold" else 1
        found = sorted((f for f in found if f[1] >= least), key=lambda f: (-f[1], f[0]))[:limit]
    return found, n_cut
