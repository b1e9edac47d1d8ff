"""The demo's learning problem, made from small source trees written for each test."""

import gc
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slidelearn.demo.corpus import collect, vectorise
from slidelearn.demo.functions import functions_of, split_words
from slidelearn.errors import DataError


def write(root: Path, sources: dict[str, str | bytes]) -> Path:
    for name, source in sources.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source if isinstance(source, bytes) else source.encode())
    return root


def calls_of(source: str, module: str = "pack.mod", *, is_package: bool = False):
    functions = functions_of(source.encode(), module, is_package=is_package)
    return {function.name.removeprefix(f"{module}."): function.calls for function in functions}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("read_csv", ["read", "csv"]),
        ("parseHTTPResponse", ["parse", "http", "response"]),
        ("__init__", ["init"]),
        ("float32 toString2", ["float32", "to", "string2"]),
        ("ÜberGröße, naïve-case", ["über", "größe", "naïve", "case"]),
        ("", []),
    ],
)
def test_text_is_split_into_words(text, words):
    assert split_words(text) == words


@given(st.text(st.characters(codec="ascii"), max_size=40))
@settings(deadline=None)
def test_words_that_were_split_stay_split(text):
    words = split_words(text)
    assert split_words(" ".join(words)) == words


def test_import_aliases_are_resolved():
    source = """
import os.path
import numpy as np
import xml.dom.minidom as minidom
from scipy import sparse
from scipy.sparse import csr_matrix as csr
def f(x):
    np.linalg.norm(x)
    os.path.join(x)
    minidom.parse(x)
    sparse.eye(3)
    csr(x)
"""
    assert calls_of(source)["f"] == [
        "numpy.linalg.norm",
        "os.path.join",
        "xml.dom.minidom.parse",
        "scipy.sparse.eye",
        "scipy.sparse.csr_matrix",
    ]


def test_relative_imports_are_resolved_against_the_package():
    source = "from . import a\nfrom .b import c\nfrom ..d import e\ndef f(): a.x(), c(), e()"
    assert calls_of(source, "top.pack.mod")["f"] == [
        "top.pack.a.x",
        "top.pack.b.c",
        "top.d.e",
    ]
    assert calls_of(source, "top.pack", is_package=True)["f"] == [
        "top.pack.a.x",
        "top.pack.b.c",
        "top.d.e",
    ]


def test_names_of_the_module_builtins_and_unknown_names():
    source = """
class Reader:
    def read(self): return self.open(len(self.rows))
def helper(): return Reader()
def f(callback):
    helper(), Reader.make(), dict.fromkeys([]), callback(), undefined()
    callback.go(), [].sort(), table[0](), ''.join([]), g().h()
"""
    found = calls_of(source)
    assert found["Reader.read"] == [".open", "len"]
    assert found["helper"] == ["pack.mod.Reader"]
    assert found["f"] == [
        "pack.mod.helper",
        "pack.mod.Reader.make",
        "dict.fromkeys",
        "callback",
        "undefined",
        ".go",
        ".sort",
        ".join",
        ".h",
        "g",
    ]


def test_local_names_hide_those_of_the_module():
    source = """
import json
from re import match
def parameter(json): json.loads()
def variable():
    match = find()
    match.group()
def imported():
    import ujson as json
    json.loads()
def neither(): json.loads(match())
"""
    found = calls_of(source)
    assert found["parameter"] == [".loads"]
    assert found["variable"] == ["find", ".group"]
    assert found["imported"] == ["ujson.loads"]
    assert found["neither"] == ["json.loads", "re.match"]


def test_calls_belong_to_the_function_that_makes_them():
    source = """
import functools
@functools.cache
def outer(x=default()):
    key = lambda v: inside_lambda(v)
    rows = [inside_comprehension(v) for v in x]
    @functools.wraps(x)
    def inner(y=inner_default()):
        return inside_inner(y)
    class Local(base()):
        field = in_class_body()
        def method(self): return in_method()
    return inner
async def later():
    async with opened() as f:
        await f.read()
"""
    found = calls_of(source)
    assert found["outer"] == [
        "inside_lambda",
        "inside_comprehension",
        "functools.wraps",
        "inner_default",
        "base",
    ]
    assert found["outer.inner"] == ["inside_inner"]
    assert found["outer.Local.method"] == ["in_method"]
    assert found["later"] == ["opened", ".read"]


def test_functions_under_conditions_are_found_and_silent_ones_are_not():
    source = """
try:
    import fast as backend
except ImportError:
    def fallback(): slow()
else:
    if True:
        def chosen(): backend.run()
def silent(x): return x + 1
"""
    assert calls_of(source) == {"fallback": ["slow"], "chosen": ["fast.run"]}


def test_every_kind_of_statement_is_walked():
    source = """
def f(x, *rest, key=None, **options):
    global total
    match x:
        case {"a": [1, *others], **more} if guard(x): in_case()
        case Point(x=0) | None: pass
    with a() as b, c(): pass
    for i in d(): e()
    while g(): break
    else: h()
    try: i()
    except j(): k()
    finally: l()
    y: m() = n()
    z = x[o() : : p()]
    assert q(), f"{r()!r:>{s()}}"
    del x[t()]
    return (yield u()) if v() else [*w()]
"""
    letters = "acdeghijklnopqrstuvw"  # not m: an annotation
    assert set(calls_of(source)["f"]) == {"guard", "in_case", *letters}


def test_text_is_names_parameters_and_docstring_but_never_the_body():
    source = '''
class HttpClient:
    def fetchAll(self, first_url, /, *args, timeOut=3, **kwargs):
        """Download every page."""
        secret_name = hidden_call("literal")
'''
    (function,) = functions_of(source.encode(), "web.client")
    assert function.name == "web.client.HttpClient.fetchAll"
    words = "http client fetch all first url time out args kwargs download every page"
    assert function.text == words


def test_files_that_do_not_parse_are_counted(tmp_path):
    root = write(
        tmp_path,
        {
            "p/good.py": "def f(): g()",
            "p/bad.py": "def f(:",
            "p/bytes.py": b"def f(): g('\xff')",
            "p/null.py": b"def f(): g('\x00')",
            "p/declared.py": b"# -*- coding: latin-1 -*-\ndef h(): g('\xff')",
            "p/deep.py": "def f(): " + "(" * 500 + ")" * 500,
        },
    )
    corpus = collect([root])
    assert sorted(corpus.names) == ["p.declared.h", "p.good.f"]
    assert (corpus.n_files, corpus.n_skipped) == (2, 4)


def test_nothing_is_imported_executed_or_warned_about(tmp_path):
    marker = tmp_path / "ran"
    root = write(
        tmp_path / "root",
        {"spam/__init__.py": f"open({str(marker)!r}, 'w')\ndef f(): return '\\d' is g()"},
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert collect([root]).names == ["spam.f"]
    assert not marker.exists()
    assert "spam" not in sys.modules
    assert gc.isenabled()


def test_tests_vendored_copies_and_odd_folders_are_passed_over(tmp_path):
    names = [
        "a/tests/x.py",
        "a/_vendor/x.py",
        "a/externals/x.py",
        "a/test_x.py",
        "a/conftest.py",
        "a-1.0.dist-info/x.py",
        "a/not-a-module.py",
        "a/x.txt",
    ]
    sources = {name: f"def f{number}(): g()" for number, name in enumerate(names)}
    root = write(tmp_path, {**sources, "a/x.py": "def kept(): g()"})
    assert collect([root]).names == ["a.x.kept"]


def test_duplicates_are_read_once_also_under_another_package_name(tmp_path):
    body = 'def helper(): len("")\ndef f(x):\n    """Words."""\n    helper(), x.go()\n'
    root = write(tmp_path, {"a/core.py": body, "b/copy.py": body + "def new(): helper()"})
    corpus = collect([root])
    assert corpus.names == ["a.core.helper", "a.core.f", "b.copy.new"]
    assert corpus.files == [0, 0, 1]
    assert corpus.n_duplicates == 2


def test_order_is_by_root_then_by_name_and_packages_are_listed(tmp_path):
    for number, root in enumerate(("z_first", "a_second")):
        for name in ("m/b.py", "m/a.py", "single.py"):
            write(tmp_path / root, {name: f"def {Path(name).stem}(x{number}): g()"})
    corpus = collect([tmp_path / "z_first", tmp_path / "a_second"])
    assert corpus.names == ["m.a.a", "m.b.b", "single.single"] * 2
    assert corpus.packages == ["m", "single"]


def test_links_back_to_a_folder_do_not_loop(tmp_path):
    root = write(tmp_path, {"a/x.py": "def f(): g()"})
    (root / "a" / "again").symlink_to(root / "a", target_is_directory=True)
    (root / "a" / "up").symlink_to(root, target_is_directory=True)
    (root / "gone.py").symlink_to(root / "missing.py")
    corpus = collect([root, root])
    assert corpus.names == ["a.x.f"]
    assert corpus.n_skipped == 1


def test_reading_stops_at_its_bounds(tmp_path):
    root = write(tmp_path, {f"m{i}.py": f"def f{i}(): g()\ndef h{i}(): g()" for i in range(5)})
    assert collect([root], max_functions=3).n_files == 2
    assert collect([root], seconds=0.0).n_files == 1


def test_a_folder_without_functions_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no function that calls anything"):
        collect([tmp_path])


def test_the_standard_library_is_read_by_default():
    corpus = collect(max_functions=50)
    assert corpus.packages[0] == "__future__"
    assert len(corpus.names) >= 50


@pytest.fixture
def corpus(tmp_path):
    source = "def readFile{0}(path): open(), only{0}()\ndef close_file(n{0}): only{0}(), shut()"
    return collect([write(tmp_path, {f"m{i:02}.py": source.format(i) for i in range(20)})])


def test_held_out_functions_are_from_files_that_are_not_in_training(corpus):
    train, test, _ = vectorise(corpus, seed=3)
    assert train.X.shape[0] + test.X.shape[0] == len(corpus.names) == 40
    assert test.X.shape[0] == 4  # all of 2 files of 20
    only = {f"only{i}" for i in range(20)}
    assert len(only & set(train.label_names)) == 18  # what nobody calls in training is no label
    assert set(train.Y.sum(axis=1).ravel().tolist()[0]) == {2}
    assert set(test.Y.sum(axis=1).ravel().tolist()[0]) == {1}


def test_matrices_hold_the_calls_and_the_words(corpus):
    train, test, encoder = vectorise(corpus)
    assert train.label_names == test.label_names == sorted(train.label_names)
    opened, shut = train.label_names.index("open"), train.label_names.index("shut")
    readers = encoder.transform(["read"])
    is_reader = (train.X @ readers.T).toarray().ravel() > 0
    np.testing.assert_array_equal(train.Y[:, [opened]].toarray().ravel() == 1, is_reader)
    np.testing.assert_array_equal(train.Y[:, [shut]].toarray().ravel() == 1, ~is_reader)
    assert test.Y[:, [opened, shut]].sum() == test.Y.sum() == test.X.shape[0]
    np.testing.assert_allclose(np.sqrt(train.X.multiply(train.X).sum(axis=1)), 1.0, rtol=1e-5)
    assert train.X.dtype == np.float32
    assert train.Y.has_canonical_format
    assert train.Y.dtype == np.uint8
    assert len(train.feature_names) == train.X.shape[1]


def test_a_question_is_split_like_the_code(corpus):
    encoder = vectorise(corpus).encoder
    asked, written = encoder.transform(["Read the FILE path!", "readFile_path"])
    np.testing.assert_array_equal(asked.toarray(), written.toarray())


def test_the_seed_draws_the_split(corpus):
    one, again, other = vectorise(corpus, 1), vectorise(corpus, 1), vectorise(corpus, 2)
    np.testing.assert_array_equal(one.test.X.toarray(), again.test.X.toarray())
    assert one.train.label_names == again.train.label_names != other.train.label_names


def test_rare_names_can_be_left_out(corpus):
    assert vectorise(corpus, min_count=3).train.label_names == ["open", "shut"]
    assert vectorise(corpus, min_count=2).test.Y.shape == (4, 20)
    with pytest.raises(DataError, match="lower min_count"):
        vectorise(corpus, min_count=99)


def test_corpora_too_small_to_split_are_named(tmp_path):
    one = collect([write(tmp_path / "one", {"a.py": "def f(): g()"})])
    with pytest.raises(DataError, match="from 1 file"):
        vectorise(one)
    two = collect([write(tmp_path / "two", {"a.py": "def f(): g()", "b.py": "def h(): g()"})])
    with pytest.raises(DataError, match="no word is shared"):
        vectorise(two)
