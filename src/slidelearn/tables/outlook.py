"""Outlook: what the buckets of centroids promise to queries, for a search to follow."""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from slidelearn.hashing.centring import Centring
from slidelearn.hashing.centroids import Centroids
from slidelearn.small_rows import SmallRows, dot_small, small_rows
from slidelearn.tables.buckets import Tables

__all__ = ["Outline", "Outlook", "look_out", "make_outline"]


class Outline(NamedTuple):
    """Where the neurons of C directions lie, in buckets of S levels of length.

    Attributes
    ----------
    radii : float32 array of shape (C,)
        Standard deviation of a direction's neurons around its centroid, at length 1.
    lengths : float32 array of shape (S,)
        Of the neurons of a level, the longest first.
    starts : int32 array of shape (C,)
        The first level of every direction that holds a neuron; S if none does.
    longest : float32 array of shape (C,)
        Its length; 0 if there is none.
    small : SmallRows
        Their centroids (C, d) as bytes, and their last number as a bias.
    centroids : float32 array of shape (C, d + 1)
        The same, for many queries at a time.
    """

    radii: NDArray[np.float32]
    lengths: NDArray[np.float32]
    starts: NDArray[np.int32]
    longest: NDArray[np.float32]
    small: SmallRows
    centroids: NDArray[np.float32]


class Outlook(NamedTuple):
    """What n queries may expect of the buckets of an outline.

    Attributes
    ----------
    outline : Outline
        Of the buckets.
    vectors : float32 array of shape (n, d + 1)
        The queries, as the family takes them.
    norms : float32 array of shape (n,)
        Their lengths.
    shifts : float32 array of shape (n,)
        What logits are more than products with neurons as the family takes these.
    products : float32 array of shape (n, C)
        Products with the centroids.
    """

    outline: Outline
    vectors: NDArray[np.float32]
    norms: NDArray[np.float32]
    shifts: NDArray[np.float32]
    products: NDArray[np.float32]


def make_outline(family: Centroids, tables: Tables) -> Outline:
    """Outline the buckets of one table."""
    n_levels = family.n_levels
    first = np.arange(0, family.n_buckets, n_levels, dtype=np.int32)
    starts = np.minimum(tables.filled[0, first] - first, n_levels)
    longest = np.append(family.lengths, np.float32(0))[starts]
    small = small_rows(family.centroids[0], "int8", neurons=True)
    centroids = small.floats(0, len(first))
    return Outline(family.radii[0], family.lengths, starts, longest, small, centroids)


def look_out(vectors: NDArray[np.float32], centring: Centring, outline: Outline) -> Outlook:
    """See what the buckets promise to queries (n, d + 1) from `Centring.queries`."""
    norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    shifts = vectors[:, :-1] @ centring.mean_w + np.float32(centring.mean_bias)
    if len(vectors) == 1:
        products = np.empty((1, len(outline.centroids)), np.float32)
        _multiply(vectors[0], outline.small, products[0])
    else:
        products = vectors @ outline.centroids.T
    return Outlook(outline, vectors, norms, shifts, products)


@njit(cache=True, nogil=True)
def _multiply(vector: NDArray[np.float32], small: SmallRows, products: NDArray[np.float32]) -> None:
    """Multiply small neurons with one vector (d + 1,): products (C,).

    It waits for memory, and a product of floats takes twice as long, or three times.
    """
    for c in range(len(products)):
        products[c] = small.scales[c] * dot_small(small.values[c], vector)
        products[c] += small.bias[c] * vector[-1]
