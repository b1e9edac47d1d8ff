"""Plain-Python readers of well-formed text formats; imports nothing of the package."""

import re
from itertools import pairwise

import numpy as np

NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
LINE = re.compile(rf"((?:[0-9]+(?:,[0-9]+)*)?)((?:[ \t]+[0-9]+:{NUMBER})*)[ \t]*\r?")


def parse_lines(lines, first_feature=0):
    """Return (labels, [(feature, float32 value)]) for each line."""
    examples = []
    for line in lines:
        head, *pairs = line.split(" ")
        labels = sorted(int(float(label)) for label in head.split(",")) if head else []
        fields = [pair.split(":") for pair in pairs if pair]
        examples.append(
            (labels, [(int(f) - first_feature, np.float32(float(v))) for f, v in fields])
        )
    return examples


def parse_xmc(text):
    """Return (n, d, l) and the examples of an XMC text."""
    header, *lines = text.removesuffix("\n").split("\n")
    return tuple(int(number) for number in header.split()), parse_lines(lines)


def line_is_legal(line, n_features, n_labels):
    """Say whether an XMC line keeps every rule of the format."""
    match = LINE.fullmatch(line)
    if match is None:
        return False
    labels = [int(label) for label in match[1].split(",") if label]
    pairs = [pair.split(":") for pair in match[2].split()]
    features = [int(feature) for feature, _ in pairs]
    with np.errstate(over="ignore"):
        finite = all(np.isfinite(np.float32(float(value))) for _, value in pairs)
    return (
        finite
        and len(set(labels)) == len(labels)
        and all(first < second for first, second in pairwise(features))
        and all(label < n_labels for label in labels)
        and all(feature < n_features for feature in features)
    )


def examples_of(dataset):
    """Return the rows of a dataset in the same form."""
    examples = []
    for row in range(dataset.X.shape[0]):
        start, stop = dataset.X.indptr[row : row + 2]
        pairs = zip(dataset.X.indices[start:stop].tolist(), dataset.X.data[start:stop], strict=True)
        start, stop = dataset.Y.indptr[row : row + 2]
        examples.append((dataset.Y.indices[start:stop].tolist(), list(pairs)))
    return examples
