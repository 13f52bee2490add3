"""A trace of compiled rounds, and the seconds of each of the round's modules.

A trace names operations as the compiled program does; which module an operation belongs to stands
in the program's text, where `jax.named_scope` left it. Joined, they give the seconds of operations
by module and by part. Times are of operations, added up: several may run at once.
"""

import gzip
import itertools
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax

from ssddl_jax.compiling import Compiled
from ssddl_jax.outputs import write_whole

MODULES = ("Init", "SelectGroup", "LocalTrain", "ParaShare", "ParaUpdate")
PARTS = ("train", "encode", "add", "keys", "words")
_CONTAINERS = ("while", "conditional", "call", "async-start", "async-done", "async-update")
_OTHER = "other"
_ROUNDS = 3  # traced


class _Operation(NamedTuple):
    """A line of the compiled text."""

    kind: str
    scope: str | None  # module, or module/part
    inside: tuple[str, ...]  # computations that it calls


@contextmanager
def traced(directory: Path, text: str) -> Iterator[None]:
    """Writes a trace of what runs inside, for xprof or Perfetto, and `modules.json`.

    `text`: of the compiled program whose operations are to be joined with their modules.
    """
    with jax.profiler.trace(str(directory)):
        yield
    found = seconds_by_module(directory, text)
    write_whole(directory / "modules.json", json.dumps(found, indent=2) + "\n")


def profiled(compiled: Compiled, directory: Path, calls: int) -> Compiled:
    """The compiled round, which traces some of its next `calls`: up to three, not the first if
    there are more.
    """
    first = min(1, calls - 1)
    last = min(first + _ROUNDS, calls) - 1
    count, closing = itertools.count(), ExitStack()

    def call(*arguments: Any) -> Any:
        at = next(count)
        if at == first:
            closing.enter_context(traced(directory, compiled.call.as_text()))  # type: ignore[attr-defined]
        made = compiled.call(*arguments)
        if at == last:
            jax.block_until_ready(made)
            closing.close()
        return made

    return compiled._replace(call=call)


def seconds_by_module(directory: Path, text: str) -> dict[str, Any]:
    """Seconds of the traced operations by module and part, and how much is attributed to any."""
    scopes = scopes_of(text)
    seconds: dict[str, float] = defaultdict(float)
    module = re.match(r"HloModule (\S+?),", text)
    for name, spent in _events(directory, module[1] if module else None):
        if name in scopes and scopes[name] is None:
            continue  # it only holds others
        seconds[scopes.get(name) or _OTHER] += spent
    total = sum(seconds.values())
    modules = dict.fromkeys(MODULES, 0.0)
    for scope, spent in seconds.items():
        if scope != _OTHER:
            modules[scope.partition("/")[0]] += spent
    return {
        "seconds": modules,
        "seconds_of_parts": {scope: seconds[scope] for scope in sorted(seconds) if "/" in scope},
        "seconds_of_others": seconds[_OTHER],
        "seconds_of_operations": total,
        "attributed": sum(modules.values()) / total if total else 0.0,
        "note": "operations' seconds, added up; several may run at once",
    }


def scopes_of(text: str) -> dict[str, str | None]:
    """Of every operation of a compiled program: its module, or module/part; "other" where nothing
    says it; None for an operation that only holds others, such as a loop.
    """
    computations = _computations(text)
    everything = {
        name: (line, inside)
        for inside, lines in computations.items()
        for name, line in lines.items()
    }
    callers = {called: name for name, (line, _) in everything.items() for called in line.inside}

    def most(computation: str) -> str | None:
        lines = computations.get(computation, {}).values()
        counted = Counter(line.scope for line in lines if line.scope)
        return counted.most_common(1)[0][0] if counted else None

    def scope(name: str, depth: int = 0) -> str | None:
        line, computation = everything[name]
        found = line.scope or next(filter(None, map(most, line.inside)), None) or most(computation)
        if found is None and computation in callers and depth < 20:
            return scope(callers[computation], depth + 1)
        return found

    return {
        name: None if line.kind in _CONTAINERS else scope(name) or _OTHER
        for name, (line, _) in everything.items()
    }


def _computations(text: str) -> dict[str, dict[str, _Operation]]:
    """Operations of a compiled program by computation and name."""
    found: dict[str, dict[str, _Operation]] = {}
    lines: dict[str, _Operation] = {}
    for line in text.splitlines():
        begin = re.match(r"(?:ENTRY )?%?([\w.\-]+)[^=]*\{\s*$", line)
        if begin and not line.startswith(" "):
            lines = found.setdefault(begin[1], {})
            continue
        named = re.match(r"\s+(?:ROOT )?%?([\w.\-]+) = (.*)", line)
        kind = re.match(r" *([a-z][\w\-]*)\(", _after_type(named[2])) if named else None
        if not named or not kind:
            continue
        path = re.search(r'op_name="([^"]*)"', line)
        called = re.findall(
            r"(?:calls|body|condition|to_apply|\w*computations?)=\{?%?([\w.\-]+)", line
        )
        lines[named[1]] = _Operation(kind[1], _scope(path[1]) if path else None, tuple(called))
    return found


def _after_type(text: str) -> str:
    """What follows an operation's type, which may be a tuple of types."""
    if not text.startswith("("):
        return text.partition(" ")[2]
    depth = 0
    for at, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return text[at + 1 :]
    return ""


def _scope(path: str) -> str | None:
    """The module in an operation's path, with its part."""
    *steps, _ = path.split("/")  # the last is the operation itself
    module = next((step for step in steps if step in MODULES), None)
    if module is None:
        return None
    part = next((step for step in steps[steps.index(module) :] if step in PARTS), None)
    return module if part is None else f"{module}/{part}"


def _events(directory: Path, module: str | None) -> Iterator[tuple[str, float]]:
    """(operation, seconds) of a program in the newest trace of a folder."""
    files = sorted(directory.glob("plugins/profile/*/*.trace.json.gz"))
    if not files:
        return
    events = json.loads(gzip.decompress(files[-1].read_bytes()))["traceEvents"]
    lines = {
        (event.get("pid"), event.get("tid")): event["args"].get("name", "")
        for event in events
        if event.get("name") == "thread_name"
    }
    # A GPU's trace shows operations twice: on the streams, and on a line of their own.
    own = {pid for (pid, _), line in lines.items() if line == "XLA Ops"}
    for event in events:
        about = event.get("args", {}) if event.get("ph") == "X" else {}
        name, at = about.get("hlo_op"), (event.get("pid"), event.get("tid"))
        if (
            name
            and about.get("hlo_module") == module
            and (at[0] not in own or lines.get(at) == "XLA Ops")
        ):
            yield name, event["dur"] / 1e6
