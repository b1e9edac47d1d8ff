"""Hash families: vectors -> K hashes in each of L tables -> one bucket in each table."""

import math
from typing import Any

from numpy.typing import NDArray

from slidelearn.errors import ConfigError
from slidelearn.hashing.centring import Centring
from slidelearn.hashing.centroids import Centroids
from slidelearn.hashing.dwta import DWTA
from slidelearn.hashing.minhash import MinHash
from slidelearn.hashing.simhash import SimHash
from slidelearn.hashing.vectors import HashFamily, Vectors

__all__ = [
    "DWTA",
    "FAMILIES",
    "Centring",
    "Centroids",
    "HashFamily",
    "MinHash",
    "SimHash",
    "Vectors",
    "make_family",
    "restore_family",
]

FAMILIES: dict[str, type[SimHash] | type[DWTA] | type[MinHash] | type[Centroids]] = {
    family.name: family for family in (SimHash, DWTA, MinHash, Centroids)
}


def make_family(
    name: str,
    vectors: Vectors,
    *,
    k: int,
    l: int,  # noqa: E741
    seed: int,
    **options: Any,
) -> HashFamily:
    """Make the hash family of a given name for the vectors of a layer's neurons.

    Parameters
    ----------
    name : {"simhash", "dwta", "minhash", "centroids"}
        Which family.
    vectors : float32 array or CSR matrix of shape (n, d)
        The vectors that will be filed. Random families only take their width from them.
    k : int
        Hashes per table; "centroids" always has one.
    l : int
        Tables.
    seed : int
        The same seed gives the same family.
    **options
        Passed on to the family's ``create`` or ``fit``. For "centroids", ``n_directions`` defaults
        to sqrt(8 n): ranking that many then costs as much as reading 8 of them.

    Raises
    ------
    ConfigError
        If there is no such family, or a setting is out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> family = make_family("simhash", np.zeros((10, 3), np.float32), k=4, l=2, seed=0)
    >>> family.n_tables, family.n_buckets
    (2, 16)
    """
    family: Any = _find(name)
    made: HashFamily
    if family is Centroids:
        n = vectors.shape[0]
        options.setdefault("n_directions", min(n, math.ceil(math.sqrt(8 * n))))
        made = family.fit(vectors, l=l, seed=seed, **options)
    else:
        made = family.create(vectors.shape[1], k=k, l=l, seed=seed, **options)
    return made


def restore_family(name: str, arrays: dict[str, NDArray[Any]]) -> HashFamily:
    """Restore a family from its name and what its ``arrays()`` returned.

    Raises
    ------
    ConfigError
        If there is no such family.
    """
    return _find(name).from_arrays(arrays)


def _find(name: str) -> type[SimHash] | type[DWTA] | type[MinHash] | type[Centroids]:
    """Return the class of a family."""
    if name not in FAMILIES:
        raise ConfigError(f"hash family is {name!r}, choose one of {', '.join(FAMILIES)}")
    return FAMILIES[name]
