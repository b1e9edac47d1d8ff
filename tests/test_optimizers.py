import numpy as np
import pytest
from numpy.testing import assert_allclose

import naive
from slidelearn.optimizers import Step, make_optimizer, move_row

N, D = 5, 7
kinds = pytest.mark.parametrize("kind", ["adagrad", "sgd", "adam"])


def random_array(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.nojit
@kinds
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_steps_that_touch_rows_at_different_times(kind, decay):
    weight, optimizer = random_array(N, D), make_optimizer(kind, (N, D))
    ref, state = weight.astype(float), naive.optimizer_state(kind, (N, D))
    for step, rows in enumerate([[0, 2], [2], [4, 2], [0]]):
        gradient = random_array(N, D, seed=step + 1)
        for row in rows:
            move_row(weight, optimizer, row, gradient[row], Step(0.1, decay))
        ref = naive.move_rows(kind, ref, gradient.astype(float), rows, 0.1, decay, state)
        assert_allclose(weight, ref, rtol=1e-5, atol=1e-6)
    assert np.array_equal(weight[[1, 3]], random_array(N, D)[[1, 3]])


@pytest.mark.nojit
def test_adagrad_starts_from_its_accumulator():
    """From zero, the first step would be a whole learning rate long, however small the gradient."""
    weight, optimizer = np.zeros((1, 2), np.float32), make_optimizer("adagrad", (1, 2))
    move_row(weight, optimizer, 0, np.array([1e-3, 1e-3], np.float32), Step(1.0, 0.0))
    assert_allclose(weight[0], -1e-3 / np.sqrt(naive.ADAGRAD_START + 1e-6), rtol=1e-5)


@kinds
def test_only_the_arrays_that_a_kind_needs_are_filled(kind):
    optimizer = make_optimizer(kind, (N, D))
    sizes = [optimizer.squares.size, optimizer.first.size, optimizer.second.size]
    assert sizes == {"adagrad": [N, 0, 0], "sgd": [0, 0, 0], "adam": [0, N * D, N * D]}[kind]
    assert optimizer.steps.size == (N if kind == "adam" else 0)


@kinds
def test_a_step_of_no_rate_changes_nothing(kind):
    weight = random_array(N, D)
    move_row(weight, make_optimizer(kind, (N, D)), 1, random_array(D), Step(0.0, 0.5))
    assert np.array_equal(weight, random_array(N, D))
