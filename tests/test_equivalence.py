"""With every neuron active, the engine is a plain network: PyTorch in float64 is the reference."""

import numpy as np
import pytest

from batches import random_features, random_labels
from slidelearn.config import LOSSES, OPTIMIZERS, Config
from slidelearn.sampling import draw_tail, tail_chances
from slidelearn.step import train_step
from slidelearn.training import Trainer
from slidelearn.workers import Workers

torch = pytest.importorskip("torch")

N, D, N_LABELS = 80, 20, 30  # more than one piece of a batch
BIAS_INPUT, ADAGRAD_START = 0.1, 1e-2
RATES = {"adagrad": 0.05, "sgd": 0.02, "adam": 0.01}
RELATIVE = 1e-5


def engine_step(hidden, loss, optimizer, lr):
    """Weights before and after one step of the engine, the mean it subtracts, and its loss."""
    X, Y = random_features(N, D), random_labels(N, N_LABELS)
    config = Config(
        hidden=hidden, loss=loss, optimizer=optimizer, lr=lr, hidden_lr=lr, batch_size=N,
        tail=N_LABELS, wide=0, dropout=0, negligible=0, start="random", temperature=3,
        normalize=False,
    )  # fmt: skip
    with Workers(2) as workers:
        network = Trainer.start(config, X, Y, workers).network
        layers = [layer.weight for layer in (*network.hidden, network.output)]
        before = [weight.astype(float) for weight in layers]
        everyone = draw_tail(tail_chances(np.ones(N_LABELS), N_LABELS), np.random.default_rng(0))
        report = train_step(
            network, config, X, Y, number=0, lr_factor=1.0, workers=workers, tail=everyone
        )
    return before, [weight.astype(float) for weight in layers], network.mean, report.loss


def torch_loss(weights, mean, loss):
    """The summed loss; hidden weights are (n_in + 1, n_out), those of the output (N, n_in + 1)."""
    h = torch.tensor(random_features(N, D).toarray(), dtype=torch.float64)
    Y = torch.tensor(random_labels(N, N_LABELS).toarray(), dtype=torch.float64)
    for weight in weights[:-1]:
        h = torch.relu(h @ weight[:-1] + BIAS_INPUT * weight[-1])
    h = h - torch.tensor(mean, dtype=torch.float64)
    logits = h @ weights[-1][:, :-1].T + BIAS_INPUT * weights[-1][:, -1]
    if loss == "softmax":
        some = Y.sum(dim=1) > 0
        target = Y[some] / Y[some].sum(dim=1, keepdim=True)
        return torch.nn.functional.cross_entropy(logits[some], target, reduction="sum")
    if loss == "bce":
        return torch.nn.functional.binary_cross_entropy_with_logits(logits, Y, reduction="sum")
    return torch.relu(1 - (2 * Y - 1) * logits).square().sum()


def torch_step(before, mean, loss, optimizer, lr):
    """Loss, and weights after one step."""
    weights = [torch.tensor(weight, requires_grad=True) for weight in before]
    total = torch_loss(weights, mean, loss)
    total.backward()
    if optimizer == "adagrad":
        with torch.no_grad():
            for weight in weights:
                squares = ADAGRAD_START + weight.grad.square().mean(dim=1, keepdim=True)
                weight -= lr * weight.grad / squares.sqrt()
    else:
        kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[optimizer]
        kind(weights, lr=lr).step()
    return total.item(), [weight.detach().numpy() for weight in weights]


def relative(got, ref):
    return np.linalg.norm(got - ref) / np.linalg.norm(ref)


every_loss = pytest.mark.parametrize("loss", LOSSES)
every_depth = pytest.mark.parametrize("hidden", [(16,), (24, 12)], ids=["one", "two"])


@every_depth
@every_loss
def test_loss_and_gradients(hidden, loss):
    """A step of SGD with rate 1 subtracts the gradient."""
    before, after, mean, got = engine_step(hidden, loss, "sgd", lr=1.0)
    total, moved = torch_step(before, mean, loss, "sgd", lr=1.0)
    assert abs(got - total) < RELATIVE * abs(total)
    for old, new, ref in zip(before, after, moved, strict=True):
        assert relative(new - old, ref - old) < RELATIVE


@every_depth
@every_loss
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_one_step(hidden, loss, optimizer):
    before, after, mean, _ = engine_step(hidden, loss, optimizer, RATES[optimizer])
    _, moved = torch_step(before, mean, loss, optimizer, RATES[optimizer])
    for old, new, ref in zip(before, after, moved, strict=True):
        assert relative(new - old, ref - old) < RELATIVE
