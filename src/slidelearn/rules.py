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
    return Config.from_dict(overrides or {})
