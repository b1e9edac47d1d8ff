import numpy as np
import pytest
from scipy.sparse import csr_matrix

from slidelearn.rules import choose_config


def shape(n, width):
    return csr_matrix((n, width), dtype=np.float32)


def labels(n, n_labels, each):
    """Every example has so many labels."""
    ids = (np.arange(n * each, dtype=np.int32)) % n_labels
    return csr_matrix((np.ones(n * each, np.uint8), ids, each * np.arange(n + 1)), (n, n_labels))


def config_of(n, n_features, n_labels, overrides=None, each=2):
    return choose_config(shape(n, n_features), labels(n, n_labels, each), overrides)


def test_few_labels_of_few_features_are_computed_in_full():
    config = config_of(10_000, 2000, 2000)
    assert config.tail >= 2000
    assert config.wide == 0
    assert config.hidden == (2048,)
    for n_features, n_labels in ((2001, 2000), (2000, 2001), (50_000, 10)):
        config = config_of(10_000, n_features, n_labels)
        assert config.tail < 2000
        assert config.wide > 0
        assert config.hidden == (1024,)


@pytest.mark.parametrize(
    ("n_features", "n_labels", "width"),
    [(50_000, 40_000, 1024), (100_000, 480_000, 512), (10**6, 40_000, 256), (10**4, 10**7, 128)],
)
def test_the_hidden_layer_fits_into_memory(n_features, n_labels, width):
    assert config_of(100_000, n_features, n_labels).hidden == (width,)
    assert config_of(100_000, n_features, n_labels, {"hidden": [7]}).hidden == (7,)


def test_many_examples_and_those_with_one_label_get_a_narrower_hidden_layer():
    assert config_of(500_000, 50_000, 40_000).hidden == (512,)
    assert config_of(100_000, 50_000, 40_000, each=1).hidden == (512,)
    assert config_of(100_000, 2000, 2000, each=1).hidden == (2048,)


def test_the_wide_path_finds_the_hard_negatives_where_there_is_one():
    config = config_of(10_000, 5000, 3000)
    assert (config.tables.limit, config.tables.predict_limit) == (0, 8)
    kept = config_of(10_000, 5000, 3000, {"tables": {"limit": 5, "l": 2}}).tables
    assert (kept.limit, kept.predict_limit, kept.l) == (5, 8, 2)
    alone = config_of(10_000, 5000, 3000, {"wide": 0.0}).tables
    assert alone.limit > 0
    assert alone.predict_limit > 32


def test_many_examples_spare_some_for_calibration():
    assert config_of(49_999, 5000, 3000).calibration == 0
    assert config_of(50_000, 5000, 3000).calibration == 1000
    assert config_of(400_000, 5000, 3000).calibration == 4000
    assert config_of(400_000, 2000, 2000).calibration == 0
    assert config_of(400_000, 5000, 200).calibration == 0
    for name in ("vote", "margin", "neighbours"):
        assert config_of(400_000, 5000, 3000, {name: 0}).calibration == 0
    assert config_of(400_000, 5000, 3000, {"vote": 2.0, "calibration": 7}).calibration == 7
    assert config_of(400_000, 5000, 3000, {"cooccurrence": 0.7}).calibration == 0
    assert config_of(400_000, 5000, 3000, {"twin": 2.0}).calibration == 0
    assert config_of(400_000, 5000, 3000).twin == 0
    assert config_of(40_000, 5000, 3000).twin is None
    assert config_of(400_000, 5000, 3000, {"cooccurrence": 0}).calibration == 4000


@pytest.mark.parametrize(
    ("n", "n_labels", "epochs", "tail"),
    [
        (10_000, 3000, 1, 300),
        (99_999, 3000, 1, 300),
        (100_000, 3000, 1, 200),
        (10_000, 200_000, 1, 300),
        (200_000, 200_000, 1, 200),
        (10_000, 2000, 5, 2000),
        (49_999, 2000, 5, 2000),
        (60_000, 2000, 2, 2000),
        (100_000, 2000, 1, 2000),
    ],
)
def test_few_examples_of_few_labels_are_seen_more_often(n, n_labels, epochs, tail):
    config = config_of(n, 5000 if n_labels > 2000 else 1000, n_labels)
    assert (config.epochs, config.tail) == (epochs, tail)


@pytest.mark.parametrize(
    ("n_labels", "each", "found"), [(100_000, 2, 16), (100_001, 1, 16), (100_001, 2, 64)]
)
def test_very_many_labels_need_more_hard_negatives_where_examples_have_several(
    n_labels, each, found
):
    assert config_of(5000, 5000, n_labels, each=each).tables.wide_limit == found


@pytest.mark.parametrize(
    ("n", "n_features", "n_labels", "each", "expected"),
    [
        (99_999, 2001, 2001, 2, (3.0, 40, 1.0)),
        (99_999, 2001, 2000, 2, (3.0, 15, 0.5)),
        (99_999, 2000, 2000, 2, (1.0, 15, 0.5)),
        (100_000, 2001, 2001, 2, (3.0, 15, 0.5)),
        (99_999, 2001, 2001, 1, (3.0, 15, 0.5)),
    ],
)
def test_margins_learn_more_where_few_examples_have_several_labels(
    n, n_features, n_labels, each, expected
):
    config = config_of(n, n_features, n_labels, each=each)
    assert (config.margin, config.rivals, config.margin_cost) == expected


def test_few_labels_are_not_ranked_again():
    assert config_of(10_000, 1000, 2000).cooccurrence == 0
    assert config_of(10_000, 1000, 2001).cooccurrence > 0


def test_measurements_get_no_sparse_paths():
    X = csr_matrix(np.ones((300, 20), np.float32))
    config = choose_config(X, shape(300, 3000))
    assert (config.wide, config.neighbours, config.margin, config.normalize) == (0, 0, 0, False)
    assert config.tables.limit > 0
    few = choose_config(csr_matrix(np.ones((300, 2500), np.float32)), shape(300, 2000))
    assert (few.tail, few.temperature, few.cooccurrence) == (2000, 10, 0)  # all neurons are active
    many = csr_matrix(np.ones((60_000, 3), np.float32))
    assert choose_config(many, shape(60_000, 3000)).epochs == 2
