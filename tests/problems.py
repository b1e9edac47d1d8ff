"""Small learning problems with a known answer; plain NumPy and SciPy."""

import numpy as np
from scipy.sparse import csr_matrix


def clusters(n=400, n_labels=40, n_features=60, seed=0, first_label=0):
    """Examples with one label each, whose features are those of the label and a random one.

    Every label owns three features that say which it is. Returns X, Y and the labels (n,).
    """
    rng = np.random.default_rng(seed)
    own = np.stack(
        [
            np.random.default_rng(label).choice(n_features, 3, replace=False)
            for label in range(2 * n_labels)
        ]
    )
    labels = np.concatenate([np.arange(n_labels), rng.integers(0, n_labels, n - n_labels)])
    labels += first_label
    columns = np.hstack([own[labels], rng.integers(0, n_features, (n, 1))])
    values = np.tile(np.array([1, 1, 1, 0.3], np.float32), n)
    rows = np.repeat(np.arange(n), 4)
    X = csr_matrix((values, (rows, columns.ravel())), shape=(n, n_features))
    ones = np.ones(n, np.uint8)
    Y = csr_matrix((ones, (np.arange(n), labels)), shape=(n, first_label + n_labels))
    return X, Y, labels
