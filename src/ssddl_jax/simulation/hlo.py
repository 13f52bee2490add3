"""Parses the text of a compiled program: its operations, their calls, and their modules.

`jax.named_scope` leaves a path in the metadata of every operation. The path names one of the
round's modules, and possibly a part inside it.
"""

import math
import re
from collections import Counter
from typing import NamedTuple

MODULES = ("Init", "SelectGroup", "LocalTrain", "ParaShare", "ParaUpdate")
PARTS = ("train", "encode", "add", "keys", "words")
OTHER = "other"
_CONTAINERS = ("while", "conditional", "call", "async-start", "async-done", "async-update")


class Operation(NamedTuple):
    """One operation, a line of the compiled text."""

    kind: str
    scope: str | None  # module, or module/part
    inside: tuple[str, ...]  # computations that it calls
    line: str


Program = dict[str, dict[str, Operation]]  # by computation, then by name


def scopes_of(text: str) -> dict[str, str | None]:
    """The scope of every operation of a compiled program: module, or module/part.

    "other" if nothing in the text says; None for an operation that only contains others, such as a
    loop.
    """
    program = computations(text)
    everything = {
        name: (line, inside) for inside, lines in program.items() for name, line in lines.items()
    }
    callers = {called: name for name, (line, _) in everything.items() for called in line.inside}

    def most(computation: str) -> str | None:
        lines = program.get(computation, {}).values()
        counted = Counter(line.scope for line in lines if line.scope)
        return counted.most_common(1)[0][0] if counted else None

    def scope(name: str, depth: int = 0) -> str | None:
        line, computation = everything[name]
        found = line.scope or next(filter(None, map(most, line.inside)), None) or most(computation)
        if found is None and computation in callers and depth < 20:
            return scope(callers[computation], depth + 1)
        return found

    return {
        name: None if line.kind in _CONTAINERS else scope(name) or OTHER
        for name, (line, _) in everything.items()
    }


def computations(text: str) -> Program:
    """The operations of a compiled program, by computation and name."""
    found: Program = {}
    lines: dict[str, Operation] = {}
    for line in text.splitlines():
        begin = re.match(r"(?:ENTRY )?%?([\w.\-]+) ?\(.*\{\s*$", line)
        if begin:
            lines = found.setdefault(begin[1], {})
            continue
        named = re.match(r"\s+(?:ROOT )?%?([\w.\-]+) = (.*)", line)
        kind = re.match(r" *([a-z][\w\-]*)\(", _after_type(named[2])) if named else None
        if not named or not kind:
            continue
        path = re.search(r'op_name="([^"]*)"', line)
        called = re.findall(r"(?:calls|body|condition|to_apply|\w*computation)=%?([\w.\-]+)", line)
        branches = re.search(r"branch_computations=\{([^}]*)\}", line)
        if branches:
            called += re.findall(r"[\w.\-]+", branches[1])
        lines[named[1]] = Operation(kind[1], _scope(path[1]) if path else None, tuple(called), line)
    return found


def _after_type(text: str) -> str:
    """The text after an operation's type, which may be a tuple of types."""
    if not text.startswith("("):
        return text.partition(" ")[2]
    depth = 0
    for at, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return text[at + 1 :]
    return ""


def elements(given: str) -> list[str]:
    """The types in a tuple type; a single type gives itself."""
    if not given.startswith("("):
        return [given]
    parts, depth = [""], 0
    for letter in given[1:-1]:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]


def _scope(path: str) -> str | None:
    """The module and part that an operation's path names."""
    *steps, _ = path.split("/")  # the last is the operation itself
    module = next((step for step in steps if step in MODULES), None)
    if module is None:
        return None
    part = next((step for step in steps[steps.index(module) :] if step in PARTS), None)
    return module if part is None else f"{module}/{part}"


def entry(text: str) -> str:
    """The name of a program's entry computation. Raises `ValueError` if there is none."""
    found = re.search(r"^ENTRY %?([\w.\-]+)", text, re.MULTILINE)
    if found is None:
        raise ValueError("Argument 'text' is not a compiled program.")
    return found[1]


_WIDTH = {"pred": 1, "s4": 1, "u4": 1}  # bytes of types whose names do not say


def called(operation: Operation, word: str) -> str:
    """The computation that an operation names under this keyword."""
    found = re.search(rf"\b(?:{word})=%?([\w.\-]+)", operation.line)
    return found[1] if found else ""


def trip_count(program: Program, operation: Operation, condition: str) -> int | None:
    """A loop's number of steps: the compiler's own, or the bound of its counter.

    None if the text has neither.
    """
    known = re.search(r'"known_trip_count":\{"n":"(\d+)"', operation.line)
    if known:
        return int(known[1])
    lines = list(program.get(condition, {}).values())
    lines += [line for top in lines for name in top.inside for line in program[name].values()]
    bounds = [found[1] for x in lines if (found := re.search(r" constant\((\d+)\)", x.line))]
    return max(map(int, bounds), default=None)


def result_bytes(operation: Operation) -> int:
    """The bytes of an operation's results.

    An operation that starts a copy or a collective returns operands, results and flags; only the
    results count. The start of an all-reduce returns only its results, or a tuple of its operands
    before them.
    """
    given = operation.line.partition(" = ")[2].partition(f" {operation.kind}(")[0]
    parts = (*elements(given), given)
    if operation.kind.endswith("-start") and (
        operation.kind != "all-reduce-start" or parts[0].startswith("(")
    ):
        given = parts[1]
    total = 0
    for name, dims in re.findall(r"\b(pred|(?:bf|[sufc])\d+)\[([\d,]*)\]", given):
        width = _WIDTH.get(name) or int(name.lstrip("bsufc")) // 8
        total += width * math.prod(map(int, filter(None, dims.split(","))))
    return total
