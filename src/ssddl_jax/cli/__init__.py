"""The command `ssddl`: parses and checks its arguments, and imports JAX only after that.

Exit status: 0 for success; 2 for a request that is impossible or malformed (one line on stderr,
nothing compiled or written); 1 for anything else. With --json, stdout is exactly one JSON object;
everything else goes to stderr.
"""

import argparse
import difflib
import os
import sys
from collections.abc import Sequence

from ssddl_jax.cli import (
    attacking,
    comparing,
    compiling,
    measuring,
    planning,
    run_directories,
    training,
)
from ssddl_jax.cli.options import Command, Parser, say
from ssddl_jax.common.errors import ConfigError, DataError, RunError, one_line
from ssddl_jax.common.text import escape_what_cannot_be_printed, start_in_utf8
from ssddl_jax.running import processes
from ssddl_jax.running.interrupts import (
    Interrupted,
    end_on_signals,
    is_interrupt,
    still_computing,
    words,
)
from ssddl_jax.simulation.jax_settings import missing_device, refused_variable

_LONGEST = 20_000  # characters of a line that gives a command to resume with: paths stay whole

COMMANDS: dict[str, tuple[Command, str]] = {
    "run": (training.run, "trains a model, writes a run directory, prints a summary"),
    "transcript": (training.transcript, "writes the messages of one round to a file"),
    "resume": (run_directories.resume, "continues a run from its last good checkpoint"),
    "verify": (run_directories.verify, "replays a finished run and compares hashes"),
    "report": (run_directories.report, "rewrites the report.html of a finished run"),
    "plan": (planning.plan, "reports what a run needs and which failures it tolerates"),
    "bench": (measuring.bench, "times one thing: bench share, bench round"),
    "scale": (measuring.scale, "times rounds at growing numbers of participants; table and plot"),
    "compare": (comparing.compare, "compares SSDDL with its rivals: accuracy, cost, leakage"),
    "attack": (attacking.attack, "attacks what each adversary really sees; table and pictures"),
    "compile": (compiling.compile_, "compiles the round for devices that this machine lacks"),
    "data": (training.data, "lists the datasets found here, and how to get the others"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status."""
    command = arguments is None
    if command:
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
    if command and still_computing():
        processes.end_now(status)
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
        if not (processes.is_worker() and processes.is_lost_contact(error)):  # the parent reports
            say(f"error: {_line(error)}")
        return 1


def _line(error: Exception) -> str:
    """What went wrong, in one line."""
    if isinstance(error, RunError):
        return one_line(error, _LONGEST)
    text = one_line(error, 500)
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in text:
        remedy = "use a smaller group_size, tile_size, batch_size or model; see ssddl plan"
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
        epilog="commands:\n" + "\n".join(lines) + "\n\nssddl COMMAND --help lists its options.",
    )
    parser.add_argument("command", nargs="?", help=argparse.SUPPRESS)
    if not arguments or arguments[0] in ("-h", "--help"):
        parser.print_help()
        return 0 if arguments else 2
    name, rest = arguments[0], arguments[1:]
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"commands are {', '.join(COMMANDS)}"
        raise ConfigError("command", name, f"is not a command; {hint}")
    return COMMANDS[name][0](rest)
