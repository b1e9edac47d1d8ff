"""The byte parser behind the text formats: compiled, exact, and strict.

A line is `label,label feature:value feature:value`. Blanks (spaces and tabs) separate, one or
more; a line that starts with a blank has no labels; blanks at the end of a line mean nothing.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = [
    "BAD_FEATURE",
    "BAD_LABEL",
    "BAD_VALUE",
    "EXAMPLES",
    "EXTRA_EXAMPLE",
    "FEATURES",
    "FEATURE_BOUND",
    "FEATURE_ORDER",
    "FINE",
    "INEXACT",
    "LABELS",
    "LABEL_BOUND",
    "LABEL_TWICE",
    "NO_COLON",
    "OVERFLOW",
    "VALUE_LIMIT",
    "Entries",
    "Grammar",
    "count_marks",
    "last_newline",
    "parse_lines",
]

# Faults; with each come the byte where it starts and one number that describes it.
FINE, EXTRA_EXAMPLE, BAD_LABEL, LABEL_BOUND, LABEL_TWICE = 0, 1, 2, 3, 4
BAD_FEATURE, NO_COLON, FEATURE_BOUND, FEATURE_ORDER, BAD_VALUE, OVERFLOW = 5, 6, 7, 8, 9, 10

# Places in `counts`.
EXAMPLES, FEATURES, LABELS, INEXACT = 0, 1, 2, 3

# The least double that rounds to an infinite float32.
VALUE_LIMIT = 3.4028235677973366e38

_TAB, _NEWLINE, _RETURN, _SPACE, _HASH = 9, 10, 13, 32, 35
_PLUS, _COMMA, _MINUS, _POINT, _ZERO, _COLON = 43, 44, 45, 46, 48, 58
_BIG_E, _SMALL_E = 69, 101

_ID_CAP = 10**17  # ids stop growing here, above every bound
_MANTISSA_CAP = 10**17  # one more digit still fits an int64
_EXPONENT_CAP = 10**15  # longer than any line, so that it never cancels out wrongly
_EXACT_MANTISSA = 2**53
_EXACT_POWER = 22  # 10**22 is the largest power of ten that a double holds exactly
_LEAST_POWER, _MOST_POWER = -70, 40  # beyond these a float32 is zero or infinite
_POWERS = np.array([float(f"1e{power}") for power in range(_LEAST_POWER, _MOST_POWER + 1)])
_SLACK = 2.0**-50  # relative error of mantissa times power, with room to spare


class Grammar(NamedTuple):
    """What a line may hold; all ids must be less than the bounds."""

    max_examples: int
    n_features: int
    n_labels: int
    first_feature: int  # the id of the first feature in the file: 0 or 1
    svmlight: bool  # comments, labels such as `+1` and `1.0`


class Entries(NamedTuple):
    """The arrays that parsing fills; `indptr` arrays have one row more than examples."""

    feature_indptr: NDArray[np.int64]
    features: NDArray[np.int32]
    values: NDArray[np.float32]
    label_indptr: NDArray[np.int64]
    labels: NDArray[np.int32]
    inexact: NDArray[np.int64]  # (capacity, 3): entry, and first and last byte of its value


@njit(cache=True, nogil=True)
def count_marks(text: NDArray[np.uint8]) -> tuple[int, int, int]:
    """Count newlines, colons and commas.

    They bound the examples, features and further labels that `text` can hold.
    """
    newlines = colons = commas = 0
    for at in range(text.shape[0]):
        newlines += text[at] == _NEWLINE
        colons += text[at] == _COLON
        commas += text[at] == _COMMA
    return newlines, colons, commas


@njit(cache=True, nogil=True)
def last_newline(text: NDArray[np.uint8]) -> int:
    """Find the last newline.

    Returns -1 where there is none.
    """
    at = text.shape[0] - 1
    while at >= 0 and text[at] != _NEWLINE:
        at -= 1
    return int(at)


@njit(cache=True, nogil=True)
def parse_lines(
    text: NDArray[np.uint8], grammar: Grammar, entries: Entries, counts: NDArray[np.int64]
) -> tuple[int, int, int]:
    """Append the examples of whole lines (the last byte is a newline) and raise `counts`.

    Returns a fault, the byte where it is, and a number about it; stops at the first fault.
    """
    at = 0
    while at < text.shape[0]:
        if grammar.svmlight and text[at] == _HASH:
            at = _line_end(text, at) + 1
            continue
        if counts[EXAMPLES] == grammar.max_examples:
            return EXTRA_EXAMPLE, at, 0
        fault, at, detail = _parse_labels(text, at, grammar, entries, counts)
        if fault == FINE:
            fault, at, detail = _parse_features(text, at, grammar, entries, counts)
        if fault != FINE:
            return fault, at, detail
        at = _line_end(text, at) + 1
        counts[EXAMPLES] += 1
        entries.feature_indptr[counts[EXAMPLES]] = counts[FEATURES]
        entries.label_indptr[counts[EXAMPLES]] = counts[LABELS]
    return FINE, at, 0


# Digits are read where they stand, not in a function: passing it the text costs two atomic
# operations, which made the parser four times slower.


@njit(cache=True, nogil=True)
def _parse_labels(
    text: NDArray[np.uint8], at: int, grammar: Grammar, entries: Entries, counts: NDArray[np.int64]
) -> tuple[int, int, int]:
    """Parse `label,label` at the start of a line; sorts them.

    Returns a fault, the byte reached, and the id of a label that appears twice.
    """
    line = at
    labels = entries.labels
    first = counts[LABELS]
    n = first
    before = np.int64(-1)
    rising = True
    while n > first or not _ends_token(text[at], grammar.svmlight):
        start = at
        if grammar.svmlight and text[at] == _PLUS:
            at += 1
        first_digit = at
        label = np.int64(0)
        digit = np.int64(text[at]) - _ZERO
        while 0 <= digit <= 9:
            if label < _ID_CAP:
                label = label * 10 + digit
            at += 1
            digit = np.int64(text[at]) - _ZERO
        if at == first_digit:
            return BAD_LABEL, start, 0
        if grammar.svmlight and text[at] == _POINT:
            at += 1
            while text[at] == _ZERO:
                at += 1
        if text[at] != _COMMA and not _ends_token(text[at], grammar.svmlight):
            return BAD_LABEL, start, 0
        if label >= grammar.n_labels:
            return LABEL_BOUND, start, 0
        if label <= before:
            rising = False
        before = label
        labels[n] = label
        n += 1
        if text[at] != _COMMA:
            break
        at += 1
    counts[LABELS] = n
    if not rising:
        labels[first:n].sort()
        for place in range(first + 1, n):
            if labels[place] == labels[place - 1]:
                return LABEL_TWICE, line, int(labels[place])
    return FINE, at, 0


@njit(cache=True, nogil=True)
def _parse_features(
    text: NDArray[np.uint8], at: int, grammar: Grammar, entries: Entries, counts: NDArray[np.int64]
) -> tuple[int, int, int]:
    """Parse `feature:value feature:value` up to the end of the line or a comment.

    Returns a fault, the byte reached (on a fault, that of its pair), and the id before it.
    """
    features, values, inexact = entries.features, entries.values, entries.inexact
    n = counts[FEATURES]
    before = np.int64(-1)
    while True:
        while text[at] == _SPACE or text[at] == _TAB:
            at += 1
        if text[at] == _NEWLINE:
            break
        start = at
        feature = np.int64(0)
        digit = np.int64(text[at]) - _ZERO
        while 0 <= digit <= 9:
            if feature < _ID_CAP:
                feature = feature * 10 + digit
            at += 1
            digit = np.int64(text[at]) - _ZERO
        if at == start:
            if text[at] == _RETURN and text[at + 1] == _NEWLINE:
                at += 1
                break
            if grammar.svmlight and text[at] == _HASH:
                break
            return BAD_FEATURE, start, 0
        if text[at] != _COLON:
            return NO_COLON, start, 0
        feature -= grammar.first_feature
        if feature < 0 or feature >= grammar.n_features:
            return FEATURE_BOUND, start, 0
        if feature <= before:
            return FEATURE_ORDER, start, int(before + grammar.first_feature)
        before = feature
        at += 1
        value_start = at
        negative = text[at] == _MINUS
        if negative or text[at] == _PLUS:
            at += 1
        mantissa = power = np.int64(0)  # the value is mantissa * 10**power
        first_digit = at
        digit = np.int64(text[at]) - _ZERO
        while 0 <= digit <= 9:
            if mantissa < _MANTISSA_CAP:
                mantissa = mantissa * 10 + digit
            else:
                power += 1
            at += 1
            digit = np.int64(text[at]) - _ZERO
        digits = at - first_digit
        if text[at] == _POINT:
            at += 1
            first_digit = at
            digit = np.int64(text[at]) - _ZERO
            while 0 <= digit <= 9:
                if mantissa < _MANTISSA_CAP:
                    mantissa = mantissa * 10 + digit
                    power -= 1
                at += 1
                digit = np.int64(text[at]) - _ZERO
            digits += at - first_digit
        if digits == 0:
            return BAD_VALUE, start, 0
        if text[at] == _SMALL_E or text[at] == _BIG_E:
            at += 1
            sinks = text[at] == _MINUS
            if sinks or text[at] == _PLUS:
                at += 1
            first_digit = at
            shift = np.int64(0)
            digit = np.int64(text[at]) - _ZERO
            while 0 <= digit <= 9:
                if shift < _EXPONENT_CAP:
                    shift = shift * 10 + digit
                at += 1
                digit = np.int64(text[at]) - _ZERO
            if at == first_digit:
                return BAD_VALUE, start, 0
            power += -shift if sinks else shift
        if not _ends_token(text[at], grammar.svmlight):
            return BAD_VALUE, start, 0
        fault, value = _scale(mantissa, power)
        if fault == INEXACT:
            # Past the capacity they are only counted: the caller makes room and parses again.
            if counts[INEXACT] < inexact.shape[0]:
                note = inexact[counts[INEXACT]]
                note[0], note[1], note[2] = n, value_start, at
            counts[INEXACT] += 1
        elif fault != FINE:
            return fault, start, 0
        features[n] = feature
        values[n] = -value if negative else value
        n += 1
    counts[FEATURES] = n
    return FINE, at, 0


@njit(cache=True, nogil=True)
def _scale(mantissa: np.int64, power: np.int64) -> tuple[int, float]:
    """Compute mantissa * 10**power, where digits beyond the first 17 may have been cut off.

    Exact in one rounding for short numbers; else fine if both ends of the error round alike.
    """
    if mantissa == 0 or power < _LEAST_POWER:
        return FINE, 0.0
    if power > _MOST_POWER:
        return OVERFLOW, 0.0
    if mantissa < _MANTISSA_CAP and mantissa <= _EXACT_MANTISSA and abs(power) <= _EXACT_POWER:
        if power < 0:
            value = mantissa / _POWERS[-power - _LEAST_POWER]
        else:
            value = mantissa * _POWERS[power - _LEAST_POWER]
        return OVERFLOW if value >= VALUE_LIMIT else FINE, value
    value = mantissa * _POWERS[power - _LEAST_POWER]
    low, high = value * (1.0 - _SLACK), value * (1.0 + _SLACK)
    if low >= VALUE_LIMIT:
        return OVERFLOW, 0.0
    if high >= VALUE_LIMIT or np.float32(low) != np.float32(high):
        return INEXACT, 0.0
    return FINE, value


@njit(cache=True, nogil=True)
def _ends_token(byte: int, svmlight: bool) -> bool:
    """Tell whether a byte ends a label or a value.

    A comment may follow either without a blank.
    """
    return byte in (_SPACE, _NEWLINE, _TAB, _RETURN) or (svmlight and byte == _HASH)


@njit(cache=True, nogil=True)
def _line_end(text: NDArray[np.uint8], at: int) -> int:
    """Find the newline that ends the line of byte `at`.

    There is one: the text ends with it.
    """
    while text[at] != _NEWLINE:
        at += 1
    return at
