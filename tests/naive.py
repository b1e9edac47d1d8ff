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


# --- sketches


def most_products(V, C, q, turn):
    """At most, or nearly always, the products of neurons V (N, d + 1) with a query q (d + 1,).

    C (N, d + 1) are their centroids, ``turn`` (D,) the signs before a Hadamard matrix.
    """
    matrix = np.ones((1, 1))
    while len(matrix) < len(turn):
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    matrix = matrix * turn / np.sqrt(len(turn))
    d, lengths = V.shape[1] - 1, np.linalg.norm(V, axis=1, keepdims=True)
    rest = np.divide(V, lengths, out=np.zeros_like(V), where=lengths > 0) - C
    turned, asked = rest[:, :d] @ matrix[:, :d].T, matrix[:, :d] @ q[:d]
    step = np.abs(asked).max() / 7
    signs = np.where(turned > 0, 1, -1) @ np.rint(asked / step) * step
    worth = np.square(turned).sum(axis=1) / np.abs(turned).sum(axis=1)
    last = q[d] * (V[:, d] - lengths[:, 0] * C[:, d])
    return lengths[:, 0] * (C @ q + worth * (signs + np.linalg.norm(asked))) + last


def promises(Q, C, radii, lengths, reach):
    """What the buckets (n, C * S) of C directions and S lengths have at most for queries Q (n, d).

    As far as some neuron is so many standard deviations better than its centroid.
    """
    most = Q @ C.T + reach * np.linalg.norm(Q, axis=1, keepdims=True) * radii
    own = np.where(most[:, :, None] > 0, lengths, lengths[-1])
    return (most[:, :, None] * own).reshape(len(Q), -1)


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


def window(bucket, cap, room, seed, example, table, probe):
    """What an example that has room for some more neurons reads of a bucket."""
    if len(bucket) <= min(cap, room):
        return bucket
    start = below(mix_pair(mix_pair(mix_pair(seed, example), table), probe), len(bucket))
    return (bucket + bucket)[start : start + min(cap, len(bucket))]


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
            room = limit - len(counts) if vanilla else cap
            for neuron in window(buckets[table][bucket], cap, room, seed, example, table, p):
                if vanilla and len(counts) == limit:
                    break
                counts[neuron] = counts.get(neuron, 0) + 1
    found = list(counts.items())
    if not vanilla:
        least = min_count if strategy == "threshold" else 1
        found = sorted((f for f in found if f[1] >= least), key=lambda f: (-f[1], f[0]))[:limit]
    return found, n_cut


# --- optimizers and losses, in float64

BIAS_INPUT = 0.1
ADAGRAD_START, WIDE_START = 1e-2, 1.0


def with_bias(H):
    return np.column_stack([H, np.full(len(H), BIAS_INPUT)])


def optimizer_state(kind, shape):
    """Adagrad's sum of mean squared gradients; Adam's moments and the steps of every row."""
    return {
        "adagrad": lambda: {"squares": np.full(shape[0], ADAGRAD_START)},
        "sgd": dict,
        "adam": lambda: {"m": np.zeros(shape), "v": np.zeros(shape), "t": np.zeros(shape[0])},
    }[kind]()


def move_rows(kind, weight, gradient, rows, lr, decay=0.0, state=None):
    """Move some rows of weights along their gradients; returns the new weights."""
    weight, g = weight.astype(float), gradient[rows]
    state = optimizer_state(kind, weight.shape) if state is None else state
    if kind == "adagrad":
        state["squares"][rows] += (g**2).mean(axis=1)
        change = g / np.sqrt(state["squares"][rows])[:, None]
    elif kind == "sgd":
        change = g
    else:
        state["t"][rows] += 1
        state["m"][rows] = 0.9 * state["m"][rows] + 0.1 * g
        state["v"][rows] = 0.999 * state["v"][rows] + 0.001 * g**2
        t = state["t"][rows][:, None]
        m, v = state["m"][rows] / (1 - 0.9**t), state["v"][rows] / (1 - 0.999**t)
        change = m / (np.sqrt(v) + 1e-8)
    weight[rows] -= lr * change + lr * decay * weight[rows]
    return weight


def strata_weights(active, tail, tail_weights, n_neurons):
    """How many neurons each neuron stands for: 1 in T, its weight in U, 0 elsewhere."""
    weights = np.zeros(n_neurons)
    weights[tail] = tail_weights
    weights[active] = 1
    return weights


def stratified_loss(kind, labels, weights, logits):
    """Loss of one example and its gradient by the logits (N,)."""
    target = np.zeros(len(logits))
    target[labels] = 1
    if kind == "softmax":
        if len(labels) == 0:
            return 0.0, np.zeros(len(logits))
        top = logits[weights > 0].max()
        masses = np.where(weights > 0, weights * np.exp(np.minimum(logits - top, 0)), 0)
        loss = np.log(masses.sum()) + top - logits[labels].mean()
        return loss, masses / masses.sum() - target / len(labels)
    sign = 2 * target - 1
    if kind == "bce":
        losses = np.logaddexp(0, -sign * logits)
        return weights @ losses, weights * -sign * np.exp(-np.logaddexp(0, sign * logits))
    short = np.maximum(1 - sign * logits, 0)
    return weights @ short**2, weights * -2 * sign * short


def central_differences(function, at, step=1e-6):
    """Gradient of a function of a vector."""
    moved = np.eye(len(at)) * step
    return np.array([(function(at + m) - function(at - m)) / (2 * step) for m in moved])


# --- a network: neuron-major weights (n_out, n_in + 1), dense float64 arrays, masks for active sets


def pair_logits(H, weight, active):
    """Logits of every example's active neurons, one after the other."""
    rows = zip(with_bias(H), active, strict=True)
    return np.concatenate([weight[neurons] @ h for h, neurons in rows])


def forward(weights, masks, mean, X):
    """Inputs of every layer and gates of the hidden ones; a mask (n, n_out) of None is all."""
    inputs, gates = [X], []
    for weight, mask in zip(weights[:-1], masks, strict=True):
        z = with_bias(inputs[-1]) @ weight.T
        gates.append((z > 0) if mask is None else (z > 0) & mask)
        inputs.append(z * gates[-1])
    inputs[-1] = inputs[-1] - mean
    return inputs, gates


def loss_and_gradients(kind, weights, masks, mean, wide, X, labels, active, tail, left_out):
    """Summed loss, its gradients by all weights, and by the logits (n, N).

    ``left_out`` is, by label, what times the length of a hidden vector and what times the squared
    length of an example its labels' logits are lowered by, and which labels are no targets.
    """
    inputs, gates = forward(weights, masks, mean, X)
    n_neurons = len(weights[-1])
    deep, sparse = with_bias(inputs[-1]) @ weights[-1].T, X @ wide.T
    total, delta = 0.0, np.zeros_like(deep)
    for i, own in enumerate(active):
        logits = deep[i] + sparse[i]
        for label in labels[i]:
            logits[label] -= left_out[0][label] * np.sqrt((inputs[-1][i] ** 2).sum())
            logits[label] -= left_out[1][label] * (X[i] ** 2).sum()
        targets = [label for label in labels[i] if not left_out[2][label]]
        strata = strata_weights(own, *tail, n_neurons)
        strata[np.setdiff1d(labels[i], targets).astype(int)] = 0
        loss, delta[i] = stratified_loss(kind, targets, strata, logits)
        total += loss
    logit_gradient, gradients = delta, [delta.T @ with_bias(inputs[-1])]
    for depth in range(len(gates) - 1, -1, -1):
        delta = (delta @ weights[depth + 1][:, :-1]) * gates[depth]
        gradients.insert(0, delta.T @ with_bias(inputs[depth]))
    return total, gradients, logit_gradient


def prior_classes(counts, targets, per_doubling=2):
    """Class of every example's labels (n, N) by their counts without the example itself."""
    without = np.asarray(counts) - np.asarray(targets)
    return np.floor(per_doubling * np.log2(without + 1.0)).astype(int)


def move_wide(weights, present, X, delta, active, tail, lr):
    """Adagrad on every weight alone; ``present`` (N, d) are stored.

    Active pairs move one example after the other, then the tail by the sum over all examples.
    """
    weights, squares = weights.astype(float), np.full(weights.shape, WIDE_START)
    delta = delta.copy()
    for i, own in enumerate(active):
        for neuron in own:
            there = present[neuron] & (X[i] != 0)
            g = delta[i, neuron] * X[i, there]
            squares[neuron, there] += g**2
            weights[neuron, there] -= lr * g / np.sqrt(squares[neuron, there])
            delta[i, neuron] = 0
    for neuron in tail:
        there = present[neuron]
        g = delta[:, neuron] @ X[:, there]
        squares[neuron, there] += g**2
        weights[neuron, there] -= lr * g / np.sqrt(squares[neuron, there])
    return weights


def postings(weights, stored, size, X):
    """Labels filed under each feature, of weights (N, d); their summed weights for X, (n, N)."""
    kept = np.zeros(weights.shape, bool)
    for feature in range(weights.shape[1]):
        there = np.flatnonzero(stored[:, feature])
        best = there[np.lexsort((there, -weights[there, feature]))][:size]
        kept[best, feature] = True
    return [np.flatnonzero(column) for column in kept.T], X @ (weights * kept).T


def label_centroids(V, Y, length):
    """Mean vector of every label's examples at the length (N, 1); zeros without examples."""
    sums = Y.T @ V
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    return length * np.divide(sums, lengths, out=np.zeros_like(sums), where=lengths > 0)


def trust(Y, doubt=3):
    """Share of the length that a centroid starts with, (N, 1)."""
    counts = Y.sum(axis=0)[:, None]
    return np.divide(counts, counts + doubt, out=np.zeros(counts.shape), where=counts > 0)


def left_out_scores(X, Y, length, prior, doubt, asking=None):
    """Scores (n, N) of examples for centroids of the others, -inf where no other has a label.

    ``asking`` (n, d) is what asks, if it is not X.
    """
    scores = np.empty(Y.shape)
    for i, asks in enumerate(X if asking is None else asking):
        others = np.arange(len(X)) != i
        counts = Y[others].sum(axis=0)
        centroids = label_centroids(X[others], Y[others], length * trust(Y[others], doubt))
        scores[i] = centroids @ asks + prior * np.log(np.maximum(counts, 1))
        scores[i, counts == 0] = -np.inf
    return scores


def largest_features(metrics, ignored):
    """Which features of examples, (n, d) by every metric, are not of the smallest.

    Those are, in the order of the largest share of a squared length that they have by any metric,
    the first ones that have ``ignored`` of it together, or less by every metric.
    """
    shares = np.array(
        [X**2 / np.maximum((X**2).sum(axis=1, keepdims=True), 1e-99) for X in metrics]
    )
    kept = np.empty(metrics[0].shape, bool)
    for i in range(len(kept)):
        order = np.argsort(shares[:, i].max(axis=0), kind="stable")
        kept[i, order] = np.cumsum(shares[:, i, order], axis=1).max(axis=0) > ignored
    return kept


def feature_values(X, Y, expected=2):
    """Relevance and rarity of every feature of X (n, d): see `slidelearn.weighting`."""
    there, (n, d) = X != 0, X.shape
    shared, met = np.zeros(d), np.zeros(d)
    for label in Y.T > 0:
        own = np.flatnonzero(label)
        for i in own if len(own) > 1 else []:
            others = own[own != i]
            met += there[i]
            shared += there[i] * there[others].mean(axis=0)
    share = np.maximum(there.sum(axis=0), 1) / n
    rarity = np.sqrt(np.log(1 + 1 / share))
    if shared.sum() == 0:
        return np.ones(d), rarity
    again = (shared + expected * shared.sum() / met.sum()) / (met + expected)
    return np.sqrt(np.log(1 + again / share)) / rarity, rarity


def weighted(X, weights, power=1):
    """Features to a power, with their signs, times their weights, every example at length 1."""
    X = np.sign(X) * np.abs(X) ** power * weights
    lengths = np.linalg.norm(X, axis=1, keepdims=True)
    return np.divide(X, lengths, out=np.zeros_like(X), where=lengths > 0)


def left_out_precisions(X, Y, length, prior, doubt, more=0.0, asking=None):
    """P@1, P@3 and P@5 of every example among centroids of the others, summed up.

    ``more`` (n, N) is added to the scores; ``asking`` (n, d) is what asks, if it is not X.
    """
    scores = left_out_scores(X, Y, length, prior, doubt, asking) + more
    hit = np.zeros((len(X), 5))
    for i in range(len(X)):
        labels = np.lexsort((np.arange(Y.shape[1]), -scores[i]))[:5]
        hit[i, : len(labels)] = Y[i, labels] * np.isfinite(scores[i, labels])
    return sum(hit[:, :k].sum(axis=1) / k for k in (1, 3, 5))


def as_good(sums, errors=2):
    """The rows of sums that miss the largest total by so many standard errors or less."""
    behind = sums[np.argmax(np.sum(sums, axis=1))] - np.array(sums)
    return np.flatnonzero(
        behind.sum(axis=1) <= errors * behind.std(axis=1) * np.sqrt(len(behind[0]))
    )


def centroid_start(H, Y, temperature):
    """Output neurons (N, d) whose logit is the temperature where an average example points."""
    lengths = np.linalg.norm(H, axis=1, keepdims=True)
    unit = np.divide(H, lengths, out=np.zeros_like(H), where=lengths > 0)
    return label_centroids(unit, Y, trust(Y) * temperature / lengths.mean())


def top_k(scores, k):
    """Best first, the smaller id among equals; -1 and -inf where there are too few."""
    order = np.lexsort((np.arange(len(scores)), -scores))[:k]
    missing = k - len(order)
    return (
        np.concatenate([order, np.full(missing, -1)]),
        np.concatenate([scores[order], np.full(missing, -np.inf)]),
    )


def rebuild_steps(first, decay, n_steps):
    """Steps after which tables are rebuilt: every interval is exp(decay) times the one before."""
    steps, due = [], first
    for step in range(1, n_steps + 1):
        if step >= due:
            steps.append(step)
            due = step + first * np.exp(decay * len(steps))
    return steps


# --- the memory


def votes(X, Y, x, limit, strength, twin=0.0, sharpness=8):
    """What every label of one example x gains from its nearest examples X, labels Y.

    What has an example at a cosine of c loses c to the power of ``sharpness``, times ``twin``.
    """
    cosines = X @ x
    near = [i for i in np.argsort(-cosines, kind="stable")[:limit] if cosines[i] > 0]
    gains, repeats = np.zeros(Y.shape[1]), np.zeros(Y.shape[1])
    for i in near:
        gains[Y[i] > 0] += (cosines[i] / cosines[near[0]]) ** sharpness
        repeats[Y[i] > 0] = np.maximum(repeats[Y[i] > 0], min(cosines[i], 1) ** sharpness)
    total = sum((cosines[i] / cosines[near[0]]) ** sharpness for i in near)
    return strength * gains / total - twin * repeats if near else gains


# --- co-occurrence


def cooccurrence(Y, most, longest=50, doubt=3.0):
    """Shares (l, l) of a label's examples that have another; the ``most`` largest of a label."""
    short = Y[Y.sum(axis=1) <= longest].astype(float)
    together = short.T @ short
    np.fill_diagonal(together, 0)
    shares = together / (Y.sum(axis=0)[:, None] + doubt)
    for row in shares:
        row[np.argsort(-row, kind="stable")[most:]] = 0
    return shares


def company_scores(scores, shares, strength, floor=0.01):
    """Scores (l,) of candidates with what they gain by the company of shares (l, l)."""
    chances = np.exp(scores - scores.max())
    chances /= chances.sum()
    chances[chances < 1e-4] = 0
    return scores + strength * np.log1p(chances @ shares / floor)


# --- margins


def rivals(logits, own, size):
    """The ``size`` neurons of largest logits that are not ``own``; smaller ids among equals."""
    wrong = [n for n in range(len(logits)) if n not in own]
    return sorted(wrong, key=lambda n: (-logits[n], n))[:size]


def margin_objective(w, bias, X, signs, cost):
    """What a label's classifier minimises: half its squared length, and the squared hinges."""
    short = np.maximum(1 - signs * (X @ w + bias), 0)
    return (w @ w + bias * bias) / 2 + cost * (short**2).sum()


def penalised(logits, X, w, bias, strength):
    """Logits (n, l) less the squared hinges of the margins of weights (l, d) and biases (l,)."""
    return logits - strength * np.maximum(1 - (X @ w.T + bias), 0) ** 2


def stages(found, neurons, logits, biases, votes, limits, rivals=(), best=1, slack=np.inf):
    """Which of an example's neurons are left after two cuts, ascending; of equals the first are.

    Those stay whose keys are less than ``slack`` below the last of as many ``best`` as these and
    ``rivals`` have.

    ``found`` maps a neuron to what it weighs, bias included; others weigh no more than the least.
    Where nothing was found, the logits alone hold the bias.
    The first cut knows that and ``votes``, the second the logits, too.
    """
    least = min(found.values(), default=0.0)
    keys = np.array([found.get(int(n), least) for n in neurons]) + votes
    kept = np.argsort(-keys, kind="stable")[: limits[0]]
    kept = np.sort(kept)
    keys = (keys + logits - (biases if found else 0))[kept]
    left = np.argsort(-keys, kind="stable")[: limits[1]]
    bound = hopeful(np.concatenate((keys[left], rivals)), best, slack)
    return np.sort(neurons[kept[left[keys[left] >= bound]]])


def hopeful(keys, best, slack):
    """The least key that may be among so many best, if it may gain some slack on them."""
    return np.sort(keys)[-best] - slack if len(keys) >= best else -np.inf


def reads(weights, value, cap, faint, heaviest):
    """How many labels of a bucket are read, whose weights fall."""
    n = 0
    while n < min(cap, len(weights)):
        if min(faint, heaviest, value) > 0 and value * weights[n] < faint * heaviest * n / cap:
            break
        n += 1
    return n


def coarse_floats(values, scales, d):
    """Rows of numbers of 4 bits as floats (n, d): low halves of all bytes, then the high ones."""
    numbers = np.concatenate((values % 16, values // 16), axis=1).astype(np.float64) - 8
    return scales[:, None] * numbers[:, :d]


def head_keys(X, wide, margins, biases, shares, twins, worth, margin):
    """What speaks for labels but the hidden layer: keys, wide scores and squared hinges, (n, m).

    Weights are dense, (d, m); biases are those of the logits and of the margins.
    """
    scores = X @ wide
    hinges = np.maximum(0, 1 - X @ margins - biases[1]) ** 2
    return (
        biases[0] + scores + worth[0] * shares - worth[1] * twins - margin * hinges,
        scores,
        hinges,
    )
