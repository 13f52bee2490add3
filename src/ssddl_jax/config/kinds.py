"""The types of config fields: described in words, checked, and read from text."""

import types
import typing
from collections.abc import Iterator
from typing import Any, Literal

NONE = "none"  # the text of None
_WORDS = {int: "a whole number", float: "a number", str: "text"}
_PLACEHOLDERS = {int: "N", float: "X", str: "TEXT"}


def alternatives(kind: Any) -> Iterator[Any]:
    """The alternatives of a field's type, in order: int, float, str, None's type, and each value of
    a `Literal` as a `Literal` of one.
    """
    if typing.get_origin(kind) is Literal:
        yield from (Literal[value] for value in typing.get_args(kind))
    elif isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        for part in typing.get_args(kind):
            yield from alternatives(part)
    else:
        yield kind


def choice_of(kind: Any) -> tuple[Any, ...]:
    """The values of a `Literal`; empty for any other type."""
    return typing.get_args(kind) if typing.get_origin(kind) is Literal else ()


def accepts(value: Any, kind: Any) -> bool:
    """Whether a field of this type accepts the value. A bool does not count as a number."""
    return any(_is(value, part) for part in alternatives(kind))


def is_none(value: Any, kind: Any) -> bool:
    """Whether this is the text of None, for a field whose type allows None."""
    return isinstance(value, str) and value == NONE and accepts(None, kind)


def _is(value: Any, part: Any) -> bool:
    if choice := choice_of(part):
        return type(value) is type(choice[0]) and bool(value == choice[0])
    if part is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, part) and not (part is int and isinstance(value, bool))


def describe(kind: Any) -> str:
    """What a field of this type accepts, in words."""
    words = [
        str(choice[0]) if (choice := choice_of(part)) else _WORDS.get(part, "nothing")
        for part in alternatives(kind)
    ]
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def placeholder(kind: Any) -> str:
    """The placeholder in a flag's help: N, X, TEXT, or the choices."""
    words = []
    for part in alternatives(kind):
        if choice := choice_of(part):
            words.append(str(choice[0]))
        elif part is not type(None):
            words.append(_PLACEHOLDERS[part])
    return "|".join(words)


def from_text(text: str, kind: Any) -> Any:
    """A flag's text converted to the first alternative that accepts it, else the text itself."""
    for part in alternatives(kind):
        if choice := choice_of(part):
            if str(choice[0]) == text:
                return choice[0]
        elif part in (int, float):
            try:
                return part(text)
            except ValueError:
                continue
    return text
