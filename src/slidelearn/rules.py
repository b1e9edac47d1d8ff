"""Rules: settings that are chosen from the shape of the data."""

from typing import Any

from scipy.sparse import csr_matrix

from slidelearn.config import Config

__all__ = ["choose_config"]


def choose_config(X: csr_matrix, Y: csr_matrix, overrides: dict[str, Any] | None = None) -> Config:
    """Choose every setting for features X (n, d) and labels Y (n, l); ``overrides`` win.

    Raises
    ------
    ConfigError
        If an override is unknown or out of its range.
    """
    return Config.from_dict(_dense_rules(X) | (overrides or {}))


def _dense_rules(X: csr_matrix) -> dict[str, Any]:
    """Settings for features of which more than half are not zero, such as measurements.

    The length of such an example says something, and the wide path would hold a weight for almost
    every pair of a feature and a label. Few examples are seen often, in small batches.
    """
    n, d = X.shape
    if X.nnz <= 0.5 * n * d:
        return {}
    rules: dict[str, Any] = {"normalize": False, "wide": 0.0}
    if n < 5000:
        rules |= {"batch_size": 64, "epochs": min(max(20_000 // n, 5), 30)}
    return rules
