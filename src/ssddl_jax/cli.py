"""The command `ssddl`: parses, checks, then imports what is heavy and does it.

Exit status: 0 done; 2 impossible or malformed, one line on stderr, nothing compiled or written; 1
anything else. With --json, stdout is exactly one JSON object; all else goes to stderr.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from ssddl_jax.errors import ConfigError
from ssddl_jax.options import Parser, add_config_flags, check_flags, read_config

_LATER = {
    "resume": "goes on from a checkpoint",
    "verify": "replays a run and compares hashes",
    "compare": "SSDDL beside its rivals",
    "attack": "what each adversary can do",
    "scale": "participant-count sweep",
    "compile": "ahead-of-time compilation for devices that are not here",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    _use_all_cores()
    try:
        return _dispatch(arguments)
    except SystemExit as stop:  # --help
        return int(stop.code or 0)
    except KeyboardInterrupt:
        _say("interrupted")
        return 1
    except Exception as error:
        from ssddl_jax.data import DataError

        if isinstance(error, ConfigError | DataError):
            _say(f"error: {error}")
            return 2
        if os.environ.get("SSDDL_DEBUG"):
            raise
        text = " ".join(str(error).split())[:500]
        _say(f"error: {type(error).__name__}: {text} (SSDDL_DEBUG=1 shows where)")
        return 1


def _use_all_cores() -> None:
    """As many host devices as cores that may be used, unless XLA_FLAGS says already."""
    flags = os.environ.get("XLA_FLAGS", "")
    name = "--xla_force_host_platform_device_count"
    if name not in flags:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        os.environ["XLA_FLAGS"] = f"{flags} {name}={cores}".strip()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _print_json(result: dict[str, Any]) -> None:
    print(json.dumps(result), flush=True)


def _dispatch(arguments: list[str]) -> int:
    commands: dict[str, tuple[Callable[[list[str]], int], str]] = {
        "run": (_run, "trains, with progress; writes a run directory; prints a summary"),
        "transcript": (_transcript, "writes one round's messages to a file"),
        "plan": (_plan, "the numbers of a run before it: headroom, bytes, words, tolerance"),
        "bench": (_bench, "one timed measurement: bench share"),
        "data": (_data, "which datasets are here, how to get the others"),
    }
    lines = [f"  {name:<12}{text}" for name, (_, text) in commands.items()]
    later = [f"  {name:<12}{text} (not built yet)" for name, text in _LATER.items()]
    parser = Parser(
        prog="ssddl",
        usage="ssddl COMMAND [options]",
        description="Simulates privacy-preserving distributed deep learning based on secret "
        "sharing (SSDDL):\nN participants train one model; the server learns only sums.",
        epilog="commands:\n" + "\n".join(lines + later) + "\n\nssddl COMMAND --help tells more.",
    )
    parser.add_argument("command", nargs="?", help=argparse.SUPPRESS)
    if not arguments or arguments[0] in ("-h", "--help"):
        parser.print_help()
        return 0 if arguments else 2
    name, rest = arguments[0], arguments[1:]
    if name in _LATER:
        raise ConfigError("command", name, f"is not built yet; there are {', '.join(commands)}")
    if name not in commands:
        raise ConfigError("command", name, f"is unknown; there are {', '.join(commands)}")
    return commands[name][0](rest)


def _parse(parser: argparse.ArgumentParser, arguments: list[str]) -> argparse.Namespace:
    check_flags(arguments, parser)
    return parser.parse_args(arguments)


def _json_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def _run(arguments: list[str]) -> int:
    parser = Parser(prog="ssddl run", description="Trains, and writes a run directory.")
    parser.add_argument("--overwrite", action="store_true", help="an `out` that exists is reused")
    _json_flag(parser)
    add_config_flags(parser)
    options = _parse(parser, arguments)
    config = read_config(options)
    from ssddl_jax.console import Progress, print_summary
    from ssddl_jax.runner import run

    with Progress(config) as progress:
        result = run(
            config,
            overwrite=options.overwrite,
            on_start=progress.start,
            on_round=progress.round,
        )
    if options.json:
        _print_json(result.summary)
    else:
        print_summary(config, result)
    return 0


def _transcript(arguments: list[str]) -> int:
    parser = Parser(
        prog="ssddl transcript", description="One round's messages, the all-seeing view, as .npz."
    )
    parser.add_argument("--round", default="0", metavar="R", help="which round, from 0 [0]")
    parser.add_argument("--out", required=True, metavar="FILE.npz", help="file to write")
    _json_flag(parser)
    add_config_flags(parser, hidden=["out"])
    options = _parse(parser, arguments)
    round_ = _whole("round", options.round)
    path = options.out
    del options.out
    config = read_config(options)
    from ssddl_jax.hashes import words_sha256
    from ssddl_jax.transcript import check_file, transcript, write_transcript

    check_file(path)
    arrays = transcript(config, round_)
    write_transcript(arrays, path)
    _say(f"round {round_}: {len(arrays['group'])} messages of {arrays['encoded'].shape[1]} words")
    if options.json:
        shapes = {key: list(value.shape) for key, value in arrays.items()}
        digest = words_sha256(arrays["aggregate"])
        _print_json({"out": path, "round": round_, "aggregate_sha256": digest, "arrays": shapes})
    else:
        print(path)
    return 0


def _plan(arguments: list[str]) -> int:
    parser = Parser(prog="ssddl plan", description="What a run will need and withstand.")
    _json_flag(parser)
    add_config_flags(parser)
    options = _parse(parser, arguments)
    config = read_config(options)
    from ssddl_jax.console import print_plan
    from ssddl_jax.planning import plan_report

    report = plan_report(config)
    if options.json:
        _print_json(report)
    else:
        print_plan(report)
    return 0


def _bench(arguments: list[str]) -> int:
    if not arguments or arguments[0] not in ("share", "round", "-h", "--help"):
        raise ConfigError("bench", arguments[0] if arguments else "", "must be share")
    if arguments[0] == "round":
        raise ConfigError("bench", "round", "is not built yet; there is bench share")
    parser = Parser(
        prog="ssddl bench share",
        description="Times ParaShare and the server's sum alone, on random updates.",
    )
    parser.add_argument("--group-size", default="64", metavar="n", help="members, all of N [64]")
    parser.add_argument("--dimension", default="50890", metavar="d", help="parameters [50890]")
    parser.add_argument("--repeats", default="5", metavar="R", help="timed repetitions [5]")
    _json_flag(parser)
    hidden = ["participants", "group_size", "data", "model", "partition", "out", "rounds"]
    add_config_flags(parser, hidden=hidden)
    options = _parse(parser, arguments[1:] if arguments[0] == "share" else arguments)
    sizes = {
        name: _whole(name, getattr(options, name))
        for name in ("group_size", "dimension", "repeats")
    }
    del options.group_size
    config = read_config(options, participants=sizes["group_size"], group_size="all")
    from ssddl_jax.bench import ShareBench, bench_share
    from ssddl_jax.console import print_table

    result = bench_share(config, ShareBench(**sizes))
    if options.json:
        _print_json(result)
    else:
        print_table("bench share", result)
    return 0


def _data(arguments: list[str]) -> int:
    parser = Parser(prog="ssddl data", description="Which datasets are here.")
    _json_flag(parser)
    options = _parse(parser, arguments)
    from ssddl_jax.console import print_table
    from ssddl_jax.data import list_datasets

    found = list_datasets()
    if options.json:
        _print_json({"datasets": [entry._asdict() for entry in found]})
    else:
        print_table("datasets", {entry.name: entry.where or entry.how for entry in found})
    return 0


def _whole(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ConfigError(name, repr(text), "must be a whole number") from None
