"""Neural contestants: fastText, and PyTorch with the full and with a sampled softmax."""

import time
from itertools import count
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix

from contest.contestant import Contestant, K, label_lists, pad


class FastText(Contestant):
    """fastText's supervised mode; features are words, their values are lost."""

    settings = "hierarchical softmax, dim 128, lr 0.5, 25 epochs, minCount 1"
    options = {"loss": "hs", "lr": 0.5}  # noqa: RUF012 - a constant

    def train(self, X: csr_matrix, Y: csr_matrix) -> None:
        import fasttext

        self.model.mkdir(parents=True)
        text = self.model / "train.txt"
        labels = (" ".join(f"__label__{label}" for label in row) for row in label_lists(Y))
        lines = (f"{a} {b}\n" for a, b in zip(labels, _words(X), strict=True))
        text.write_text("".join(lines))
        # Version 0.9.3 starts only a tenth of the input matrix for every thread.
        model = fasttext.train_supervised(
            str(text), dim=128, epoch=25, minCount=1, thread=max(10, self.threads), verbose=0,
            **self.options,
        )  # fmt: skip
        text.unlink()
        model.save_model(str(self.model / "model.bin"))

    def load(self) -> None:
        import fasttext

        self.network = fasttext.load_model(str(self.model / "model.bin"))

    def predict(self, X: csr_matrix) -> np.ndarray:
        found, _ = self.network.predict(_words(X), k=K)
        return pad([[int(label.removeprefix("__label__")) for label in row] for row in found])


def _words(X: csr_matrix) -> list[str]:
    """The features of every example as words."""
    return [" ".join(f"f{j}" for j in row) for row in label_lists(X)]


class TorchSoftmax(Contestant):
    """A dense network: every neuron of the output layer in every step."""

    settings = "sparse input, 128 hidden (ReLU), full softmax, Adam at 0.002, batch 256"
    width, batch, lr = 128, 256, 2e-3
    points = (0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0)  # shares of the budget with a point of the curve

    def train(self, X: csr_matrix, Y: csr_matrix) -> None:
        import torch

        torch.set_num_threads(self.threads)
        torch.manual_seed(0)
        self._make(X.shape[1], Y.shape[1])
        optimizers = self._optimizers()
        rng, began = np.random.default_rng(0), time.perf_counter()
        rows = np.flatnonzero(np.diff(Y.indptr))
        pending = [share * self.budget for share in self.points]
        for _ in count():
            for first in range(0, len(order := rng.permutation(rows)), self.batch):
                chosen = order[first : first + self.batch]
                loss = self._loss(X[chosen], Y[chosen], rng)
                for optimizer in optimizers:
                    optimizer.zero_grad(set_to_none=True)
                loss.backward()
                for optimizer in optimizers:
                    optimizer.step()
                seconds = time.perf_counter() - began - self.paused
                if seconds >= pending[0]:
                    self.note_curve(seconds)
                    pending.pop(0)
                if not pending:
                    self._save()
                    return

    def load(self) -> None:
        import torch

        parts = torch.load(self.model / "network.pt", weights_only=True)
        self._make(parts["hidden.weight"].shape[0], parts["output.weight"].shape[0])
        self.network.load_state_dict(parts)

    def predict(self, X: csr_matrix) -> np.ndarray:
        import torch

        found = []
        with torch.inference_mode():
            for first in range(0, X.shape[0], self.batch):
                h = self._hidden(X[first : first + self.batch])
                logits = h @ self.network["output"].weight.T + self.network["bias"].weight[:, 0]
                found.append(logits.topk(min(K, logits.shape[1])).indices.numpy())
        return np.concatenate(found)

    def _make(self, n_features: int, n_labels: int) -> None:
        from torch import nn

        sparse = self.sparse_output
        self.network = nn.ModuleDict(
            {
                "hidden": nn.EmbeddingBag(n_features, self.width, mode="sum", sparse=True),
                "shift": nn.Embedding(1, self.width),
                "output": nn.Embedding(n_labels, self.width, sparse=sparse),
                "bias": nn.Embedding(n_labels, 1, sparse=sparse),
            }
        )
        nn.init.normal_(self.network["output"].weight, std=self.width**-0.5)
        nn.init.zeros_(self.network["bias"].weight)
        nn.init.zeros_(self.network["shift"].weight)

    sparse_output = False

    def _optimizers(self):
        import torch

        names = ("hidden", "output", "bias") if self.sparse_output else ("hidden",)
        sparse = [self.network[name].weight for name in names]
        dense = [part.weight for name, part in self.network.items() if name not in names]
        return torch.optim.SparseAdam(sparse, self.lr), torch.optim.Adam(dense, self.lr)

    def _hidden(self, X: csr_matrix):
        import torch

        ids, starts = torch.from_numpy(X.indices.astype(np.int64)), X.indptr[:-1].astype(np.int64)
        values = torch.from_numpy(X.data)
        sums = self.network["hidden"](ids, torch.from_numpy(starts), per_sample_weights=values)
        return torch.relu(sums + self.network["shift"].weight[0])

    def _loss(self, X: csr_matrix, Y: csr_matrix, rng: np.random.Generator):
        import torch

        h = self._hidden(X)
        logits = h @ self.network["output"].weight.T + self.network["bias"].weight[:, 0]
        return _cross_entropy(torch.log_softmax(logits, 1), Y.indptr, Y.indices)

    def _save(self) -> None:
        import torch

        Path(self.model).mkdir(parents=True, exist_ok=True)
        torch.save(self.network.state_dict(), self.model / "network.pt")


def _cross_entropy(log_shares, indptr, columns):
    """Cross-entropy with the mean of every example's labels, averaged over examples."""
    import torch

    counts = np.diff(indptr)
    owners = np.repeat(np.arange(len(counts)), counts)
    weights = torch.from_numpy((1 / counts[owners]).astype(np.float32))
    places = torch.from_numpy(owners), torch.from_numpy(columns.astype(np.int64))
    return -(log_shares[places] * weights).sum() / len(counts)


class TorchSampled(TorchSoftmax):
    """The same network with the labels of the batch and a uniform sample, corrected by log Q."""

    settings = "as the full softmax, with 4,096 sampled negatives and log Q correction"
    negatives = 4096
    sparse_output = True

    def _loss(self, X: csr_matrix, Y: csr_matrix, rng: np.random.Generator):
        import torch

        n_labels = Y.shape[1]
        labels, columns = np.unique(Y.indices, return_inverse=True)
        drawn = np.setdiff1d(rng.integers(0, n_labels, self.negatives), labels)
        active = torch.from_numpy(np.concatenate([labels, drawn]).astype(np.int64))
        h = self._hidden(X)
        logits = h @ self.network["output"](active).T + self.network["bias"](active)[:, 0]
        correction = torch.zeros(len(active))
        correction[len(labels) :] = float(np.log(max(n_labels / max(len(drawn), 1), 1.0)))
        return _cross_entropy(torch.log_softmax(logits + correction, 1), Y.indptr, columns)
