import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.sparse import csr_matrix

import naive
from batches import label_lists, label_matrix, random_features, random_labels
from problems import clusters
from slidelearn.config import Config
from slidelearn.hashing import FAMILIES
from slidelearn.index import NeuronIndex
from slidelearn.model import prepare_features
from slidelearn.network import hidden_rows, retrieve_labels
from slidelearn.predicting import predict_topk
from slidelearn.rows import sparse_rows
from slidelearn.sampling import draw_tail, tail_chances
from slidelearn.start import centre_hidden, own_lengths, start_network
from slidelearn.step import train_step
from slidelearn.training import Trainer
from slidelearn.workers import Workers

QUICK = {"hidden": [16], "tail": 10, "batch_size": 128, "epochs": 2, "dropout": 0.2}
HASHED_HIDDEN = {"hidden_tables": {"family": "simhash", "k": 3, "l": 4, "limit": 12}}
# Arrays smaller than this are one piece of work, whatever the number of threads.
PIECES = {"hidden": [300], "tail": 200, "batch_size": 256}


def small_tables(family, **changes):
    return {"tables": {"family": family, "k": 3, "l": 2, "limit": 20, "cap": 30} | changes}


def train(X, Y, settings, threads=1, n_epochs=None):
    """A trained network and the report of every epoch."""
    config = Config.from_dict(QUICK | settings)
    with Workers(threads) as workers:
        X = prepare_features(X, config)
        trainer = Trainer.start(config, X, Y, workers)
        reports = [
            trainer.run_epoch(X, Y, workers)
            for _ in range(config.epochs if n_epochs is None else n_epochs)
        ]
    return trainer.network, reports


def arrays_of(network):
    """Everything that training changes."""
    layers = (*network.hidden, network.output)
    found = [layer.weight for layer in layers] + [network.mean]
    found += [array for layer in layers for array in layer.optimizer[1:]]
    found += [] if network.wide is None else list(network.wide)
    return found + [index.tables.neurons for index in network.indexes if index is not None]


def identical(a, b):
    return all(np.array_equal(x, y) for x, y in zip(arrays_of(a), arrays_of(b), strict=True))


@pytest.mark.parametrize("wide", [0.0, 4.0])
def test_negligible_gradients_do_not_train(wide):
    X, Y = some_examples()
    few_X, few_Y = X[:8], Y[:8]
    settings = QUICK | small_tables("centroids") | {"wide": wide, "lr": 1.0}
    moved, active = {}, {}
    for least in (0.0, 0.1, 10.0):
        config = Config.from_dict(settings | {"negligible": least})
        with Workers(1) as workers:
            trainer = Trainer.start(config, X, Y, workers)
            network, before = trainer.network, trainer.network.output.weight.copy()
            tail = draw_tail(tail_chances(np.ones(300), 10), np.random.default_rng(0))
            report = train_step(
                network, config, few_X, few_Y, number=0, lr_factor=1.0, workers=workers, tail=tail
            )
        moved[least], active[least] = report.moved[-1], report.active.tolist()
        changed = np.flatnonzero((network.output.weight != before).any(axis=1))
        assert set(changed) <= set(moved[least])
    assert moved[10.0].tolist() == tail.neurons.tolist()
    assert set(moved[10.0]) < set(moved[0.1]) < set(moved[0.0])
    assert active[0.0] == active[0.1] == active[10.0]


def some_examples(n=300, n_labels=300, n_features=90, seed=0):
    X, Y, _ = clusters(n, n_labels, n_features, seed)
    return X, Y


# --- reproducible


@pytest.mark.parametrize("family", list(FAMILIES))
@pytest.mark.parametrize("hidden", [{}, HASHED_HIDDEN], ids=["dense", "hashed"])
def test_weights_do_not_depend_on_threads(family, hidden):
    X, Y = some_examples()
    settings = PIECES | hidden | small_tables(family, rebuild_every=1) | {"input_dropout": 0.1}
    first, _ = train(X, Y, settings, threads=1)
    for threads in (2, 3, 7):
        again, _ = train(X, Y, settings, threads=threads)
        assert identical(first, again)


@pytest.mark.parametrize("family", list(FAMILIES))
def test_weights_do_not_depend_on_threads_with_a_hidden_layer_of_every_family(family):
    X, Y = some_examples()
    settings = PIECES | {"hidden_tables": HASHED_HIDDEN["hidden_tables"] | {"family": family}}
    first, _ = train(X, Y, settings, threads=1, n_epochs=1)
    again, _ = train(X, Y, settings, threads=3, n_epochs=1)
    assert identical(first, again)


@pytest.mark.parametrize("hidden", [{}, HASHED_HIDDEN], ids=["dense", "hashed"])
def test_a_seed_decides_the_weights(hidden):
    X, Y = some_examples()
    first, _ = train(X, Y, hidden | {"seed": 5})
    again, _ = train(X, Y, hidden | {"seed": 5})
    other, _ = train(X, Y, hidden | {"seed": 6})
    assert identical(first, again)
    assert not np.array_equal(first.output.weight, other.output.weight)


# --- one step is that of the oracle


def oracle_layers(network):
    """Neuron-major float64 weights of all layers."""
    hidden = [w.weight if w.hashed else w.weight.T for w in network.hidden]
    return [w.astype(float) for w in (*hidden, network.output.weight)]


def masks_of(network, X):
    """Hidden neurons that examples retrieve, layer by layer; None for a dense layer."""
    masks = []
    for depth, layer in enumerate(network.hidden):
        if not layer.hashed:
            masks.append(None)
            continue
        below = network._replace(hidden=network.hidden[:depth], mean=np.zeros(1, np.float32))
        index = network.indexes[depth]
        inputs = hidden_rows(below, sparse_rows(X), first_example=0)
        pairs = index.lookup(inputs, index.train_size, 0)
        mask = np.zeros((X.shape[0], layer.n_out), bool)
        mask[np.repeat(np.arange(X.shape[0]), np.diff(pairs.indptr)), pairs.neurons] = True
        masks.append(mask)
    return masks


def with_lone_label(Y):
    """Labels Y, of which the second example alone has the first and the fourth no other."""
    Y = Y.tolil()
    Y[:, 0] = 0
    Y[3, :] = 0
    Y[3, 0] = 1
    return csr_matrix(Y)


def active_sets(network, X, Y):
    """Labels and retrieved neurons of every example."""
    size, x = network.indexes[-1].train_size, sparse_rows(X)
    h = hidden_rows(network, x, first_example=0)
    found = retrieve_labels(network, x, h, size, 0)
    retrieved = np.split(found.neurons, found.indptr[1:-1])
    return [
        np.union1d(labels, own).astype(int)
        for labels, own in zip(label_lists(Y), retrieved, strict=True)
    ]


@pytest.mark.parametrize("optimizer", ["adagrad", "sgd", "adam"])
@pytest.mark.parametrize("loss", ["softmax", "bce", "hinge"])
@pytest.mark.parametrize("hidden", [{}, HASHED_HIDDEN], ids=["dense", "hashed"])
@pytest.mark.parametrize("left_out", [True, False])
def test_one_step(optimizer, loss, hidden, left_out):
    n, width, n_labels = 90, 20, 40  # more than one piece of a batch
    X, Y = random_features(n, width), with_lone_label(random_labels(n, n_labels))
    config = Config.from_dict(
        hidden | small_tables("simhash", limit=6)
        | {"hidden": [14, 11], "tail": 9, "dropout": 0, "batch_size": n, "temperature": 3}
        | {"wide": 2, "loss": loss, "optimizer": optimizer, "normalize": False}
        | {"lr": 0.05, "hidden_lr": 0.1, "wide_lr": 0.2, "weight_decay": 0.1, "negligible": 0}
    )  # fmt: skip
    with Workers(1) as workers:
        trainer = Trainer.start(config, X, Y, workers)
        network, own = trainer.network, trainer.own if left_out else None
        before, wide = oracle_layers(network), network.wide
        masks, active = masks_of(network, X), active_sets(network, X, Y)
        tail = draw_tail(tail_chances(Y.toarray().sum(axis=0), 9), np.random.default_rng(0))
        stored = csr_matrix((wide.weights.copy(), wide.features, wide.indptr), (n_labels, width))
        present = csr_matrix((np.ones(len(wide.weights)), wide.features, wide.indptr), stored.shape)
        report = train_step(
            network, config, X, Y, number=0, lr_factor=0.5, workers=workers, tail=tail, own=own
        )
    dense_X, wide_before = X.toarray().astype(float), stored.toarray().astype(float)
    total, gradients, delta = naive.loss_and_gradients(
        loss, before, masks, network.mean, wide_before, dense_X, label_lists(Y), active, tail,
        np.zeros((3, n_labels), bool) if own is None else own,
    )  # fmt: skip
    assert_allclose(report.loss, total, rtol=1e-4)
    for layer, old, gradient in zip(network.hidden, before, gradients, strict=False):
        stored_as = (lambda w: w) if layer.hashed else np.transpose
        every = np.arange(len(layer.weight))
        ref = naive.move_rows(optimizer, stored_as(old), stored_as(gradient), every, 0.05)
        assert_allclose(layer.weight, ref, rtol=1e-3, atol=1e-4)
    touched = np.union1d(np.concatenate(active), tail.neurons)
    assert report.moved[-1].tolist() == touched.tolist()
    ref = naive.move_rows(optimizer, before[-1], gradients[-1], touched, 0.025, 0.1)
    # Adam's first step is as long for a gradient of 1e-7, whose sign is a matter of rounding.
    sure = (np.abs(gradients[-1]) > 1e-5) | (gradients[-1] == 0) | (optimizer != "adam")
    assert sure.mean() > 0.9
    assert_allclose(network.output.weight[sure], ref[sure], rtol=1e-3, atol=1e-4)
    ref = naive.move_wide(
        wide_before, present.toarray() > 0, dense_X, delta, active, tail.neurons, 0.1
    )
    after = csr_matrix((wide.weights, wide.features, wide.indptr), stored.shape).toarray()
    assert_allclose(after, ref, rtol=1e-3, atol=1e-3)
    deep, (_, gates) = [], naive.forward(before, masks, network.mean, dense_X)
    for gate, mask in zip(gates, masks, strict=True):
        deep.append(gate.size if mask is None else mask.sum())
    n_active = sum(len(own) for own in active) + n * len(tail.neurons)
    assert report.active.tolist() == [*deep, n_active]


# --- the start


def test_output_neurons_start_at_centroids_of_centred_hidden_vectors():
    X, Y = random_features(90, 20), random_labels(90, 40)
    config = Config(hidden=(12,), tail=5, temperature=7, prior=0.5, wide=0, normalize=False)
    with Workers(1) as workers:
        network = Trainer.start(config, X, Y, workers).network
        again = centre_hidden(network._replace(mean=np.zeros(12, np.float32)), X)
        again.output.weight[:] = 0
        again, _ = start_network(again, config, X, Y, workers)
    weights = [network.hidden[0].weight.T.astype(float), np.zeros((40, 13))]
    zeros = np.zeros(12)
    (_, raw), _ = naive.forward(weights, [None], zeros, X.toarray().astype(float))
    H = raw - raw.mean(axis=0)
    ref = naive.centroid_start(H, Y.toarray().astype(float), 7)
    counts = Y.toarray().sum(axis=0)
    for started in (network, again):
        assert_allclose(started.mean, raw.mean(axis=0), rtol=1e-4, atol=1e-6)
        assert_allclose(started.output.weight[:, :-1], ref, rtol=1e-3, atol=1e-3)
        biases = naive.BIAS_INPUT * started.output.weight[:, -1]
        assert_allclose(biases, 0.5 * np.log(np.maximum(counts, 0.1)), rtol=1e-5, atol=1e-5)


def test_an_examples_own_part_of_the_start_is_what_it_added():
    X, Y = random_features(60, 20), with_lone_label(random_labels(60, 15))
    config = Config(hidden=(12,), tail=5, normalize=False, doubt=1.0)
    with Workers(1) as workers:
        trainer = Trainer.start(config, X, Y, workers)
    network, own = trainer.network, trainer.own
    H = hidden_rows(network, sparse_rows(X)).matrix()[:, :-1].astype(float)
    lengths = np.linalg.norm(H, axis=1, keepdims=True)
    unit = np.divide(H, lengths, out=np.zeros_like(H), where=lengths > 0)
    labels, x = Y.toarray().astype(float), X.toarray().astype(float)
    assert_allclose(own.deep[:, None] * (labels.T @ unit), network.output.weight[:, :-1], atol=1e-4)
    sums = labels.T @ x
    lengths = np.linalg.norm(sums, axis=1)
    trusted = naive.trust(labels, trainer.config.doubt)[:, 0]
    assert_allclose(own.wide * lengths, trainer.config.wide * trusted, atol=1e-4)
    assert own.lone.tolist() == (labels.sum(axis=0) == 1).tolist()


@pytest.mark.nojit
@pytest.mark.parametrize("hidden", [{}, HASHED_HIDDEN], ids=["dense", "hashed"])
def test_own_lengths_know_dropout(hidden):
    X = random_features(30, 20)
    config = Config.from_dict(hidden | {"hidden": [14, 11], "tail": 5, "normalize": False})
    with Workers(1) as workers:
        network = Trainer.start(config, X, random_labels(30, 15), workers).network
    rng, x, traces = np.random.default_rng(0), sparse_rows(X), []
    clean = hidden_rows(network, x)
    h = hidden_rows(network, x, traces=traces)
    dropped = hidden_rows(network, x, dropout=0.5, rng=rng, traces=traces)
    a, b = ((r.matrix()[:, :-1] if r.dense else r.csr().toarray()) for r in (clean, dropped))
    ref = np.linalg.norm(a, axis=1)
    assert_allclose(own_lengths(h, traces[1].z, network.mean), ref, rtol=1e-4)
    assert_allclose(own_lengths(clean, traces[1].z, network.mean), ref, rtol=1e-4)
    z = traces[3].z
    if dropped.dense:
        a = np.maximum(z, 0) - network.mean
    else:
        a = dropped._replace(values=np.maximum(z, 0)).csr().toarray()
    norms = np.linalg.norm(a, axis=1)
    ref = np.divide((a * b).sum(axis=1), norms, out=np.zeros_like(norms), where=norms > 0)
    assert_allclose(own_lengths(dropped, z, network.mean), ref, rtol=1e-4, atol=1e-5)


# --- learning


@pytest.mark.parametrize("loss", ["softmax", "bce", "hinge"])
@pytest.mark.parametrize("hidden", [{}, HASHED_HIDDEN], ids=["dense", "hashed"])
def test_the_loss_falls(loss, hidden):
    X, Y, labels = clusters()
    settings = hidden | {"hidden": [64], "loss": loss, "epochs": 8, "start": "random", "wide": 0}
    rates = {"temperature": 2, "lr": 0.1, "hidden_lr": 0.05, "batch_size": 32, "dropout": 0}
    if hidden:
        rates["hidden_tables"] = hidden["hidden_tables"] | {"limit": 32}
    network, reports = train(X, Y, settings | rates)
    losses = [report.loss for report in reports]
    assert losses[-1] < 0.5 * losses[0]
    with Workers(1) as workers:
        ready = prepare_features(X, Config())
        top = predict_topk(network, ready, 1, exact=True, workers=workers)
    assert (top.labels[:, 0] == labels).mean() > 0.5


@pytest.mark.parametrize("max_drift", [0.0, 1.0])
def test_neurons_are_filed_anew_by_the_schedule(monkeypatch, max_drift):
    """With new tables where some neuron has drifted; without, where all may."""
    X, Y, _ = clusters(n=330)
    steps = {"refile": [], "rebuild": []}
    config = Config.from_dict(
        QUICK | small_tables("simhash", rebuild_every=3, rebuild_decay=0.3, max_drift=max_drift)
        | {"batch_size": 30, "epochs": 5, "lr": 3.0, "doubt": 3.0}
    )  # fmt: skip
    with Workers(1) as workers:
        trainer = Trainer.start(config, X, Y, workers)
        for name, noted_steps in steps.items():
            original = getattr(NeuronIndex, name)

            def noted(index, *args, original=original, noted_steps=noted_steps):
                noted_steps.append(trainer.step)
                return original(index, *args)

            monkeypatch.setattr(NeuronIndex, name, noted)
        for _ in range(config.epochs):
            trainer.run_epoch(X, Y, workers)
    assert trainer.step == 55
    assert sorted(steps["refile"] + steps["rebuild"]) == naive.rebuild_steps(3, 0.3, 55)
    assert len(steps["refile" if max_drift else "rebuild"]) > 3


def test_refiled_neurons_are_where_new_tables_would_have_them():
    X, Y, _ = clusters(n=330)
    config = Config.from_dict(
        QUICK | small_tables("simhash", rebuild_every=10**6) | {"batch_size": 30, "lr": 3.0}
    )
    with Workers(1) as workers:
        trainer = Trainer.start(config, X, Y, workers)
        trainer.run_epoch(X, Y, workers)
        index, weight = trainer.network.indexes[-1], trainer.network.output.weight
        moved = np.flatnonzero(trainer.moved[-1])
        assert 0 < index.drift(weight, moved, workers) <= 1
        index.refile(weight, moved, workers)
        refiled = index.tables
        assert index.drift(weight, moved, workers) == 0
        index.rebuild(weight, workers)
    for ours, ref in zip(refiled, index.tables, strict=True):
        assert np.array_equal(ours, ref)


def test_reports_and_progress():
    X, Y = some_examples(n=130, n_labels=40)
    config = Config.from_dict(QUICK | {"batch_size": 50})
    seen = []
    with Workers(2) as workers:
        trainer = Trainer.start(config, X, Y, workers)
        reports = [trainer.run_epoch(X, Y, workers, show=seen.append) for _ in range(2)]
    assert [(p.epoch, p.done, p.total) for p in seen] == [
        (epoch, done, 130) for epoch in (1, 2) for done in (50, 100, 130)
    ]
    assert [r.epoch for r in reports] == [1, 2]
    assert seen[-1].loss == reports[-1].loss
    assert reports[0].train_seconds < reports[1].train_seconds
    assert reports[1].active_share[0] == 1
    assert 0 < reports[1].active_share[1] < 1


def test_stop_ends_an_epoch():
    X, Y = some_examples()
    config = Config.from_dict(QUICK | {"batch_size": 50})
    with Workers(1) as workers:
        trainer = Trainer.start(config, X, Y, workers)
        trainer.run_epoch(X, Y, workers, stop=lambda: trainer.step == 2)
    assert (trainer.step, trainer.epoch) == (2, 1)


# --- odd examples


@pytest.mark.parametrize("loss", ["softmax", "bce", "hinge"])
@pytest.mark.parametrize(
    "settings",
    [{}, HASHED_HIDDEN, {"tail": 1000}, {"tail": 1000, "wide": 0}, {"tail": 0}],
    ids=["defaults", "hashed", "all", "all-deep", "no-tail"],
)
def test_empty_rows_no_labels_and_one_label(loss, settings):
    X = random_features(12, 20)
    X.data[X.indptr[5] : X.indptr[7]] = 0
    X.eliminate_zeros()
    Y = label_matrix([[], [], [3], [0, 1, 2], [3], [], [9], [8, 9], [], [4], [4], [29]], 30)
    network, reports = train(X, Y, settings | {"loss": loss, "batch_size": 5, "input_dropout": 0.2})
    assert all(np.isfinite(array).all() for array in arrays_of(network))
    assert all(np.isfinite(report.loss) for report in reports)


@pytest.mark.parametrize("settings", [{}, {"hidden_tables": HASHED_HIDDEN["hidden_tables"]}])
def test_nothing_to_learn_from(settings):
    """One label for everyone, and no label for anyone."""
    X = random_features(10, 20)
    network, reports = train(X, label_matrix([[0]] * 10, 1), settings)
    assert_allclose([report.loss for report in reports], 0, atol=1e-5)
    network, reports = train(X, label_matrix([[]] * 10, 6), settings)
    assert [report.loss for report in reports] == [0, 0]
    assert np.isfinite(network.output.weight).all()


def test_ids_above_16_bits():
    """Shifted labels and features learn as they do where they were."""
    X, Y, labels = clusters(n=200, n_labels=30)
    far_X, far_Y = X.copy(), Y.copy()
    far_X.resize(200, X.shape[1] + 70_000)
    far_X.indices += 70_000
    far_Y.resize(200, 30 + 66_000)
    far_Y.indices += 66_000
    settings = small_tables("simhash", k=6) | {"epochs": 4}
    network, _ = train(far_X, far_Y, settings)
    with Workers(1) as workers:
        ready = prepare_features(far_X, Config())
        for exact in (True, False):
            top = predict_topk(network, ready, 1, exact=exact, workers=workers)
            assert (top.labels[:, 0] == labels + 66_000).mean() > 0.9


@pytest.mark.nojit
@pytest.mark.parametrize("hidden", [{}, HASHED_HIDDEN], ids=["dense", "hashed"])
@pytest.mark.parametrize("family", list(FAMILIES))
def test_a_tiny_run_learns(family, hidden):
    X, Y, labels = clusters(n=24, n_labels=6, n_features=18)
    settings = {"hidden": [8], "tail": 2, "batch_size": 12, "dropout": 0, "epochs": 1}
    network, reports = train(X, Y, hidden | small_tables(family) | settings)
    assert np.isfinite(reports[0].loss)
    with Workers(1) as workers:
        ready = prepare_features(X, Config())
        top = predict_topk(network, ready, 1, exact=True, workers=workers)
    assert (top.labels[:, 0] == labels).mean() > 0.8
