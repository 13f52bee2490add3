"""A trace of compiled rounds, and the seconds of each of the round's modules.

A trace names operations as the compiled program does. The program's text gives each operation's
module, as marked by `jax.named_scope`. Together they give the seconds of operations by module and
by part. The seconds of operations are added up, although several may run at once.
"""

import gzip
import itertools
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import jax

from ssddl_jax.common.atomic import write_whole
from ssddl_jax.simulation.compiling import Compiled
from ssddl_jax.simulation.hlo import MODULES, OTHER, scopes_of

_ROUNDS = 3  # traced


@contextmanager
def traced(directory: Path, text: str) -> Iterator[None]:
    """Writes a trace of the context, for xprof or Perfetto, and `modules.json`.

    `text`: of the compiled program whose operations are matched with their modules.
    """
    with jax.profiler.trace(str(directory)):
        yield
    found = seconds_by_module(directory, text)
    write_whole(directory / "modules.json", json.dumps(found, indent=2) + "\n")


def profiled(compiled: Compiled, directory: Path, calls: int) -> Compiled:
    """A compiled round that traces up to three of its next `calls` calls, and the first one only if
    there are no others.
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
    """Seconds of the traced operations by module and part, and the fraction that has a module."""
    scopes = scopes_of(text)
    seconds: dict[str, float] = defaultdict(float)
    module = re.match(r"HloModule (\S+?),", text)
    for name, spent in _events(directory, module[1] if module else None):
        if name in scopes and scopes[name] is None:
            continue  # it only contains other operations
        seconds[scopes.get(name) or OTHER] += spent
    total = sum(seconds.values())
    modules = dict.fromkeys(MODULES, 0.0)
    for scope, spent in seconds.items():
        if scope != OTHER:
            modules[scope.partition("/")[0]] += spent
    return {
        "seconds": modules,
        "seconds_of_parts": {scope: seconds[scope] for scope in sorted(seconds) if "/" in scope},
        "seconds_of_others": seconds[OTHER],
        "seconds_of_operations": total,
        "attributed": sum(modules.values()) / total if total else 0.0,
        "note": "seconds of operations, added up; several may run at once",
    }


def _events(directory: Path, module: str | None) -> Iterator[tuple[str, float]]:
    """The (operation, seconds) pairs of a program in the newest trace of a folder."""
    files = sorted(directory.glob("plugins/profile/*/*.trace.json.gz"))
    if not files:
        return
    events = json.loads(gzip.decompress(files[-1].read_bytes()))["traceEvents"]
    lines = {
        (event.get("pid"), event.get("tid")): event["args"].get("name", "")
        for event in events
        if event.get("name") == "thread_name"
    }
    # A GPU's trace shows operations twice: on the streams and on a separate line.
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
