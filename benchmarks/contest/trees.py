"""Linear tree models: omikuji, PECOS XR-Linear and napkinXC."""

import numpy as np
from scipy.sparse import csr_matrix

from contest.contestant import Contestant, K, label_lists, pad


class Omikuji(Contestant):
    """Parabel-like: three balanced binary trees, linear classifiers with squared hinge loss."""

    settings = "default hyper-parameters (3 balanced binary trees); beam 10"

    def hyper_parameters(self):
        import omikuji

        return omikuji.Model.default_hyper_param()

    def train(self, X: csr_matrix, Y: csr_matrix) -> None:
        import omikuji

        path = str(self.data / "train.txt")
        model = omikuji.Model.train_on_data(path, self.hyper_parameters(), self.threads)
        model.save(str(self.model))

    def load(self) -> None:
        import omikuji

        self.trees = omikuji.Model.load(str(self.model))
        self.trees.densify_weights(0.05)
        self.trees.init_prediction_thread_pool(self.threads)

    def predict(self, X: csr_matrix) -> np.ndarray:
        return pad([self._predict_one(X[i]) for i in range(X.shape[0])])

    def _predict_one(self, x: csr_matrix) -> list[int]:
        pairs = list(zip(x.indices.tolist(), x.data.tolist(), strict=True))
        return [label for label, _ in self.trees.predict(pairs, beam_size=10, top_k=K)]


class Bonsai(Omikuji):
    """Bonsai-like: shallow trees with up to 100 unbalanced children."""

    settings = "cluster_balanced off, cluster_k 100, max_depth 3; 3 trees; beam 10"

    def hyper_parameters(self):
        chosen = super().hyper_parameters()
        chosen.cluster_balanced, chosen.cluster_k, chosen.max_depth = False, 100, 3
        return chosen


class Pecos(Contestant):
    """XR-Linear on a hierarchical k-means tree over label centroids."""

    settings = (
        "PIFA, 16 splits, leaves of 100, squared hinge, TFN negatives, threshold 0.1, beam 10"
    )

    def train(self, X: csr_matrix, Y: csr_matrix) -> None:
        from pecos.xmc import Indexer, LabelEmbeddingFactory
        from pecos.xmc.xlinear.model import XLinearModel

        Y = Y.astype(np.float32)
        centroids = LabelEmbeddingFactory.create(Y, X, method="pifa")
        tree = Indexer.gen(
            centroids, indexer_type="hierarchicalkmeans", nr_splits=16, max_leaf_size=100,
            seed=0, threads=self.threads,
        )  # fmt: skip
        XLinearModel.train(
            X, Y, C=tree, threshold=0.1, negative_sampling_scheme="tfn", bias=1.0,
            solver_type="L2R_L2LOSS_SVC_DUAL", threads=self.threads,
        ).save(str(self.model))  # fmt: skip

    def load(self) -> None:
        from pecos.xmc.xlinear.model import XLinearModel

        self.tree = XLinearModel.load(str(self.model), is_predict_only=True)

    def predict(self, X: csr_matrix) -> np.ndarray:
        found = self.tree.predict(X, only_topk=K, beam_size=10, threads=self.threads)
        rows = []
        for start, end in zip(found.indptr, found.indptr[1:], strict=False):
            rows.append(found.indices[start:end][np.argsort(-found.data[start:end])])
        return pad(rows)


class Napkin(Contestant):
    """napkinXC's probabilistic label tree with logistic classifiers."""

    settings = "PLT with default settings (one tree, logistic loss, exact search)"

    def train(self, X: csr_matrix, Y: csr_matrix) -> None:
        from napkinxc.models import PLT

        PLT(str(self.model), threads=self.threads, seed=0).fit(X, label_lists(Y))

    def load(self) -> None:
        from napkinxc.models import PLT

        self.tree = PLT(str(self.model), threads=self.threads)
        self.tree.load()

    def predict(self, X: csr_matrix) -> np.ndarray:
        return pad(self.tree.predict(X, top_k=K))
