"""Compacting: a copy of a model that predicts, without what only training needs."""

from dataclasses import replace

import numpy as np

from slidelearn.errors import ConfigError, ModelError
from slidelearn.layers import Layer
from slidelearn.model import Model
from slidelearn.small_rows import SMALL_TYPES, small_rows

__all__ = ["COMPACT_TYPES", "check_trainable", "compact_model"]

COMPACT_TYPES = ("float32", *SMALL_TYPES)


def compact_model(model: Model, dtype: str = "int8") -> Model:
    """Make a copy that serves predictions: no optimizers, and smaller weights.

    The first hidden layer and the output layer, which are nearly all of the dense weights, become
    `SmallRows`; float32 leaves them. A network with a hashed hidden layer keeps its weights. What
    else is large, such as the wide path, stays as it is.

    Parameters
    ----------
    model : Model
        Stays as it is; arrays that do not change are shared.
    dtype : {"float32", "int8", "int16", "bf16"}
        Of the weights. int8 and int16 are whole numbers with a scale for each row; int16 is as
        small as bf16, and nearer to float32.

    Raises
    ------
    ConfigError
        If there is no such type.
    ModelError
        If the model is such a copy already.

    Examples
    --------
    >>> from scipy.sparse import csr_matrix
    >>> from slidelearn.datasets import Dataset
    >>> from slidelearn.fitting import fit_model
    >>> model = fit_model(Dataset(csr_matrix([[1.0]]), csr_matrix([[1]])), {"epochs": 1})
    >>> compact_model(model).network.output.small.values.dtype
    dtype('int8')
    """
    if dtype not in COMPACT_TYPES:
        raise ConfigError(f"dtype is {dtype!r}, choose one of {', '.join(COMPACT_TYPES)}")
    check_trainable(model, "a copy of a copy would be no smaller; compact")
    network = model.network
    first, *others = (_served(layer) for layer in network.hidden)
    output = _served(network.output)
    if dtype != "float32" and model.config.hidden_tables is None:
        first, output = _small(first, dtype), _small(output, dtype)
    wide = network.wide
    if wide is not None:
        wide = wide._replace(squares=np.empty(0, np.float32))
    served = network._replace(hidden=(first, *others), output=output, wide=wide)
    return replace(model, network=served, facts=model.facts | {"compact": dtype})


def check_trainable(model: Model, what: str = "train") -> None:
    """Refuse a compact copy where the whole model is needed, for what is said.

    Raises
    ------
    ModelError
        If the model is a copy that `compact_model` made.
    """
    if "compact" in model.facts:
        raise ModelError(
            f"this model is a compact copy, made for predictions; {what} the model it was made from"
        )


def _served(layer: Layer) -> Layer:
    """A layer without the state of its optimizer."""
    moments = np.empty((0, 0), np.float32)
    empty = layer.optimizer._replace(
        squares=np.empty(0, np.float32),
        first=moments,
        second=moments,
        steps=np.empty(0, np.int64),
    )
    return layer._replace(optimizer=empty)


def _small(layer: Layer, dtype: str) -> Layer:
    """A layer with small rows instead of its weights."""
    rows = small_rows(layer.weight, dtype, neurons=layer.hashed)
    return layer._replace(weight=np.empty((0, 0), np.float32), small=rows)
