"""Plain Python versions of the ranking metrics, one example at a time, for the tests."""

import math


def label_sets(Y):
    return [{int(j) for j in range(Y.shape[1]) if row[j] != 0} for row in Y]


def hits(top, Y):
    found = []
    for row, labels in zip(top.tolist(), label_sets(Y), strict=True):
        found.append([j in labels and j not in row[:at] for at, j in enumerate(row)])
    return found


def precision_at_k(top, Y, k):
    return sum(sum(row[:k]) for row in hits(top, Y)) / (k * len(top))


def ndcg_at_k(top, Y, k):
    total = 0.0
    for row, labels in zip(hits(top, Y), label_sets(Y), strict=True):
        ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(k, len(labels)) + 1))
        reached = sum(1 / math.log2(rank + 1) for rank, hit in enumerate(row[:k], 1) if hit)
        total += reached / ideal if labels else 0.0
    return total / len(top)


def propensity(Y, a=0.55, b=1.5):
    n = len(Y)
    c = (math.log(n) - 1) * (b + 1) ** a
    inverse = []
    for j in range(Y.shape[1]):
        frequency = sum(1 for row in Y if row[j] != 0)
        inverse.append(1 + c * (frequency + b) ** -a)
    return inverse


def psp_at_k(top, Y, inverse_propensity, k):
    reached = best = 0.0
    for row, ids, labels in zip(hits(top, Y), top.tolist(), label_sets(Y), strict=True):
        pairs = zip(row[:k], ids[:k], strict=True)
        reached += sum(inverse_propensity[j] for hit, j in pairs if hit)
        best += sum(sorted((inverse_propensity[j] for j in labels), reverse=True)[:k])
    return reached / best if best else 0.0


def recall_at_k(top, exact_top, k):
    found = wanted = 0
    for row, exact in zip(top.tolist(), exact_top.tolist(), strict=True):
        exact_ids = {j for j in exact[:k] if j >= 0}
        found += len(exact_ids & set(row[:k]))
        wanted += len(exact_ids)
    return found / wanted if wanted else 1.0
