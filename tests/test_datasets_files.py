"""npz, Parquet, round trips between all formats, and writing whole files."""

import errno
import hashlib
import io
import json
import os
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from slidelearn import files
from slidelearn.datasets import Dataset, convert, line_writer, load_dataset, parquet, save_dataset
from slidelearn.datasets.dataset import check_dataset
from slidelearn.errors import ConfigError, DataError
from slidelearn.files import atomic_write, write_hashed

NAMES = ["a.txt", "a.xmc.gz", "a.txt.zst", "a.svm", "a.libsvm.gz", "a.npz", "a.parquet"]


def same(first, second):
    for one, two in ((first.X, second.X), (first.Y, second.Y)):
        assert one.shape == two.shape
        for part in ("data", "indices", "indptr"):
            a, b = getattr(one, part), getattr(two, part)
            assert a.dtype == b.dtype
            assert a.tobytes() == b.tobytes()
    assert first[2:] == second[2:]


def csr_rows(rows, columns, data):
    indptr = np.cumsum([0] + [len(row) for row in rows])
    indices = np.array([column for row in rows for column in row], np.int32)
    return csr_matrix((data, indices, indptr), shape=(len(rows), columns))


@st.composite
def datasets(draw):
    shapes = [(1, 1), (5, 1), (70_000, 3), (3, 200_000), (2**31 - 1, 70_001)]
    n_features, n_labels = draw(st.sampled_from(shapes))
    ids = [
        st.sets(st.integers(max(0, width - 9), width - 1) | st.integers(0, width - 1))
        for width in (n_features, n_labels)
    ]
    rows = draw(st.lists(st.tuples(*ids), max_size=8))
    features, labels = ([sorted(row[side]) for row in rows] for side in (0, 1))
    count = sum(map(len, features))
    finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
    values = np.array(draw(st.lists(finite, min_size=count, max_size=count)), np.float32)
    ones = np.ones(sum(map(len, labels)), np.uint8)
    return Dataset(csr_rows(features, n_features, values), csr_rows(labels, n_labels, ones))


@settings(max_examples=60, deadline=None)
@given(datasets(), st.permutations(NAMES), st.sampled_from([1, 4, 2**20]))
def test_round_trips_keep_every_bit(tmp_path_factory, dataset, names, piece):
    folder = tmp_path_factory.mktemp("trip")
    widths = {"n_features": dataset.X.shape[1], "n_labels": dataset.Y.shape[1]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(line_writer, "_PIECE", piece)
        patch.setattr(parquet, "_PIECE", piece)
        current = dataset
        for name in names:
            save_dataset(current, folder / name)
            current = load_dataset(folder / name, **widths)
            same(current, dataset)


def test_widths_are_stored_except_in_svmlight(tmp_path):
    dataset = check_dataset(Dataset([[0.5, 0, 0]], [[0, 1, 0, 0]]))
    for name in NAMES:
        save_dataset(dataset, tmp_path / name)
        got = load_dataset(tmp_path / name)
        widths = (1, 2) if "svm" in name else (3, 4)
        assert (got.X.shape[1], got.Y.shape[1]) == widths


def test_double_rounding_is_avoided_in_text(tmp_path):
    value = np.array([0x15AE43FD], np.uint32).view(np.float32)
    assert np.float32(float(str(value[0]))) != value[0]  # the shortest form misreads
    dataset = check_dataset(Dataset(value.reshape(1, 1), [[1]]))
    save_dataset(dataset, tmp_path / "a.txt")
    same(load_dataset(tmp_path / "a.txt"), dataset)


def test_text_is_the_shortest_that_reads_back(tmp_path):
    save_dataset(Dataset([[0.1, 0, 3], [0, 0, 0]], [[0, 1], [1, 1]]), tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_text() == "2 3 2\n1 0:0.1 2:3\n0,1\n"


@pytest.mark.parametrize("names", [(["x", "é "], ["f"]), ([], None), (None, ["a\nb"])])
@pytest.mark.parametrize("name", ["a.npz", "a.parquet"])
def test_names_round_trip(tmp_path, name, names):
    labels = np.zeros((1, len(names[0]) if names[0] is not None else 1))
    dataset = check_dataset(Dataset(np.ones((1, 1)), labels, *names))
    save_dataset(dataset, tmp_path / name)
    same(load_dataset(tmp_path / name), dataset)


def test_convert_equals_load_and_save(tmp_path):
    dataset = check_dataset(Dataset([[0.5, 0.25]], [[0, 1]]))
    save_dataset(dataset, tmp_path / "a.txt")
    convert(tmp_path / "a.txt", tmp_path / "b.parquet")
    same(load_dataset(tmp_path / "b.parquet"), dataset)


def test_unknown_extensions_list_the_known(tmp_path):
    dataset = Dataset([[1.0]], [[1]])
    with pytest.raises(DataError, match=r"unknown extension '\.csv'.*\.txt.*\.parquet"):
        save_dataset(dataset, tmp_path / "a.csv.gz")
    with pytest.raises(DataError, match="is a folder; give a file in it"):
        load_dataset(tmp_path)
    with pytest.raises(DataError, match="unknown extension ''"):
        load_dataset(tmp_path / "gz")
    with pytest.raises(DataError, match=r"drop \.gz"):
        load_dataset(tmp_path / "a.npz.gz")
    with pytest.raises(DataError, match="unknown extension"):
        convert(tmp_path / "none.txt", tmp_path / "a.csv")


@pytest.mark.parametrize("width", [0, -1, 2**31, 1.5, True])
@pytest.mark.parametrize("name", NAMES)
def test_impossible_widths(tmp_path, name, width):
    with pytest.raises(ConfigError, match="n_labels is"):
        load_dataset(tmp_path / name, n_labels=width)


def test_save_refuses_inconsistent_datasets(tmp_path):
    for dataset, fragment in (
        (Dataset([[1.0]], [[1], [0]]), "X has 1 rows but Y has 2"),
        (Dataset([[1.0]], [[1]], ["a", "b"]), "label_names holds 2 names for 1 columns"),
        (Dataset([[1.0]], [[1]], None, [3]), "feature_names must be a list of strings"),
        (Dataset([[np.nan]], [[1]]), "X row 0, column 0: value nan is not finite"),
        (Dataset([[1.0]], [[1]], ["a\0"]), "ends in a NUL"),
    ):
        with pytest.raises(DataError, match=fragment):
            save_dataset(dataset, tmp_path / "a.npz")
        assert not list(tmp_path.iterdir())


def npz_arrays():
    return {
        "X_data": np.array([0.5, 1.5, 2.5], np.float32),
        "X_indices": np.array([0, 3, 1], np.int32),
        "X_indptr": np.array([0, 2, 3]),
        "X_shape": np.array([2, 4]),
        "Y_data": np.ones(2, np.uint8),
        "Y_indices": np.array([2, 0]),
        "Y_indptr": np.array([0, 2, 2]),
        "Y_shape": np.array([2, 3]),
    }


def test_npz_sorts_labels_only(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", **npz_arrays())
    got = load_dataset(tmp_path / "a.npz")
    np.testing.assert_array_equal(got.X.toarray(), [[0.5, 0, 0, 1.5], [0, 2.5, 0, 0]])
    np.testing.assert_array_equal(got.Y.indices, [0, 2])


@pytest.mark.parametrize(
    ("name", "value", "fragment"),
    [
        ("X_data", np.array([1.0, np.nan, 2]), "X row 0, column 3: value nan is not finite"),
        ("X_data", np.array([1.0, 2, 1e39]), "X row 1, column 1: value 1e\\+39 overflows"),
        ("X_data", np.array([1.0, 2]), "over 3 indices and 2 values"),
        ("X_data", np.array(["a", "b", "c"]), "not real numbers"),
        ("X_data", np.array([1, None, 2], object), "Python objects"),
        ("X_indices", np.array([3, 0, 1]), "X row 0: id 0 comes after id 3"),
        ("X_indices", np.array([3, 3, 1]), "X row 0: id 3 appears twice"),
        ("X_indices", np.array([0, 4, 1]), "X row 0: id 4 is out of bounds.*less than 4"),
        ("X_indices", np.array([0, 1, -1]), "X row 1: id -1 is out of bounds"),
        ("X_indices", np.array([0, 1, 2**40]), "X row 1: id 1099511627776 is out"),
        ("X_indices", np.array([0.0, 3, 1]), "must be integers"),
        ("X_indices", np.array([[0, 3, 1]]), "one dimension"),
        ("X_indptr", np.array([0, 4, 3]), "X row 1: indptr decreases"),
        ("X_indptr", np.array([1, 2, 3]), "indptr runs from 1 to 3"),
        ("X_indptr", np.array([0, 2, 9]), "indptr runs from 0 to 9"),
        ("X_indptr", np.array([0, 3]), "indptr holds 2 numbers for 2 rows"),
        ("X_indptr", np.array([], np.int64), "indptr holds 0 numbers"),
        ("X_shape", np.array([2, 2**40]), "1099511627776 columns"),
        ("X_shape", np.array([2]), "two integers"),
        ("X_shape", np.array([-1, 4]), "for -1 rows"),
        ("Y_data", np.array([1, 2]), "all ones"),
        ("Y_data", np.ones(3), "over 2 indices and 3 values"),
        ("Y_indices", np.array([1, 1]), "Y row 0: id 1 appears twice"),
        ("Y_shape", np.array([3, 3]), "indptr holds 3 numbers for 3 rows"),
        ("label_names", np.array(["a"]), "1 names for 3 columns"),
        ("label_names", np.array([1, 2, 3]), "must be one-dimensional text"),
    ],
)
def test_malformed_npz(tmp_path, name, value, fragment):
    np.savez(tmp_path / "a.npz", **{**npz_arrays(), name: value})
    with pytest.raises(DataError, match=rf"a\.npz: .*{fragment}"):
        load_dataset(tmp_path / "a.npz")


def test_npz_of_dense_arrays(tmp_path):
    X = np.array([[0, 1.5], [2, 0]])
    expected = check_dataset(Dataset(X, [[0, 0, 1], [1, 0, 0]]))
    for labels in ({"y": np.array([2, 0])}, {"Y": expected.Y.toarray()}):
        np.savez(tmp_path / "a.npz", X=X, **labels)
        same(load_dataset(tmp_path / "a.npz"), expected)
    wide = load_dataset(tmp_path / "a.npz", n_features=5, n_labels=9)
    assert (wide.X.shape, wide.Y.shape) == ((2, 5), (2, 9))


@pytest.mark.parametrize(
    ("arrays", "fragment"),
    [
        ({"X": np.eye(2), "y": np.array([0, -1])}, "y row 1: id -1 is out of bounds"),
        ({"X": np.eye(2), "y": np.array([0.5, 1])}, "class ids must be integers"),
        ({"X": np.eye(2), "y": np.array([0, 1, 1])}, "X has 2 rows but Y has 3"),
        ({"X": np.eye(2), "Y": np.eye(2) * 2}, "Y row 0, column 0 is 2.0; labels are 0 or 1"),
        ({"X": np.eye(2)}, "Y_data is missing; the archive holds X"),
        ({"x": np.eye(2), "y": np.array([0, 1])}, "X_data is missing; the archive holds x, y"),
    ],
)
def test_malformed_dense_npz(tmp_path, arrays, fragment):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=fragment):
        load_dataset(tmp_path / "a.npz")


def test_npz_that_states_too_much_takes_no_memory(tmp_path):
    header = io.BytesIO()
    facts = {"descr": "<f4", "fortran_order": False, "shape": (2**50,)}
    np.lib.format.write_array_header_1_0(header, facts)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("X_data.npy", header.getvalue())
    with pytest.raises(DataError, match="states 4503599627370496 bytes and holds 0"):
        load_dataset(tmp_path / "a.npz")


@pytest.mark.parametrize("name", ["a.npz", "a.parquet"])
def test_every_truncation_is_found(tmp_path, name):
    path = tmp_path / name
    save_dataset(Dataset([[0.5, 1.0]], [[1, 0, 1]]), path)
    whole = path.read_bytes()
    for size in range(0, len(whole), 7):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match=rf"{name}: ") as caught:
            load_dataset(path)
        assert "\n" not in str(caught.value)


def table(labels, indices, values, facts=None):
    columns = {"labels": labels, "indices": indices, "values": values}
    built = pa.table({name: column for name, column in columns.items() if column is not None})
    if facts is not None:
        built = built.replace_schema_metadata({"slidelearn": facts})
    return built


def test_parquet_of_label_names(tmp_path):
    rows = table([["b", "a"], [], ["a", "c"]], [[0], [1, 2], []], [[1], [2, 3], []])
    pq.write_table(rows, tmp_path / "a.parquet")
    got = load_dataset(tmp_path / "a.parquet")
    assert got.label_names == ["b", "a", "c"]
    np.testing.assert_array_equal(got.Y.toarray(), [[1, 1, 0], [0, 0, 0], [0, 1, 1]])
    np.testing.assert_array_equal(got.X.toarray(), [[1, 0, 0], [0, 2, 3], [0, 0, 0]])
    stated = json.dumps({"label_names": ["a", "b", "c", "d"], "n_labels": 4})
    pq.write_table(rows.replace_schema_metadata({"slidelearn": stated}), tmp_path / "a.parquet")
    got = load_dataset(tmp_path / "a.parquet")
    np.testing.assert_array_equal(got.Y.indices, [0, 1, 0, 2])
    assert got.Y.shape == (3, 4)


@pytest.mark.parametrize(
    ("rows", "fragment"),
    [
        (table([[0], [1]], [[0], [2]], [[1.0], [1.0, 2.0]]), "row 1: indices and values differ"),
        (table([[0], None], [[0], [2]], [[1.0], [1.0]]), "row 1: labels is null"),
        (table([[0], [1]], [[], [2, None]], [[], [1.0, 1.0]]), "row 1: indices holds a null"),
        (table([[0], [1]], [[0], [3, 1]], [[1.0], [1.0, 1.0]]), "X row 1: id 1 comes after id 3"),
        (table([[0], [1, 1]], [[0], [3]], [[1.0], [1.0]]), "Y row 1: id 1 appears twice"),
        (table([[0], [1]], [[0], [-3]], [[1.0], [1.0]]), "X row 1: id -3 is out of bounds"),
        (table([[0], [1]], [[0], [1]], [[1.0], [np.inf]]), "X row 1, column 1: value inf"),
        (table([[0]], [[0]], None), "expected one column 'values'; found \\['labels"),
        (table([[0]], [[0.5]], [[1.0]]), "'indices' has type.*expected lists of integers"),
        (table([0], [[0]], [[1.0]]), "'labels' has type int64"),
        (table([[0]], [[0]], [["x"]]), "'values' has type.*expected lists of numbers"),
        (table([[0]], [[0]], [[1.0]], "{"), "is not JSON"),
        (table([[0]], [[0]], [[1.0]], "[]"), "is not a JSON object"),
        (table([[0]], [[0]], [[1.0]], '{"n_features": "many"}'), "n_features in the metadata"),
        (table([[0]], [[0]], [[1.0]], '{"n_labels": -1}'), "Y has -1 columns"),
        (table([[0]], [[5]], [[1.0]], '{"n_features": 5}'), "id 5 is out of bounds"),
        (table([[0]], [[0]], [[1.0]], '{"label_names": ["a", "b"]}'), "2 names for 1 columns"),
        (
            table([["a"], ["x"]], [[0]] * 2, [[1.0]] * 2, '{"label_names": ["a"]}'),
            "row 1: label 'x'",
        ),
        (table([["a"]], [[0]], [[1.0]], '{"label_names": ["a", "a"]}'), "repeats a name"),
    ],
)
def test_malformed_parquet(tmp_path, rows, fragment):
    pq.write_table(rows, tmp_path / "a.parquet")
    with pytest.raises(DataError, match=rf"a\.parquet: .*{fragment}"):
        load_dataset(tmp_path / "a.parquet")


@pytest.mark.parametrize("name", [b"a\nlues", b"\xedalues", b"\xff\xfeues"])
def test_parquet_with_strange_column_names(tmp_path, name):
    """Such files were found by mutating good ones."""
    path = tmp_path / "a.parquet"
    pq.write_table(table([[0]], [[0]], [[1.0]]), path)
    assert path.read_bytes().count(b"values") > 0
    path.write_bytes(path.read_bytes().replace(b"values", name))
    with pytest.raises(DataError) as caught:
        load_dataset(path)
    assert "\n" not in str(caught.value)


def test_equal_datasets_make_equal_files(tmp_path):
    for name in ("a.txt.gz", "a.txt.zst"):
        save_dataset(Dataset([[0.5]], [[1]]), tmp_path / name)
        first = (tmp_path / name).read_bytes()
        save_dataset(Dataset([[0.5]], [[1]]), tmp_path / name)
        assert (tmp_path / name).read_bytes() == first


def write_and_fail(path):
    with atomic_write(path) as stream:
        stream.write(b"half")
        raise KeyboardInterrupt


def test_atomic_write_leaves_the_old_file_or_the_new(tmp_path):
    path = tmp_path / "model"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        write_and_fail(path)
    assert path.read_bytes() == b"old"
    with atomic_write(path) as stream:
        stream.write(b"new")
        stream.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]


def refuse_uncached(monkeypatch, where):
    """Let a file system refuse to write past its cache: as a file is opened, or written."""
    opens, writes, flag = os.open, os.write, getattr(os, "O_DIRECT", 0)
    uncached = set()

    def opening(path, how, *mode, **more):
        if how & flag and where == "open":
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), str(path))
        descriptor = opens(path, how, *mode, **more)
        if how & flag:
            uncached.add(descriptor)
        return descriptor

    def writing(descriptor, part):
        if descriptor in uncached:
            uncached.remove(descriptor)
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return writes(descriptor, part[:5000])  # not all at once, as is allowed

    monkeypatch.setattr(os, "open", opening)
    if where == "write":
        monkeypatch.setattr(os, "write", writing)


@pytest.mark.parametrize("chunk", [4096, 8192, 2**25])
@pytest.mark.parametrize("size", [1, 3, 512, 2000])
@pytest.mark.parametrize("cached", [None, "open", "write"])
def test_hashed_files_are_named_by_what_is_in_them(cached, size, chunk, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_CHUNK", chunk)
    refuse_uncached(monkeypatch, cached)
    head = b"head" if size != 512 else b""  # 512 numbers of 8 bytes fill a block
    parts = [head, memoryview(np.arange(float(size))), b""]
    written = write_hashed(tmp_path, lambda digits: f"weights-{digits}.bin", parts)
    content = (tmp_path / written.name).read_bytes()
    assert content == b"".join(parts)
    assert written.bytes == len(content)
    assert written.sha256 == hashlib.sha256(content).hexdigest()
    assert written.name == f"weights-{written.sha256[:16]}.bin"
    with pytest.raises(TypeError):
        write_hashed(tmp_path, str, [b"half", "no buffer"])
    with pytest.raises(FileNotFoundError):
        write_hashed(tmp_path / "none", str, [b"half"])
    assert [entry.name for entry in tmp_path.iterdir()] == [written.name]


def test_atomic_write_follows_links_and_the_umask(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with atomic_write(tmp_path / "link") as stream:
        stream.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"
    (tmp_path / "plain").write_bytes(b"")
    assert (tmp_path / "real").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_saving_where_it_is_impossible(tmp_path):
    dataset = Dataset([[1.0]], [[1]])
    for name in ("a.txt", "a.npz", "a.parquet"):
        with pytest.raises(DataError, match="no such file or directory"):
            save_dataset(dataset, tmp_path / "none" / name)
        (tmp_path / name).mkdir()
        with pytest.raises(DataError, match="is a folder"):
            save_dataset(dataset, tmp_path / name)
