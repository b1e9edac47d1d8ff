"""Kernels give the same bits whether they were just compiled or come from Numba's cache."""

import importlib
import pkgutil

import numpy as np
from numba import njit
from numba.core.registry import CPUDispatcher

import slidelearn
from slidelearn.prefetching import prefetch


def kernels():
    """Every kernel of the package by the name that it was written under."""
    found = {}
    for info in pkgutil.walk_packages(slidelearn.__path__, "slidelearn."):
        if info.name.endswith("__main__"):
            continue
        for value in vars(importlib.import_module(info.name)).values():
            if isinstance(value, CPUDispatcher):
                found[f"{value.py_func.__module__}.{value.py_func.__name__}"] = value
    return found


def called_by(kernel):
    """Kernels that a kernel calls."""
    function = kernel.py_func
    names = [function.__globals__.get(name) for name in function.__code__.co_names]
    return {
        f"{value.py_func.__module__}.{value.py_func.__name__}"
        for value in names
        if isinstance(value, CPUDispatcher)
    }


def test_reordered_sums_are_part_of_the_kernel_that_is_called_from_python():
    """A copy of its own in each caller may add up in another order.

    Which copy runs then depends on whether the callee was compiled in the same process: a run that
    compiled its kernels differed in the last bits from one that found them in the cache.
    """
    every = kernels()
    calls = {name: called_by(kernel) for name, kernel in every.items()}
    reordered = {name for name, k in every.items() if k.targetoptions.get("fastmath")}
    assert len(reordered) > 5
    while grown := {name for name in every if calls[name] & reordered} - reordered:
        reordered |= grown
    inner = reordered & set().union(*calls.values())
    loose = {name for name in inner if not every[name].targetoptions.get("forceinline")}
    assert not loose


def test_no_kernel_uses_argsort():
    """In a process that has both, Numba 0.68 takes parts of argsort for those of a cached sort."""
    assert not [
        name for name, kernel in kernels().items() if "argsort" in kernel.py_func.__code__.co_names
    ]


def test_a_prefetch_is_compiled_and_changes_nothing():
    @njit
    def read(values, place, ahead):
        prefetch(values, place + ahead)
        return values[place]

    values = np.arange(3, dtype=np.float32)
    for ahead in (0, 1, 10**9, -(10**9)):  # a place that does not exist is no fault
        assert read(values, 1, ahead) == 1
    assert values.tolist() == [0, 1, 2]
    assert "@llvm.prefetch" in next(iter(read.inspect_llvm().values()))
