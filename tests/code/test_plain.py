"""What crosses between a program and its judge: exact built-in types, or nothing."""

from __future__ import annotations

import math
import random
import struct
from collections import Counter, OrderedDict, namedtuple
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from decaylab.code.inside.plain import Malformed, Opaque, decode, encode, put_back

PLAIN = [
    None,
    True,
    False,
    0,
    -1,
    255,
    -(2**200),
    1.5,
    -0.0,
    math.inf,
    1e-320,
    complex(1, -0.0),
    "",
    "ü\ud800\n",
    b"\0\xff",
    [],
    (),
    set(),
    frozenset(),
    {},
    [1, (2, {3, (4,)}), {"a": [None], 5: b""}],
    frozenset({1}),
    range(3, 9, 2),
    int,
    [list, ValueError],
    Fraction(-1, 3),
    Fraction(10**500, 3),
    [Decimal(text) for text in ("0.10", "-0", "1E+400", "NaN123", "-Infinity")],
    Decimal(1) / Decimal(7),
]


def same(one: Any, other: Any) -> bool:
    """Equal in value and in type at every level, by Python's own text for it."""
    return type(one) is type(other) and repr(one) == repr(other)


@pytest.mark.parametrize("value", PLAIN, ids=repr)
def test_plain_data_arrives_with_its_exact_type(value: Any) -> None:
    assert same(decode(encode(value)), value)


def test_the_members_of_a_set_keep_their_types() -> None:
    arrived = decode(encode(frozenset({1, "1", 2.0})))
    assert type(arrived) is frozenset and sorted(map(repr, arrived)) == ["'1'", "1", "2.0"]


def test_nan_arrives_as_nan_and_a_dictionary_keeps_its_order() -> None:
    assert math.isnan(decode(encode(math.nan)))
    assert list(decode(encode({"b": 1, "a": 2}))) == ["b", "a"]


def test_tuples_lists_and_sets_stay_apart() -> None:
    values = [(1,), [1], {1}, frozenset({1})]
    assert len({encode(value) for value in values}) == len(values)
    assert encode(1) != encode(1.0) != encode(True)


class EqualText(str):
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = str.__hash__


class EqualList(list[int]):
    def __eq__(self, other: object) -> bool:
        return True

    def __iter__(self) -> Any:
        return iter([9])


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    "value, crosses",
    [
        (EqualText("a"), "a"),
        (EqualList([1]), [1]),
        (Point(1, 2), (1, 2)),
        (Counter("aab"), {"a": 2, "b": 1}),
        (OrderedDict(a=1), {"a": 1}),
        (np.int64(3), 3),
        (np.float64(0.5), 0.5),
        (np.bool_(True), True),
    ],
    ids=repr,
)
def test_a_subclass_crosses_as_the_built_in_type_it_extends(value: Any, crosses: Any) -> None:
    assert same(decode(encode([value]))[0], crosses)


def test_another_object_equals_nothing_but_keeps_what_it_yields() -> None:
    class Equal:
        def __eq__(self, other: object) -> bool:
            return True

    crossed = decode(encode(Equal()))
    assert type(crossed) is Opaque and crossed != 1 and crossed != Equal.__name__
    yielded = decode(encode(number for number in (3, 4)))
    assert tuple(yielded) == (3, 4) and yielded != [3, 4]


class EqualFraction(Fraction):
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = Fraction.__hash__


class EqualDecimal(Decimal):
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = Decimal.__hash__


@pytest.mark.parametrize("value", [EqualFraction(1), EqualDecimal(1), date(2024, 1, 1)], ids=repr)
def test_subclasses_of_fractions_and_decimals_and_dates_are_opaque(value: Any) -> None:
    assert type(decode(encode(value))) is Opaque


def test_a_class_that_a_program_calls_fraction_does_not_cross() -> None:
    impostor = type("Fraction", (), {"as_integer_ratio": lambda self: (1, 2)})
    assert type(decode(encode(impostor()))) is Opaque


def test_a_class_of_the_programs_own_does_not_cross_as_a_type() -> None:
    assert type(decode(encode(Point))) is Opaque
    impostor = type("int", (), {})
    assert decode(encode(impostor)) is not int


def test_data_that_contains_itself_or_nests_deep_is_refused() -> None:
    held: list[Any] = []
    held.append(held)
    with pytest.raises(RecursionError, match="200 levels"):
        encode(held)
    deep = b"".join(b"L" + struct.pack("<Q", 1) for _ in range(5000)) + encode(None)
    with pytest.raises(Malformed, match="nested too deep"):
        decode(deep)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"?" + bytes(8),
        b"i" + struct.pack("<Q", 5) + b"1",
        b"L" + struct.pack("<Q", 1 << 60),
        b"S" + struct.pack("<Q", 1) + encode([1]),
        b"D" + struct.pack("<Q", 1) + encode(1),
        b"b" + struct.pack("<Q", 1) + b"\2",
        b"t" + struct.pack("<Q", 4) + b"eval",
        b"O" + bytes(8),
        encode(1) + b"x",
        b"q" + struct.pack("<Q", 20) + encode(1) + encode(0),
        b"q" + struct.pack("<Q", 20) + encode(1) + encode(True),
        b"q" + struct.pack("<Q", 10) + encode(1),
        b"d" + struct.pack("<Q", 3) + b"1.x",
        b"d" + struct.pack("<Q", 2) + "½".encode(),
    ],
    ids=repr,
)
def test_bytes_that_are_no_data_are_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        decode(data)


def exact(value: Any) -> bool:
    """Whether a value is of exact built-in types all the way down."""
    if type(value) is Opaque:
        return all(map(exact, value.members))
    if type(value) in (list, tuple, set, frozenset):
        return all(map(exact, value))
    if type(value) is dict:
        return all(map(exact, [*value, *value.values()]))
    numbers = (bool, int, float, complex, Fraction, Decimal)
    return type(value) in (type(None), *numbers, str, bytes, range, type)


def test_no_bytes_at_all_make_anything_but_plain_data() -> None:
    chance, whole = random.Random(0), encode([PLAIN, Opaque("x", 1)])
    read = 0
    for _ in range(3000):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(len(data))] = chance.choice(b"\0\1\2nbifcsyrtqdLTSZDO\xff")
        try:
            value = decode(bytes(data))
        except Malformed:
            continue
        read += 1
        assert exact(value)
    assert read > 100, "some changes leave data"


def test_changed_arguments_are_put_back_into_the_same_objects() -> None:
    inner, kept = [3, 1], {"a": [1]}
    given = [inner, kept, {1}, 5]
    put_back(given, [[1, 3], {"a": [1, 2], "b": 0}, {2}, 6])
    assert given == [[1, 3], {"a": [1, 2], "b": 0}, {2}, 6]
    assert given[0] is inner and given[1] is kept


def test_arguments_of_another_type_are_left_alone() -> None:
    given = [1, 2]
    put_back(given, {"a": 1})
    assert given == [1, 2]
