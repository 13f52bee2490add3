"""The command `ssddl compare`."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ssddl_jax.cli.options import (
    Parser,
    add_config_flags,
    json_flag,
    parse,
    print_json,
    read_config,
    say,
    whole,
)
from ssddl_jax.common.errors import ConfigError
from ssddl_jax.config.protocols import PROTOCOLS

_SEEDS = 4
_HIDDEN = ["protocol", "engine", "out", "seed", "eval_every", "checkpoint_every", "sinks"]
_HIDDEN += ["metrics"] + [protocol.variant for protocol in PROTOCOLS.values() if protocol.variant]


def compare(arguments: list[str]) -> int:
    """`ssddl compare`."""
    from ssddl_jax.measure.compare.rows import DEFAULT, variants

    parser = Parser(
        prog="ssddl compare",
        description="Compares SSDDL with its rivals on the same data, model and seeds: accuracy "
        "with its interval,\nseconds of real computation by role, bytes, dropouts survived, who "
        "learns what.\nWrites a table and a picture.",
    )
    add = parser.add_argument
    add("--protocols", default=DEFAULT, metavar="ROW,ROW,...",
        help=f"rows of the table; also {', '.join(variants())} [%(default)s]")  # fmt: skip
    add("--seeds", default=str(_SEEDS), metavar="S", help="train from seeds 0..S-1 [%(default)s]")
    add("--out", metavar="DIR", help="folder for compare.json, .md, .png [a new one in runs/]")
    add("--overwrite", action="store_true", help="replace the results in an existing `out`")
    json_flag(parser)
    add_config_flags(parser, hidden=_HIDDEN)
    options = parse(parser, arguments)
    seeds = whole("seeds", options.seeds)
    if not 1 <= seeds <= 1000:
        raise ConfigError("seeds", seeds, "must be 1 to 1000")
    out, overwrite = options.out, options.overwrite
    del options.out, options.overwrite, options.seeds
    config = read_config(options, metrics=None)  # rows have their own columns
    from ssddl_jax.common.outputs import output
    from ssddl_jax.measure.compare.rows import read_rows
    from ssddl_jax.planning.checks import check

    rows = read_rows(options.protocols, config)
    for row in rows:
        check(row.config)
    with output(out, "compare", overwrite) as directory:
        from ssddl_jax.measure.compare import comparison as comparing

        comparing.check(rows)
        _write(directory, comparing.compare(rows, seeds, say), options.json)
    return 0


def _write(directory: Path, results: Iterator[dict[str, Any]], as_json: bool) -> None:
    """Writes the results after every row, then the picture; prints them.

    If Ctrl-C or an error ends the comparison, that is done for the rows before it.
    """
    from ssddl_jax.common.outputs import write_results
    from ssddl_jax.measure.compare.figure import draw
    from ssddl_jax.measure.compare.table import markdown

    result: dict[str, Any] = {}
    try:
        for result in results:
            write_results(directory, "compare", result, markdown(result))
    finally:
        if result:
            text = markdown(result)
            write_results(directory, "compare", result, text, partial(draw, result))
            if as_json:
                print_json(result)
            else:
                _print(text)
            say(f"written to {directory}: compare.png, compare.md, compare.json")


def _print(text: str) -> None:
    """Prints Markdown, laid out on a terminal and unchanged elsewhere; nothing is cut."""
    from rich.markdown import Markdown

    from ssddl_jax.cli.console import make_console

    console = make_console()
    if not console.is_terminal:
        print(text)
        return
    console.width = max(120, console.width)
    console.print(Markdown(text))
