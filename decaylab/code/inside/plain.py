"""Plain data between the judge and a program: exact built-in types as bytes.

A program may write any bytes. Whatever they are, `decode` returns values of exact built-in types, a
Fraction or a Decimal, or raises `Malformed`: an object with an ``__eq__`` of its own cannot cross.
A subclass crosses as the built-in type it extends; any other object as `Opaque`, which equals
nothing but itself and keeps what the object yields, as ``tuple(candidate(x))`` may be asserted of a
generator.
"""

from __future__ import annotations

import builtins
import struct
import sys
from itertools import islice

TYPE_CHECKING = False  # not typing's, whose import takes as long as Python's own start
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from typing import Any

DEPTH = 200
"""Levels of nesting that cross."""
YIELDED = 100_000
"""Members of an iterator that cross."""


class Malformed(Exception):
    """Bytes that are no plain data."""


class Opaque:
    """Stands for an object that is not plain data."""

    def __init__(self, type_name: str, *members: Any) -> None:
        self.type_name, self.members = type_name, members

    def __iter__(self) -> Iterator[Any]:
        return iter(self.members)

    def __repr__(self) -> str:
        return f"<an object of type {self.type_name}>"


# Writing


def encode(value: Any) -> bytes:
    """The bytes of a value.

    Raises:
        RecursionError: it nests deeper than `DEPTH`, or contains itself.
    """
    parts: list[bytes] = []
    _write(value, parts, DEPTH)
    return b"".join(parts)


def _write(value: Any, parts: list[bytes], depth: int) -> None:
    if not depth:
        raise RecursionError(f"data nested deeper than {DEPTH} levels")
    kind = type(value)
    if kind in _ATOMS and (kind is not type or _is_built_in(value)):
        tag, packed = _ATOMS[kind]
        parts.append(_block(tag, packed(value)))
    elif kind in _CONTAINERS:
        tag, members_of = _CONTAINERS[kind]
        members = members_of(value)
        parts.append(tag + struct.pack("<Q", len(members)))
        for member in members:
            _write(member, parts, depth - 1)
    elif kind is _loaded("fractions", "Fraction"):
        parts.append(_block(b"q", _integers(*value.as_integer_ratio())))
    elif kind is _loaded("decimal", "Decimal"):
        parts.append(_block(b"d", _text(kind.__str__(value))))
    else:
        _write(_reduced(value), parts, depth)


def _is_built_in(kind: type) -> bool:
    return getattr(builtins, kind.__name__, None) is kind


def _loaded(module: str, name: str) -> Any:
    """A class of a module, if the module was imported; None if not."""
    return getattr(sys.modules.get(module), name, None)


def _block(tag: bytes, content: bytes) -> bytes:
    return tag + struct.pack("<Q", len(content)) + content


def _integer(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)


def _text(value: str) -> bytes:
    return value.encode("utf-8", "surrogatepass")


def _integers(*values: int) -> bytes:
    return b"".join(_block(b"i", _integer(value)) for value in values)


def _pairs(value: dict[Any, Any]) -> list[Any]:
    return [part for pair in value.items() for part in pair]


_ATOMS: dict[type, tuple[bytes, Callable[[Any], bytes]]] = {
    type(None): (b"n", lambda value: b""),
    bool: (b"b", lambda value: b"\1" if value else b"\0"),
    int: (b"i", _integer),
    float: (b"f", lambda value: struct.pack("<d", value)),
    complex: (b"c", lambda value: struct.pack("<dd", value.real, value.imag)),
    str: (b"s", _text),
    bytes: (b"y", bytes),
    range: (b"r", lambda value: _integers(value.start, value.stop, value.step)),
    type: (b"t", lambda value: _text(value.__name__)),
}
_CONTAINERS: dict[type, tuple[bytes, Callable[[Any], Collection[Any]]]] = {
    list: (b"L", list),
    tuple: (b"T", tuple),
    set: (b"S", set),
    frozenset: (b"Z", frozenset),
    dict: (b"D", _pairs),
    Opaque: (b"O", lambda value: (value.type_name, *value.members)),
}

# By the built-in type's own method, which a subclass cannot override.
_REDUCED: dict[type, Callable[[Any], Any]] = {
    int: int.__pos__,
    float: float.__pos__,
    complex: complex.__pos__,
    str: str.__str__,
    bytes: lambda value: bytes.__getitem__(value, slice(None)),
    list: list.copy,
    tuple: lambda value: tuple.__getitem__(value, slice(None)),
    set: lambda value: set().union(value),
    frozenset: lambda value: frozenset().union(value),
    dict: lambda value: dict(dict.items(value)),
}


def _reduced(value: Any) -> Any:
    """A value of a subclass as its built-in type, a number of numpy's as Python's, else
    `Opaque`."""
    kind = type(value)
    for base in kind.__mro__:
        if base in _REDUCED:
            return _REDUCED[base](value)
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic):
        number = value.item()
        return number if type(number) in _ATOMS else Opaque(kind.__name__)
    return Opaque(kind.__name__, *_yielded(value))


def _yielded(value: Any) -> list[Any]:
    """The members of an iterable, at most `YIELDED`; none of anything else."""
    try:
        return list(islice(value, YIELDED))
    except TypeError:
        return []


# Reading


def decode(data: bytes) -> Any:
    """The value of some bytes.

    Raises:
        Malformed: they are not what `encode` writes.
    """
    try:
        value, end = _read(data, 0, DEPTH)
    except (struct.error, ValueError, TypeError, ArithmeticError, KeyError, IndexError) as error:
        raise Malformed(str(error)) from error
    if end != len(data):
        raise Malformed("bytes after the value")
    return value


def _read(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    """The value that begins at a byte, and where it ends."""
    tag = data[at : at + 1]
    (size,) = struct.unpack_from("<Q", data, at + 1)
    at += 9
    if tag in _BUILT:
        members, at = _members(data, at, size, depth)
        return _BUILT[tag](members), at
    content = data[at : at + size]
    if len(content) != size:
        raise Malformed("the value is cut off")
    return _READ[tag](content), at + size


def _members(data: bytes, at: int, size: int, depth: int) -> tuple[list[Any], int]:
    if not depth or size > len(data):
        raise Malformed("nested too deep, or more members than bytes")
    members = []
    for _ in range(size):
        member, at = _read(data, at, depth - 1)
        members.append(member)
    return members, at


def _read_integers(content: bytes, number: int) -> list[int]:
    parts, end = _members(content, 0, number, 1)
    if end != len(content) or any(type(part) is not int for part in parts):
        raise Malformed(f"not {number} integers")
    return parts


def _fraction(content: bytes) -> Any:
    from fractions import Fraction  # only where one is sent: it takes as long as Python's start

    return Fraction(*_read_integers(content, 2))


def _decimal(content: bytes) -> Any:
    from decimal import Decimal

    return Decimal(content.decode("ascii"))


def _boolean(content: bytes) -> bool:
    return {b"\0": False, b"\1": True}[content]


def _nothing(content: bytes) -> None:
    if content:
        raise Malformed("None has no content")


def _built_in(content: bytes) -> type:
    kind = getattr(builtins, content.decode("ascii"), None)
    if not isinstance(kind, type):
        raise Malformed("no built-in type")
    return kind


def _dictionary(members: list[Any]) -> dict[Any, Any]:
    return dict(zip(members[::2], members[1::2], strict=True))


_READ: dict[bytes, Callable[[bytes], Any]] = {
    b"n": _nothing,
    b"b": _boolean,
    b"i": lambda content: int.from_bytes(content, "little", signed=True),
    b"f": lambda content: struct.unpack("<d", content)[0],
    b"c": lambda content: complex(*struct.unpack("<dd", content)),
    b"s": lambda content: content.decode("utf-8", "surrogatepass"),
    b"y": bytes,
    b"r": lambda content: range(*_read_integers(content, 3)),
    b"q": _fraction,
    b"d": _decimal,
    b"t": _built_in,
}
_BUILT: dict[bytes, Callable[[list[Any]], Any]] = {
    b"L": list,
    b"T": tuple,
    b"S": set,
    b"Z": frozenset,
    b"D": _dictionary,
    b"O": lambda members: Opaque(str(members[0]), *members[1:]),
}


# Arguments that a call changed


def put_back(mine: Any, theirs: Any) -> None:
    """Changes lists, dictionaries and sets in place into what the other side made of them."""
    if type(mine) is not type(theirs):
        return
    if type(mine) is list:
        mine[:] = _kept(mine, theirs)
    elif type(mine) is set:
        mine.clear()
        mine.update(theirs)
    elif type(mine) is dict:
        changed = {key: _one_kept(mine.get(key), theirs[key]) for key in theirs}
        mine.clear()
        mine.update(changed)


def _kept(mine: list[Any], theirs: list[Any]) -> list[Any]:
    """Their members, each as my object of that place where it is of the same mutable type."""
    kept = [_one_kept(one, other) for one, other in zip(mine, theirs)]
    return kept + theirs[len(kept) :]


def _one_kept(mine: Any, theirs: Any) -> Any:
    if type(mine) is not type(theirs) or type(mine) not in (list, dict, set):
        return theirs
    put_back(mine, theirs)
    return mine
