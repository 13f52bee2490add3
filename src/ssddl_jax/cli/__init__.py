"""The command `ssddl`: parses, checks, then imports what is heavy and does it.

Exit status: 0 done; 2 impossible or malformed, one line on stderr, nothing compiled or written; 1
anything else. With --json, stdout is exactly one JSON object; all else goes to stderr.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from ssddl_jax.cli import (
    attacking,
    comparing,
    measuring,
    planning,
    run_directories,
    training,
)
from ssddl_jax.cli.options import Command, Parser, say
from ssddl_jax.common.errors import ConfigError, DataError, RunError, one_line
from ssddl_jax.common.text import escape_what_cannot_be_printed, start_in_utf8
from ssddl_jax.running import processes
from ssddl_jax.running.interrupts import Interrupted, end_on_signals, is_interrupt, words
from ssddl_jax.simulation.jax_settings import missing_device, refused_variable

_COMMANDS = 20_000  # characters of a line that names a command to go on with: paths are not cut

COMMANDS: dict[str, tuple[Command, str]] = {
    "run": (training.run, "trains, with progress; writes a run directory; prints a summary"),
    "transcript": (training.transcript, "writes one round's messages to a file"),
    "resume": (run_directories.resume, "goes on with a run from its last good checkpoint"),
    "verify": (run_directories.verify, "replays a finished run and compares hashes"),
    "report": (run_directories.report, "makes the report.html of a finished run again"),
    "plan": (planning.plan, "a run before it runs: headroom, bytes, memory, tolerance, time"),
    "bench": (measuring.bench, "one timed measurement: bench share, bench round"),
    "scale": (measuring.scale, "participant-count sweep: seconds, memory, bytes; table and plot"),
    "compare": (comparing.compare, "SSDDL beside its rivals: accuracy, seconds, bytes, what leaks"),
    "attack": (attacking.attack, "what each adversary can do to what it really sees"),
    "compile": (measuring.compile_, "compiles the round for devices that are not here"),
    "data": (training.data, "which datasets are here, how to get the others"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status."""
    if arguments is None:
        start_in_utf8()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    end_on_signals()
    escape_what_cannot_be_printed()
    try:
        status = _main(arguments)
    except KeyboardInterrupt as stop:  # by a signal
        say(words(stop))
        status = 1
    if processes.is_worker():
        processes.leave(status)
    return status


def _main(arguments: list[str]) -> int:
    try:
        return _dispatch(arguments)
    except SystemExit as stop:  # --help
        return int(stop.code or 0)
    except Interrupted as stop:
        say(str(stop))
        return 1
    except Exception as caught:
        if is_interrupt(caught):
            raise KeyboardInterrupt from None
        error = missing_device() or refused_variable(caught) or caught
        if isinstance(error, ConfigError | DataError):
            say(f"error: {one_line(error, 1200)}")
            return 2
        if os.environ.get("SSDDL_DEBUG"):
            raise
        if not (processes.is_worker() and processes.is_lost_contact(error)):  # its parent tells
            say(f"error: {_line(error)}")
        return 1


def _line(error: Exception) -> str:
    """What went wrong, in one line."""
    if isinstance(error, RunError):
        return one_line(error, _COMMANDS)
    text = one_line(error, 500)
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in text:
        remedy = "a smaller group_size, tile_size, batch_size or model needs less; see ssddl plan"
        return f"out of memory: {text + '; ' if text else ''}{remedy}"
    if isinstance(error, OSError | FloatingPointError):
        return text
    return f"{type(error).__name__}: {text} (SSDDL_DEBUG=1 shows where)"


def _dispatch(arguments: list[str]) -> int:
    lines = [f"  {name:<12}{text}" for name, (_, text) in COMMANDS.items()]
    parser = Parser(
        prog="ssddl",
        usage="ssddl COMMAND [options]",
        description="Simulates privacy-preserving distributed deep learning based on secret "
        "sharing (SSDDL):\nN participants train one model; the server learns only sums.",
        epilog="commands:\n" + "\n".join(lines) + "\n\nssddl COMMAND --help tells more.",
    )
    parser.add_argument("command", nargs="?", help=argparse.SUPPRESS)
    if not arguments or arguments[0] in ("-h", "--help"):
        parser.print_help()
        return 0 if arguments else 2
    name, rest = arguments[0], arguments[1:]
    if name not in COMMANDS:
        raise ConfigError("command", name, f"is unknown; there are {', '.join(COMMANDS)}")
    return COMMANDS[name][0](rest)
