"""The tour of the demo on a tiny tree of sources."""

import builtins

import numpy as np
import pytest

from slidelearn.cli import main
from slidelearn.demo import tour
from slidelearn.demo.answers import find
from slidelearn.demo.cache import cache_folder, load_learned, save_learned
from slidelearn.demo.plan import Plan
from slidelearn.display import answer_console, note_console

SOURCE = '''
import csv, socket

def read_csv_file_{i}(path):
    """Read a csv file with rows."""
    return len(list(csv.reader(open(path))))

def send_bytes_{i}(host):
    """Open a socket and send bytes to a host."""
    return len(socket.create_connection(host).sendall(b"x"))
'''


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    """A plan for a few files."""
    sources = tmp_path_factory.mktemp("sources")
    for i in range(20):
        (sources / f"module{i}.py").write_text(SOURCE.format(i=i))
    settings = {"epochs": 2, "hidden": [16], "batch_size": 8}
    return Plan(roots=(str(sources),), held_out=10, settings=settings)


@pytest.fixture(scope="module")
def learned(plan):
    """What the plan leads to, learned once for all tests."""
    return tour._learn(plan, note_console(quiet=True))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache folder of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def lessons(learned, cache, monkeypatch):
    """Has the tour learn at no cost; one entry for each time that it did."""
    count = []

    def learn(plan, notes):
        count.append(plan)
        return learned

    monkeypatch.setattr(tour, "_learn", learn)
    return count


def test_learns_reports_and_answers(plan, cache, capsys):
    tour.run_tour("read a csv file", plan=plan)
    out, err = capsys.readouterr()
    for words in ("the most popular names", "10 nearest functions", "every neuron", "P@5",
                  "% of the output neurons", "csv.reader()"):  # fmt: skip
        assert words in out
    assert "epoch 2/2" in err
    assert str(cache_folder(plan)) in err
    assert cache in cache_folder(plan).parents


def test_what_was_learned_is_kept(plan, lessons, capsys):
    tour.run_tour("send bytes", plan=plan, quiet=True)
    first, err = capsys.readouterr()
    assert err == ""
    tour.run_tour("send bytes", plan=plan)
    again, err = capsys.readouterr()
    assert again.splitlines()[:-1] == first.splitlines()[:-1]  # the last line says how long it took
    assert "learned before" in err
    assert len(lessons) == 1


def test_a_damaged_cache_is_learned_anew(plan, lessons):
    tour.run_tour("send bytes", plan=plan, quiet=True)
    (cache_folder(plan) / "report.json").write_text("{}")
    assert load_learned(cache_folder(plan)) is None
    tour.run_tour("send bytes", plan=plan, quiet=True)
    assert load_learned(cache_folder(plan)) is not None
    assert len(lessons) == 2


def test_a_cache_that_cannot_be_written_is_done_without(plan, cache, lessons, capsys):
    cache.write_text("in the way")
    tour.run_tour("send bytes", plan=plan)
    out, err = capsys.readouterr()
    assert "socket.create_connection()" in out
    assert "not kept for the next time" in err


def test_another_plan_or_set_of_packages_has_another_cache(plan, cache, monkeypatch):
    folders = {cache_folder(plan), cache_folder(Plan())}
    monkeypatch.setattr("slidelearn.demo.cache.distributions", list)
    assert len(folders | {cache_folder(plan)}) == 3


def test_only_one_is_kept(plan, learned, cache):
    for folder in (cache / "demo-1", cache / "demo-2"):
        save_learned(learned, folder)
    assert [path.name for path in cache.iterdir()] == ["demo-2"]


def test_the_encoder_is_restored(learned, cache):
    save_learned(learned, cache / "demo-1")
    restored = load_learned(cache / "demo-1")
    words = ["read a csv file", "socket host", ""]
    before, after = (each.encoder.transform(words) for each in (learned, restored))
    np.testing.assert_array_equal(before.toarray(), after.toarray())
    assert restored.report == learned.report


def test_builtins_stand_back_and_unknown_words_find_nothing(learned):
    answer = find(learned, "read csv rows")
    assert answer.names[0][0] == "csv.reader"
    assert all("." in name for name, _ in answer.names)
    assert set(answer.builtins) <= set(dir(builtins))
    assert find(learned, "quaternion").names == []
    scores = [score for _, score in answer.names]
    assert scores == sorted(scores, reverse=True)


def test_a_terminal_is_asked_until_an_empty_line(learned, capsys, monkeypatch):
    typed = iter(["send bytes to a host", "  "])
    monkeypatch.setattr("rich.console.Console.input", lambda *_: next(typed))
    tour._converse(learned, answer_console())
    assert "socket.create_connection()" in capsys.readouterr().out
    assert next(typed, None) is None


def test_no_sources_is_one_line(tmp_path, cache, capsys, monkeypatch):
    monkeypatch.setattr("slidelearn.demo.plan.QUICK", Plan(roots=(str(tmp_path),)))
    assert main(["demo", "--quick", "--quiet"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "no function" in err
    assert err.count("\n") == 1
