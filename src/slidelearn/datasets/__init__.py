"""Sparse datasets and the file formats that hold them."""

from slidelearn.datasets.dataset import Dataset
from slidelearn.datasets.formats import convert, load_dataset, save_dataset
from slidelearn.datasets.matrices import as_csr_features, as_csr_labels

__all__ = [
    "Dataset",
    "as_csr_features",
    "as_csr_labels",
    "convert",
    "load_dataset",
    "save_dataset",
]
