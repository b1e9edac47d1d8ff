"""Comparing trained models."""

from numpy.testing import assert_array_equal

from slidelearn.network_arrays import name_arrays


def assert_same_arrays(a, b):
    """Both models hold the same arrays under the same names, bit for bit."""
    ours, theirs = name_arrays(a), name_arrays(b)
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        assert_array_equal(theirs[name], array, err_msg=name, strict=True)
