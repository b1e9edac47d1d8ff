"""XMC and svmlight text: every value exact, every malformed line named."""

import gzip
import os
import subprocess
import sys
import tracemalloc
import warnings
from fractions import Fraction

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import dump_svmlight_file

import naive_datasets as naive
from slidelearn.datasets import Dataset, line_reader, load_dataset, save_dataset, svmlight
from slidelearn.datasets.dataset import check_dataset
from slidelearn.errors import DataError

SMALL = "4 9 5\n3,0 1:0.5 8:-2e-3\n 0:1\n2\n\n"


def write(folder, content, name="a.txt"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def assert_canonical(dataset):
    X, Y = dataset.X, dataset.Y
    assert X.dtype == np.float32
    assert Y.dtype == np.uint8
    assert (Y.data == 1).all()
    for matrix in (X, Y):
        assert matrix.indices.dtype == np.int32
        fresh = type(matrix)((matrix.data, matrix.indices, matrix.indptr), shape=matrix.shape)
        assert fresh.has_canonical_format


def test_small_file_equals_naive(tmp_path):
    shape, examples = naive.parse_xmc(SMALL)
    got = load_dataset(write(tmp_path, SMALL))
    assert (got.X.shape[0], got.X.shape[1], got.Y.shape[1]) == shape
    assert naive.examples_of(got) == examples
    assert_canonical(got)


@pytest.mark.parametrize(
    "variant",
    [
        SMALL.replace("\n", "\r\n"),
        SMALL.removesuffix("\n\n") + "\n \n",
        SMALL.replace("-2e-3\n", "-2e-3 \t \n"),
        SMALL.replace("8:", "  8:").replace(" 0:1", "\t0:+1."),
        SMALL.removesuffix("\n\n") + " \n\t",
        SMALL.replace("0.5", ".5").replace("-2e-3", "-.2E-02"),
        SMALL.replace("1:0.5", "0001:5e-1"),
    ],
)
def test_harmless_variants_read_alike(tmp_path, variant):
    got = load_dataset(write(tmp_path, variant))
    assert naive.examples_of(got) == naive.parse_xmc(SMALL)[1]


@pytest.mark.parametrize("block", [1, 2, 7, 16])
def test_blocks_do_not_show(tmp_path, monkeypatch, block):
    text = "60 999 99\n" + "".join(
        f"{i},{i - 1} {i}:{i}.25 {i + 900}:0.{i}\n" for i in range(1, 61)
    )
    monkeypatch.setattr(line_reader, "BLOCK_BYTES", block)
    got = load_dataset(write(tmp_path, text))
    assert naive.examples_of(got) == naive.parse_xmc(text)[1]


def test_widths_take_the_place_of_the_header(tmp_path):
    path = write(tmp_path, SMALL)
    got = load_dataset(path, n_features=20, n_labels=7)
    assert (got.X.shape, got.Y.shape) == ((4, 20), (4, 7))
    with pytest.raises(DataError, match=r":2: feature 8 is out of bounds.* less than 8"):
        load_dataset(path, n_features=8)


def test_stored_zeros_stay(tmp_path):
    got = load_dataset(write(tmp_path, "1 3 1\n0 0:0 1:-0.0 2:1e-400\n"))
    assert got.X.nnz == 3
    assert np.signbit(got.X.data).tolist() == [False, True, False]


MALFORMED = [
    (b"", 1, "the file is empty"),
    (b"3 4\n", 1, "header of three integers"),
    (b"0,1 2:3\n", 1, "header of three integers"),
    (b"1 2 3 4\n0 0:1\n", 1, "header of three integers"),
    (b"1 x 3\n0 0:1\n", 1, "header of three integers"),
    (b"-1 2 3\n", 1, "header of three integers"),
    (b"1.0 2 3\n", 1, "header of three integers"),
    (b"9" * 4000, 1, "header of three integers"),
    (b"1 3000000000 3\n0 0:1\n", 1, "3000000000 features"),
    (b"\xef\xbb\xbf1 2 3\n0 0:1\n", 1, "byte-order mark"),
    ("1 2 3\n0 0:1\n".encode("utf-16"), 1, "UTF-16"),
    (gzip.compress(SMALL.encode()), 1, "gzip data"),
    (b"2 2 2\n0 0:1\n", 2, "the file ends after 1 examples; the header promises 2"),
    (b"1 2 2\n", 1, "the file ends after 0 examples"),
    (b"999999999999 2 2\n0 0:1\n", 2, "promises 999999999999"),
    (b"1 2 2\n0 0:1\n1 1:1\n", 3, "promises 1 examples"),
    (b"1 2 2\n0 0:1\n\n", 3, "promises 1 examples"),
    (b"0 2 2\n\n", 2, "promises 0 examples"),
    (b"1 2 2\n2 0:1\n", 2, "label 2 is out of bounds; labels must be less than 2"),
    (b"1 2 2\n99999999999999999999999 0:1\n", 2, "label 99999999999999999999999 is out of bounds"),
    (b"2 2 2\n0 0:1\n1 2:1\n", 3, "feature 2 is out of bounds; feature ids must be less than 2"),
    (b"1 2 2\n1 18446744073709551616:1\n", 2, "feature 18446744073709551616 is out of bounds"),
    (b"1 9 2\n0 5:1 3:1\n", 2, "feature 3 comes after feature 5"),
    (b"1 9 2\n0 5:1 5:1\n", 2, "feature 5 appears twice"),
    (b"1 9 9\n3,1,3 5:1\n", 2, "label 3 appears twice"),
    (b"1 9 9\n3,3 5:1\n", 2, "label 3 appears twice"),
    (b"1 9 2\n0 5:nan\n", 2, "value nan of feature 5 is not finite"),
    (b"1 9 2\n0 5:-Infinity\n", 2, "value -Infinity of feature 5 is not finite"),
    (b"1 9 2\n0 5:1e39\n", 2, "value 1e39 of feature 5 overflows float32"),
    (b"1 9 2\n0 5:-9e9999999999999999999999\n", 2, "overflows float32"),
    (b"1 9 2\n0 5:340282356779733661637539395458142568448\n", 2, "overflows float32"),
    (b"1 9 2\n0 5:340282356779733661637539395458142568447.99999999999\n", 2, "overflows float32"),
    (b"1 9 2\n0 12:\n", 2, "feature 12 is out of bounds"),
    (b"1 99 2\n0 12:\n", 2, "feature 12 has no value"),
    (b"1 99 2\n0 12: 13:1\n", 2, "feature 12 has no value"),
    (b"1 99 2\n0 12\n", 2, "feature 12 has no value"),
    (b"1 99 2\n0 12 :1\n", 2, "feature 12 has no value"),
    (b"1 99 2\n0 :1\n", 2, "a feature id is missing before ':1'"),
    (b"1 99 2\n0 -3:1\n", 2, "feature -3 is negative"),
    (b"1 99 2\n-1 3:1\n", 2, "label -1 is negative"),
    (b"1 99 2\n0, 3:1\n", 2, "a label is missing beside a comma"),
    (b"1 99 2\n,0 3:1\n", 2, "a label is missing beside a comma"),
    (b"1 99 2\n0,,1 3:1\n", 2, "a label is missing beside a comma"),
    (b"1 99 2\n3:1\n", 2, "'3:1' where labels belong"),
    (b"1 99 2\ncat 3:1\n", 2, "label 'cat' is not a whole number"),
    (b"1 99 2\n+1 3:1\n", 2, "label '+1' is not a whole number"),
    (b"1 99 2\n1.0 3:1\n", 2, "label '1.0' is not a whole number"),
    (b"1 99 2\n0 3:1,4:1\n", 2, "value '1,4:1' of feature 3 is not a decimal number"),
    (b"1 99 2\n0 3:1x\n", 2, "value '1x'"),
    (b"1 99 2\n0 3:0x10\n", 2, "value '0x10'"),
    (b"1 99 2\n0 3:1_0\n", 2, "value '1_0'"),
    (b"1 99 2\n0 3:.\n", 2, "value '.'"),
    (b"1 99 2\n0 3:1e\n", 2, "value '1e'"),
    (b"1 99 2\n0 3:1e+\n", 2, "value '1e+'"),
    (b"1 99 2\n0 3:--1\n", 2, "value '--1'"),
    (b"1 99 2\n0 3:1.2.3\n", 2, "value '1.2.3'"),
    (b"1 99 2\n0 x:1\n", 2, "expected feature:value, found 'x:1'"),
    (b"1 99 2\n0 3x:1\n", 2, "expected feature:value, found '3x:1'"),
    (b"1 99 2\n0 3:1 # note\n", 2, "expected feature:value"),
    (b"1 99 2\n0 qid:3 3:1\n", 2, "query ids are not supported"),
    (b"1 99 2\n0 3:1\r4:1\n", 2, "expected feature:value"),
    (b"1 99 2\n0 3:1\0\n", 2, "NUL byte"),
    (b"1 99 2\n0\0 3:1\n", 2, "NUL byte"),
    (b"1 99 2\n0 \xe93:1\n", 2, "not plain ASCII"),
    (b"1 99 2\n0 3:\xe9\n", 2, "not plain ASCII"),
    ("1 99 2\n0 3:\u0661\n".encode(), 2, "not plain ASCII"),
]


@pytest.mark.parametrize(("content", "line", "fragment"), MALFORMED)
def test_malformed_line_is_one_line_of_error(tmp_path, content, line, fragment):
    path = write(tmp_path, content)
    with pytest.raises(DataError) as caught:
        load_dataset(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:{line}: ")
    assert fragment in message
    assert "\n" not in message


def test_line_numbers_hold_across_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(line_reader, "BLOCK_BYTES", 16)
    path = write(tmp_path, "50 9 9\n" + "1 1:1\n" * 40 + "1 1:x\n" + "1 1:1\n" * 9)
    with pytest.raises(DataError, match=r":42: value 'x'"):
        load_dataset(path)


def test_first_fault_is_reported_even_if_found_late(tmp_path):
    over = "340282356779733661637539395458142568447.99999999999"
    path = write(tmp_path, f"2 9 9\n1 1:{over}\n1 1:x\n")
    with pytest.raises(DataError, match=r":2: .*overflows"):
        load_dataset(path)


def test_lying_header_takes_no_memory(tmp_path):
    path = write(tmp_path, f"{2**47} {2**31 - 1} {2**31 - 1}\n0 0:1\n")
    tracemalloc.start()
    with pytest.raises(DataError, match="promises"):
        load_dataset(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < line_reader.BLOCK_BYTES + 2**21


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.ZstdCompressor().compress])
def test_every_truncation_of_compressed_data_is_found(tmp_path, compress):
    suffix = ".gz" if compress is gzip.compress else ".zst"
    whole = compress(SMALL.encode())
    assert load_dataset(write(tmp_path, whole, "whole.txt" + suffix)).X.nnz == 3
    for size in range(1, len(whole)):
        path = write(tmp_path, whole[:size], "cut.txt" + suffix)
        problem = "truncated" if size > 1 or suffix == ".zst" else "Not a gzipped file"
        with pytest.raises(DataError, match=rf"cut\.txt.*{problem}"):
            load_dataset(path)


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_corrupt_or_plain_data_under_a_compressed_name(tmp_path, suffix):
    with pytest.raises(DataError, match=r"a\.txt\.") as caught:
        load_dataset(write(tmp_path, SMALL * 20, "a.txt" + suffix))
    assert "\n" not in str(caught.value)
    whole = bytearray(gzip.compress(SMALL.encode()))
    whole[-6] ^= 1  # the checksum
    with pytest.raises(DataError, match="CRC check failed"):
        load_dataset(write(tmp_path, bytes(whole), "b.txt.gz"))
    whole[10] = 0xFF  # the kind of the first block
    with pytest.raises(DataError, match=r"damaged \(Error -3"):
        load_dataset(write(tmp_path, bytes(whole), "b.txt.gz"))


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(DataError, match=r"none\.txt: no such file"):
        load_dataset(tmp_path / "none.txt")
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(DataError, match="is a folder; give a file in it"):
        load_dataset(tmp_path / "folder.txt")


def load_values(folder, words):
    text = f"{len(words)} 1 1\n" + "".join(f" 0:{word}\n" for word in words)
    return load_dataset(write(folder, text)).X.data


def python_values(words):
    return np.array([float(word) for word in words]).astype(np.float32)


def midpoint_words(rng, count):
    """Exact decimals of points half way between two float32, and just beside them."""
    for bits in rng.integers(1, 0x7F7FFFFF, count):
        low, high = np.array([bits, bits + 1], np.uint32).view(np.float32).astype(np.float64)
        middle = Fraction(float(low)) / 2 + Fraction(float(high)) / 2
        digits = f"{float(middle):.200e}"
        mantissa, exponent = digits.split("e")
        yield digits
        yield f"{mantissa}1e{exponent}"
        yield f"{float(middle):.17e}"
        yield f"{float(middle):.15e}"


def test_hard_values_equal_python(tmp_path):
    words = list(midpoint_words(np.random.default_rng(1), 700))  # more than one list of hard ones
    words += ["7.038531e-26", "16777217", "9007199254740993", "1e23", "1e-46", "7.1e-46", "1.4e-45"]
    words += ["340282346638528859811704183484516925440", "3.4028235677973362e38"]
    words += ["0." + "0" * 400 + "1e400", "1" + "0" * 400 + "e-400", "0e999999999999999999999"]
    words += ["123456789012345678901234567890e-20", "-0", "+5", "00012.500", "1E+2"]
    got, expected = load_values(tmp_path, words), python_values(words)
    np.testing.assert_array_equal(got.view(np.uint32), expected.view(np.uint32))


decimals = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["", "-", "+"]),
    st.text("0123456789", min_size=1, max_size=40),
    st.one_of(st.just(""), st.text("0123456789", max_size=40).map(".{}".format)),
    st.one_of(st.just(""), st.integers(-90, 37).map("e{}".format)),
)
doubles = st.floats(-3e38, 3e38).map(repr)
singles = st.floats(width=32, allow_nan=False, allow_infinity=False).map(
    lambda v: str(np.float32(v))
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(decimals, doubles, singles), min_size=1, max_size=50))
def test_values_equal_python(tmp_path_factory, words):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        expected = python_values(words)
    words = [word for word, value in zip(words, expected, strict=True) if np.isfinite(value)]
    got = load_values(tmp_path_factory.mktemp("values"), words)
    np.testing.assert_array_equal(
        got.view(np.uint32), expected[np.isfinite(expected)].view(np.uint32)
    )


line_words = st.sampled_from(
    [
        "0",
        "1",
        "2",
        "7",
        ",",
        ":",
        ":",
        " ",
        " ",
        "\t",
        ".",
        "e",
        "-",
        "+",
        "\r",
        "#",
        "1:1",
        " 3:2",
    ]
)


@settings(max_examples=400, deadline=None)
@given(st.lists(line_words, max_size=9).map("".join))
def test_legal_lines_and_no_others_are_read(tmp_path_factory, line):
    path = write(tmp_path_factory.mktemp("line"), f"1 8 8\n{line}\n")
    if naive.line_is_legal(line, 8, 8):
        got = load_dataset(path)
        assert naive.examples_of(got) == naive.parse_lines([line.rstrip().replace("\t", " ")])
    else:
        with pytest.raises(DataError, match=r"a\.txt:2: "):
            load_dataset(path)


SVM_LINES = ["1,0 1:0.5 9:2", " 3:1", "2", "", "+4 2:1", "3.0,1. 2:1"]
SVM = (
    "# a comment 7:7\n" + "\n".join(SVM_LINES[:2]) + "#7:7\n" + "\n".join(SVM_LINES[2:]) + " # x\n"
)


def test_svmlight_equals_naive(tmp_path):
    expected = naive.parse_lines(SVM_LINES, first_feature=1)
    got = load_dataset(write(tmp_path, SVM, "a.svm"))
    assert naive.examples_of(got) == expected
    assert (got.X.shape, got.Y.shape) == ((6, 9), (6, 5))
    zero = svmlight.load(write(tmp_path, SVM, "a.svm"), zero_based=True, n_features=30, n_labels=6)
    assert naive.examples_of(zero) == naive.parse_lines(SVM_LINES)
    assert (zero.X.shape, zero.Y.shape) == ((6, 30), (6, 6))


@pytest.mark.parametrize("zero_based", [True, False])
def test_svmlight_reads_what_scikit_learn_writes(tmp_path, zero_based):
    rng = np.random.default_rng(3)
    X = rng.normal(size=(20, 7)) * (rng.random((20, 7)) < 0.5)
    Y = rng.integers(0, 2, (20, 4))
    path = tmp_path / "a.svm"
    dump_svmlight_file(X, Y, str(path), zero_based=zero_based, multilabel=True, comment="made here")
    got = svmlight.load(path, n_features=7, n_labels=4, zero_based=zero_based)
    np.testing.assert_array_equal(got.X.toarray(), X.astype(np.float32))
    np.testing.assert_array_equal(got.Y.toarray(), Y)


@pytest.mark.parametrize(
    ("content", "line", "fragment"),
    [
        (b"", 1, "the file is empty"),
        (b"\xff\xfe1\x00", 1, "UTF-16"),
        (b"1 1:1\n1 0:1\n", 2, "feature 0 in a file read as one-based; pass zero_based=True"),
        (b"1 qid:3 1:1\n", 1, "query ids are not supported"),
        (b"-1 1:1\n", 1, "label -1 is negative"),
        (b"1.5 1:1\n", 1, "label '1.5' is not a whole number"),
        (b".0 1:1\n", 1, "label '.0' is not a whole number"),
        (b"+ 1:1\n", 1, "label '+' is not a whole number"),
        (b"# x\n\n1 2:1 1:1\n", 3, "feature 1 comes after feature 2"),
        (b"1 2147483648:1\n", 1, "feature 2147483648 is out of bounds"),
        (b"2147483647 1:1\n", 1, "label 2147483647 is out of bounds"),
    ],
)
def test_malformed_svmlight(tmp_path, content, line, fragment):
    path = write(tmp_path, content, "a.svm")
    if b"2147483648" in content:
        svmlight.load(write(tmp_path, b"1 2147483647:1\n", "b.svm"))  # the largest id is fine
    with pytest.raises(DataError) as caught:
        load_dataset(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert fragment in str(caught.value)


def test_text_refuses_names(tmp_path):
    dataset = check_dataset(Dataset([[1.0]], [[1]], ["cat"]))
    for name in ("a.txt", "a.svm"):
        with pytest.raises(DataError, match="cannot hold names"):
            save_dataset(dataset, tmp_path / name)


def test_kernels_run_as_plain_python(tmp_path):
    path = write(tmp_path, SMALL.replace("0.5", "0.50000001490116119384765625"))
    script = (
        "import sys; sys.path.insert(0, sys.argv[2]); import naive_datasets as naive\n"
        "from slidelearn.datasets import load_dataset, save_dataset\n"
        "d = load_dataset(sys.argv[1]); save_dataset(d, sys.argv[1] + '.svm')\n"
        "assert naive.examples_of(d) == naive.parse_xmc(open(sys.argv[1]).read())[1]\n"
        "assert naive.examples_of(load_dataset(sys.argv[1] + '.svm')) == naive.examples_of(d)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, path, os.path.dirname(naive.__file__)],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
