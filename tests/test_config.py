import math
import os

import pytest

from slidelearn.config import LOSSES, OPTIMIZERS, Config, TableConfig, load_config
from slidelearn.errors import ConfigError

NESTED = Config(
    hidden=(512, 64),
    hidden_tables=TableConfig(family="simhash", k=6, l=20),
    tables=TableConfig(n_buckets=300, strategy="topk"),
    loss="bce",
    optimizer="adam",
    dropout=0.25,
    wide=0,
    seed=7,
)


def one_line(caught):
    message = str(caught.value)
    assert message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("config", [Config(), NESTED])
def test_round_trip(config):
    assert Config.from_dict(config.to_dict()) == config


def test_round_trip_of_a_file(tmp_path):
    path = tmp_path / "settings.toml"
    path.write_text(
        'hidden = [512, 64]\nloss = "bce"\noptimizer = "adam"\ndropout = 0.25\nwide = 0\nseed = 7\n'
        '[hidden_tables]\nfamily = "simhash"\nk = 6\nl = 20\n'
        '[tables]\nn_buckets = 300\nstrategy = "topk"\n'
    )
    assert Config.from_dict(load_config(path)) == NESTED


def test_what_is_left_out_comes_from_the_base():
    config = Config.from_dict({"tables": {"limit": 5}, "epochs": 9}, NESTED)
    assert config.tables == TableConfig(n_buckets=300, strategy="topk", limit=5)
    assert (config.epochs, config.loss, config.hidden) == (9, "bce", (512, 64))
    assert Config.from_dict({"hidden_tables": None}, NESTED).hidden_tables is None
    assert Config.from_dict({}, NESTED) == NESTED


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("epochs", 1, 2**31 - 1),
        ("batch_size", 1, 2**31 - 1),
        ("tail", 0, 2**31 - 1),
        ("seed", 0, 2**31 - 1),
        ("threads", 0, 2**31 - 1),
        ("lr", 0, 1e6),
        ("hidden_lr", 0, 1e6),
        ("wide_lr", 0, 1e6),
        ("weight_decay", 0, 1e6),
        ("temperature", 0, 1e6),
        ("wide", 0, 1e6),
        ("doubt", 0, 1e6),
        ("dropout", 0, 0.99),
        ("input_dropout", 0, 0.99),
    ],
)
def test_ranges(name, low, high):
    for value in (low, high):
        assert getattr(Config.from_dict({name: value}), name) == value
    for value in (low - 1, high + 1, math.nan if isinstance(high, float) else low - 2):
        with pytest.raises(ConfigError, match=f"^{name} is {value}, choose") as caught:
            Config.from_dict({name: value})
        one_line(caught)


@pytest.mark.parametrize(
    "name", ["k", "l", "n_buckets", "probes", "limit", "predict_probes", "predict_limit", "cap",
             "min_count", "rebuild_every"],
)  # fmt: skip
def test_ranges_of_tables(name):
    assert getattr(Config.from_dict({"tables": {name: 1}}).tables, name) == 1
    for value in (-1 if name == "limit" else 0, -3, 2**31):
        with pytest.raises(ConfigError, match=f"{name} is {value}, choose") as caught:
            Config.from_dict({"tables": {name: value}})
        one_line(caught)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"lost": 3}, "lost is no setting, choose among hidden, "),
        ({"tables": {"buckets": 3}}, "tables.buckets is no setting"),
        ({"tables": 3}, "tables is 3, give a table"),
        ({"hidden_tables": "simhash"}, "hidden_tables is 'simhash', give a table"),
        ({"loss": "mse"}, "loss is 'mse', choose one of softmax, bce, hinge"),
        ({"optimizer": "adam\nw"}, r"optimizer is 'adam\\nw', choose one of"),
        ({"start": "zero"}, "start is 'zero'"),
        ({"schedule": "step"}, "schedule is 'step'"),
        ({"tables": {"family": "lsh"}}, "family is 'lsh', choose one of"),
        ({"tables": {"strategy": "all"}}, "strategy is 'all'"),
        ({"hidden": []}, "hidden is empty"),
        ({"hidden": [0]}, "hidden is 0"),
        ({"hidden": 512}, "hidden is 512, give"),
        ({"hidden": "512"}, "hidden is '512', give"),
        ({"hidden": [512.0]}, "hidden is"),
        ({"hidden": [True]}, "hidden is"),
        ({"epochs": 2.5}, "epochs is 2.5, give"),
        ({"epochs": True}, "epochs is True, give"),
        ({"epochs": None}, "epochs is None, give"),
        ({"lr": "fast"}, "lr is 'fast', give"),
        ({"normalize": 1}, "normalize is 1, give"),
        ({"tables": {"n_buckets": 2.0}}, "tables.n_buckets is 2.0, give"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(values, said):
    with pytest.raises(ConfigError, match=f"^{said}") as caught:
        Config.from_dict(values)
    assert "<class" not in one_line(caught)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"epochs = \n", "not a TOML file"),
        (b"epochs = 3\nepochs = 4\n", "not a TOML file"),
        (b"[tables\n", "not a TOML file"),
        (b"\xff\xfe\x00", "not a TOML file"),
    ],
)
def test_a_wrong_file_is_one_line_that_names_it(tmp_path, content, said):
    path = tmp_path / "settings.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert one_line(caught).startswith(f"{path}: {said}")


def test_a_missing_file_and_a_folder(tmp_path):
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(ConfigError) as caught:
            load_config(path)
        assert one_line(caught).startswith(f"{path}: cannot be read")


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_learning_rates_fall(schedule):
    config = Config(schedule=schedule, lr_end=0.25)
    factors = [config.learning_rate_factor(p / 10) for p in range(-1, 12)]
    expected = {
        "cosine": lambda p: (1 + math.cos(math.pi * p)) / 2,
        "linear": lambda p: 1 - p,
        "constant": lambda p: 1.0,
    }[schedule]
    ref = [expected(min(max(p / 10, 0), 1)) for p in range(-1, 12)]
    if schedule != "constant":
        ref = [0.25 + 0.75 * factor for factor in ref]
    assert factors == pytest.approx(ref, abs=1e-12)


def test_threads():
    assert Config(threads=3).n_threads == 3
    assert 1 <= Config().n_threads <= os.cpu_count()


def test_every_loss_and_optimizer_is_accepted():
    for loss in LOSSES:
        for optimizer in OPTIMIZERS:
            assert Config(loss=loss, optimizer=optimizer).optimizer == optimizer
