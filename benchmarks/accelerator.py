"""The same network, dense on a GPU and hashed on the CPUs beside it.

``python -m benchmarks.accelerator`` trains a network with a full softmax in PyTorch on the GPU, on
the planted data of `benchmarks.scaling`, and slidelearn on the CPU of the same machine, and prints
examples per second of both at 10^5, 10^6 and 10^7 labels. PyTorch must be there, with support for
the GPU. Without a GPU it says so and stops.
"""

import argparse
import json
import subprocess
import sys
import time
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from benchmarks.machine import describe_machine
from benchmarks.scaling import planted

_BATCH = 256
_WARM_UP = 5  # steps


def find_device(name: str) -> Any:
    """The device to train on; ends the program where it is not there."""
    try:
        import torch
    except ImportError:
        raise SystemExit("PyTorch is not installed: nothing was measured") from None
    if name == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no GPU that PyTorch can use: nothing was measured")
    return torch.device(name)


class Dense:
    """A network of the shape of slidelearn's, every neuron of it in every step."""

    def __init__(self, n_features: int, hidden: int, n_labels: int, device: Any) -> None:
        import torch
        from torch import nn

        torch.manual_seed(0)
        torch.set_float32_matmul_precision("high")
        self.device = device
        self.input = nn.EmbeddingBag(n_features, hidden, mode="sum", device=device)
        self.output = nn.Linear(hidden, n_labels, device=device)
        nn.init.normal_(self.output.weight, std=hidden**-0.5)
        parameters = [*self.input.parameters(), *self.output.parameters()]
        self.optimizer = torch.optim.Adagrad(parameters, lr=0.03)

    def step(self, X: csr_matrix, labels: np.ndarray) -> float:
        """One step on a batch with one label for each example; the loss."""
        import torch

        def tensor(array: np.ndarray, kind: Any) -> Any:
            return torch.as_tensor(array.astype(kind), device=self.device)

        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            h = self.input(
                tensor(X.indices, np.int64),
                tensor(X.indptr[:-1], np.int64),
                per_sample_weights=tensor(X.data, np.float32),
            )
            logits = self.output(torch.relu(h))
            loss = torch.nn.functional.cross_entropy(logits, tensor(labels, np.int64))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())  # waits for the device


def measure_dense(n_labels: int, options: argparse.Namespace) -> dict[str, Any]:
    """Examples per second of the dense network, and the memory that it took on the device."""
    import torch

    device = find_device(options.device)
    X, Y = planted(options.examples, n_labels)
    network = Dense(X.shape[1], options.hidden, n_labels, device)
    done, began = 0, time.perf_counter()
    for step, first in enumerate(range(0, X.shape[0] - _BATCH + 1, _BATCH)):
        network.step(X[first : first + _BATCH], Y.indices[first : first + _BATCH])
        if step < _WARM_UP:
            began = time.perf_counter()
            continue
        done += _BATCH
        if time.perf_counter() - began > options.seconds:
            break
    rate = done / (time.perf_counter() - began)
    peak = torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else float("nan")
    return {"rate": rate, "peak_mb": peak}


def measure_hashed(n_labels: int, options: argparse.Namespace) -> float:
    """Examples per second of slidelearn on this machine's CPU."""
    command = [sys.executable, "-m", "benchmarks.scaling", "--one", str(n_labels)]
    command += ["--examples", str(options.examples), "--hidden", str(options.hidden)]
    command += ["--threads", str(options.threads)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    return float(1000 / json.loads(done.stdout)["step_ms"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--labels", default="100000,1000000,10000000")
    parser.add_argument("--examples", type=int, default=50_000)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2, help="of slidelearn")
    parser.add_argument("--seconds", type=float, default=30, help="of the dense network, at most")
    parser.add_argument("--device", default="cuda", help="that the dense network trains on")
    options = parser.parse_args()
    device = find_device(options.device)
    print(json.dumps(describe_machine() | {"device": _name(device)}))
    print("| labels | dense, examples/s | device MB | slidelearn, examples/s | ratio |")
    print("|---|---|---|---|---|")
    for n_labels in map(int, options.labels.split(",")):
        dense = measure_dense(n_labels, options)
        hashed = measure_hashed(n_labels, options)
        print(
            f"| {n_labels:,} | {dense['rate']:,.0f} | {dense['peak_mb']:,.0f} | {hashed:,.0f} | "
            f"{hashed / dense['rate']:.2f} |",
            flush=True,
        )


def _name(device: Any) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


if __name__ == "__main__":
    main()
