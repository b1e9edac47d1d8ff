"""Small random batches for the tests of the engine; plain NumPy and SciPy."""

import numpy as np
from scipy import sparse


def random_features(n, width, seed=0, density=0.3):
    """A canonical float32 CSR matrix whose first row is empty."""
    rng = np.random.default_rng(seed)
    dense = rng.standard_normal((n, width)) * (rng.random((n, width)) < density)
    dense[0] = 0
    return sparse.csr_matrix(dense.astype(np.float32))


def random_labels(n, n_labels, seed=0, most=3):
    """A canonical uint8 CSR matrix; the second row has no label, the others one to ``most``."""
    rng = np.random.default_rng(seed)
    rows = [rng.choice(n_labels, rng.integers(1, most + 1), replace=False) for _ in range(n)]
    if n > 1:
        rows[1] = rows[1][:0]
    return label_matrix(rows, n_labels)


def label_matrix(rows, n_labels):
    """Lists of labels as a canonical uint8 CSR matrix."""
    indptr = np.concatenate(([0], np.cumsum([len(row) for row in rows])))
    columns = np.concatenate([np.sort(row) for row in rows]).astype(np.int32)
    ones = np.ones(len(columns), np.uint8)
    return sparse.csr_matrix((ones, columns, indptr), shape=(len(rows), n_labels))


def label_lists(Y):
    return [row.tolist() for row in np.split(Y.indices, Y.indptr[1:-1])]
