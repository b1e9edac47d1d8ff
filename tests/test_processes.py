"""Threads and processes around a training: none of them changes what it learns."""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV
from threadpoolctl import threadpool_info

from models import assert_same_arrays
from problems import clusters
from slidelearn import SlideClassifier
from slidelearn.datasets import Dataset
from slidelearn.fitting import fit_model
from slidelearn.model_file import load_model, save_model
from slidelearn.network_arrays import name_arrays

QUICK = {"hidden": [24], "tail": 10, "epochs": 2, "batch_size": 64}


def train(seed, threads=2):
    X, Y, _ = clusters(seed=seed)
    return fit_model(Dataset(X, Y), QUICK | {"threads": threads, "seed": seed})


def ask(folder):
    """What a process of its own does with a model folder, and a training of its own."""
    X, _, _ = clusters()
    model, own = load_model(folder), train(0)
    same = all(np.array_equal(a, name_arrays(own)[n]) for n, a in name_arrays(model).items())
    return same, model.predict_topk(X, 3).labels


def blas_threads():
    return [library["num_threads"] for library in threadpool_info()]


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_threads_do_not_change_a_training(threads):
    assert_same_arrays(train(0, threads), train(0, 1))


def test_trainings_at_once_in_one_process():
    alone, before = [train(seed) for seed in range(3)], blas_threads()
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(train, range(3)))
    for a, b in zip(alone, together, strict=True):
        assert_same_arrays(a, b)
    assert blas_threads() == before


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_of_every_kind(tmp_path, method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"{method} is not known here")
    model = train(0)
    save_model(model, tmp_path)
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        answers = list(pool.map(ask, [tmp_path] * 2))
    expected = model.predict_topk(clusters()[0], 3).labels
    for same, labels in answers:
        assert same
        np.testing.assert_array_equal(labels, expected)


def test_a_grid_search_in_processes():
    X, _, y = clusters()
    grid = {"lr": [0.01, 0.03], "hidden": [(8,), (16,)]}
    found = []
    for n_jobs in (1, 2):
        classifier = SlideClassifier(epochs=2, random_state=0, n_jobs=1)
        search = GridSearchCV(classifier, grid, cv=2, n_jobs=n_jobs).fit(X, y)
        found.append(search.cv_results_["mean_test_score"])
        assert search.best_score_ > 0.5
    np.testing.assert_array_equal(*found)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_of_a_process_that_has_threads():
    model = train(0)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(train, 1)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                assert_same_arrays(train(0), model)
                code = 0
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        running.result()
    assert os.waitstatus_to_exitcode(status) == 0
