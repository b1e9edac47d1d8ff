"""SimHash: the signs of random projections, for vectors compared by their angle."""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import sparse

from slidelearn.errors import ConfigError
from slidelearn.hashing.multiprobe import cheapest_flips
from slidelearn.hashing.vectors import Vectors, check_range, check_vectors, row_blocks

__all__ = ["SimHash"]


@dataclass(frozen=True, eq=False)
class SimHash:
    """Signed random projections: two vectors agree in a hash with probability 1 - angle / pi.

    A hash is 1 where the projection is positive, so a zero vector has code 0. Projections that are
    zero up to rounding may change sign with the number of rows that are hashed together, because
    a matrix product may add in another order; all other codes depend on the vector alone.

    Parameters
    ----------
    planes : float32 array or CSR array of shape (n_features, L * K)
        One column per hash; CSR if the projections are sparse.
    n_tables : int
        Number of tables, L.

    Examples
    --------
    >>> import numpy as np
    >>> family = SimHash.create(3, k=4, l=2, seed=0)
    >>> V = np.array([[1, 2, 3], [2, 4, 6]], dtype=np.float32)
    >>> codes = family.codes(V)
    >>> bool((codes[0] == codes[1]).all())
    True
    """

    name: ClassVar[str] = "simhash"
    planes: Vectors
    n_tables: int

    @classmethod
    def create(
        cls,
        n_features: int,
        *,
        k: int,
        l: int,  # noqa: E741
        seed: int,
        entries: str = "gaussian",
        sparsity: float = 1.0,
    ) -> Self:
        """Draw projections at random.

        Parameters
        ----------
        n_features : int
            Width of the vectors.
        k, l : int
            Hashes per table (a table has 2**k buckets) and tables.
        seed : int
            The same seed gives the same projections.
        entries : {"gaussian", "sign"}
            Normal entries, or +1 and -1.
        sparsity : float
            Share of the entries of each projection that are not zero. Below 1 the product with a
            sparse vector costs that share. The law of collisions then holds for vectors whose
            weight is spread over many features.

        Raises
        ------
        ConfigError
            If a setting is out of its range.
        """
        check_range("n_features", n_features, 1, 2**31 - 1)
        check_range("k", k, 1, 24)
        check_range("l", l, 1, 2**16)
        if not 0 < sparsity <= 1:
            raise ConfigError(f"sparsity is {sparsity}, choose a share above 0 and at most 1")
        if entries not in ("gaussian", "sign"):
            raise ConfigError(f"entries is {entries!r}, choose 'gaussian' or 'sign'")
        rng = np.random.default_rng(seed)
        n_planes = k * l
        if sparsity == 1:
            return cls(_draw(rng, entries, (n_features, n_planes)), l)
        per_plane = max(1, round(sparsity * n_features))
        features = np.concatenate(
            [rng.choice(n_features, per_plane, replace=False) for _ in range(n_planes)]
        )
        starts = np.arange(0, len(features) + 1, per_plane)
        columns = sparse.csc_array(
            (_draw(rng, entries, features.shape), features, starts), shape=(n_features, n_planes)
        )
        return cls(columns.tocsr(), l)

    @property
    def n_features(self) -> int:
        """Width of the vectors."""
        return int(self.planes.shape[0])

    @property
    def n_hashes(self) -> int:
        """Hashes per table, K."""
        return int(self.planes.shape[1]) // self.n_tables

    @property
    def n_buckets(self) -> int:
        """Buckets per table, 2**K."""
        return 1 << self.n_hashes

    def hashes(self, V: Vectors) -> NDArray[np.int32]:
        """Raw hashes, 0 or 1, int32 (n, L, K)."""
        V = check_vectors(V, self.n_features)
        out = np.empty((V.shape[0], self.n_tables, self.n_hashes), np.int32)
        for rows in row_blocks(V.shape[0], self.planes.shape[1]):
            out[rows] = self._project(V[rows]) > 0
        return out

    def codes(self, V: Vectors) -> NDArray[np.int32]:
        """Bucket of each vector in each table, int32 (n, L): bit k is hash k."""
        return self.probes(V, 1)[:, :, 0]

    def probes(
        self, V: Vectors, n_probes: int, filled: NDArray[np.int32] | None = None
    ) -> NDArray[np.int32]:
        """Buckets to look into, int32 (n, L, n_probes): hashes near zero are flipped first.

        The cost of a bucket is the sum of the sizes of the projections whose sign it flips.
        """
        check_range("n_probes", n_probes, 1, self.n_buckets)
        V = check_vectors(V, self.n_features)
        out = np.empty((V.shape[0], self.n_tables, n_probes), np.int32)
        for rows in row_blocks(V.shape[0], self.planes.shape[1]):
            _probe_signs(self._project(V[rows]), out[rows])
        return out

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything that `from_arrays` needs."""
        shape = np.array([*self.planes.shape, self.n_tables], np.int64)
        if not sparse.issparse(self.planes):
            return {"shape": shape, "planes": self.planes}
        return {
            "shape": shape,
            "values": self.planes.data,
            "columns": self.planes.indices,
            "starts": self.planes.indptr,
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> Self:
        """Restore a family from what `arrays` returned."""
        n_features, n_planes, n_tables = (int(size) for size in arrays["shape"])
        if "planes" in arrays:
            return cls(arrays["planes"], n_tables)
        parts = (arrays["values"], arrays["columns"], arrays["starts"])
        return cls(sparse.csr_array(parts, shape=(n_features, n_planes)), n_tables)

    def _project(self, V: Vectors) -> NDArray[np.float32]:
        """Projections of checked vectors, float32 (n, L, K)."""
        planes = self.planes
        if sparse.issparse(planes) and not sparse.issparse(V):
            planes = planes.toarray()  # one BLAS product beats a sparse one on dense vectors
        projected = V @ planes
        if sparse.issparse(projected):
            projected = projected.toarray()
        return projected.reshape(V.shape[0], self.n_tables, self.n_hashes)  # type: ignore[no-any-return]


def _draw(rng: np.random.Generator, entries: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Draw the non-zero entries of projections."""
    if entries == "gaussian":
        return rng.standard_normal(shape, dtype=np.float32)
    return 2 * rng.integers(0, 2, shape, dtype=np.int8).astype(np.float32) - 1


@njit(cache=True, nogil=True)
def _probe_signs(projected: NDArray[np.float32], probes: NDArray[np.int32]) -> None:
    """Pack the signs of (n, L, K) projections into codes and flip the least certain ones.

    Fills ``probes`` (n, L, P), P at most 2**K.
    """
    n_probes = probes.shape[2]
    masks = np.empty((2, n_probes), np.int64)
    totals = np.empty((2, n_probes), np.float64)
    for row in range(projected.shape[0]):
        for table in range(projected.shape[1]):
            code = 0
            for k in range(projected.shape[2]):
                if projected[row, table, k] > 0:
                    code |= 1 << k
            probes[row, table, 0] = code
            if n_probes == 1:
                continue
            cheapest_flips(np.abs(projected[row, table]), masks, totals)
            for i in range(1, n_probes):
                probes[row, table, i] = code ^ masks[0, i]
