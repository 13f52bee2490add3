"""Command-line flags from `Config`: one flag for each field, checked by `Config` itself.

This is the standard library's argparse with one change: every error is one line that names the
flag, the value and what would work.
"""

import argparse
import dataclasses
import difflib
import json
import sys
import typing
from collections.abc import Callable, Collection, Sequence
from typing import Any, NoReturn

from ssddl_jax.common.errors import ConfigError
from ssddl_jax.common.paths import user_path
from ssddl_jax.common.text import printable
from ssddl_jax.config.config import Config
from ssddl_jax.config.kinds import NONE, from_text, placeholder
from ssddl_jax.config.toml_files import read_config_file
from ssddl_jax.running.host_devices import start_pool
from ssddl_jax.running.processes import LAUNCHERS, Cluster, checked

_PATHS = ("config", "out", "directory")  # options that are paths; `Config` handles its own fields

Command = Callable[[list[str]], int]  # arguments -> exit status


class Parser(argparse.ArgumentParser):
    """argparse with one-line errors that suggest the nearest flag."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("usage", "%(prog)s [options]")  # argparse's own would list every flag
        kwargs.setdefault("allow_abbrev", False)
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(*args, **kwargs)

    def error(self, message: str) -> NoReturn:
        """Raises `ConfigError`, which becomes one line and exit status 2."""
        message = message.removeprefix("argument ").replace(
            ": expected one argument", " needs a value"
        )
        raise ConfigError(self.prog, None, f"{message}; see {self.prog} --help")


def add_config_flags(parser: argparse.ArgumentParser, hidden: Sequence[str] = ()) -> None:
    """Adds --config and a flag for each field of `Config` except the hidden ones."""
    group = parser.add_argument_group("configuration (each field is also a key in the TOML file)")
    group.add_argument("--config", metavar="FILE", help="TOML file of fields; flags override it")
    hints = typing.get_type_hints(Config)
    for field in dataclasses.fields(Config):
        if field.name in hidden:
            continue
        default = NONE if field.default is None else field.default
        shown = "" if field.name == "out" else f" [{default}]"  # `out` names its own
        group.add_argument(
            flag_of(field.name),
            dest=field.name,
            default=argparse.SUPPRESS,
            metavar=placeholder(hints[field.name]),
            help=(field.metadata["help"] + shown).replace("%", "%%"),
        )


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    """Parsed arguments; unknown flags are refused with the nearest known one."""
    check_flags(arguments, parser)
    options = parser.parse_args(arguments)
    for name, value in vars(options).items():
        if isinstance(value, list):  # argparse makes one of --flag=--
            raise ConfigError(name, "--", "is not a value; see --help")
        if name in _PATHS and isinstance(value, str):
            setattr(options, name, user_path(name, value))
    return options


def profile_flag(parser: argparse.ArgumentParser) -> None:
    """--profile."""
    text = "new folder for a trace of up to three rounds and the seconds of each module"
    parser.add_argument("--profile", metavar="DIR", help=text)


def json_flag(parser: argparse.ArgumentParser) -> None:
    """--json."""
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")


def whole(name: str, text: str) -> int:
    """A whole number, or `ConfigError`."""
    try:
        return int(text)
    except ValueError:
        raise ConfigError(name, repr(text), "must be a whole number") from None


def number(name: str, text: str) -> float:
    """A number, or `ConfigError`."""
    try:
        return float(text)
    except ValueError:
        raise ConfigError(name, repr(text), "must be a number") from None


def say(text: str) -> None:
    """Prints a line for people on stderr."""
    print(printable(text), file=sys.stderr, flush=True)


def print_json(result: dict[str, Any]) -> None:
    """Prints the one JSON object of --json on stdout."""
    print(json.dumps(result), flush=True)


def add_cluster_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of a run over many processes."""
    group = parser.add_argument_group("multiple processes (results do not depend on them)")
    add = group.add_argument
    add("--processes", metavar="P", help="run P processes; without the next two, all on this host")
    add("--process-index", metavar="I", help="index of this process, 0..P-1")
    add("--coordinator", metavar="HOST:PORT", help="address on which process 0 listens")
    add("--launcher", metavar="NAME", help=f"what started them: {', '.join(LAUNCHERS)}")


def read_cluster(options: argparse.Namespace) -> Cluster:
    """The process options, checked."""
    processes, index = options.processes, options.process_index
    return checked(
        Cluster(
            None if processes is None else whole("processes", processes),
            None if index is None else whole("process_index", index),
            options.coordinator,
            options.launcher,
        )
    )


def flag_of(name: str) -> str:
    """The flag of a field: --field-name for field_name."""
    return "--" + name.replace("_", "-")


def read_config(
    arguments: argparse.Namespace, only: Collection[str] | None = None, **fixed: Any
) -> Config:
    """A checked `Config` from --config, then flags, then `fixed`. With `only`, the file's other
    fields are passed over.
    """
    names = {field.name for field in dataclasses.fields(Config)}
    given = {k: v for k, v in vars(arguments).items() if k in names and v is not None}
    hints = typing.get_type_hints(Config)
    fields = read_config_file(arguments.config) if arguments.config is not None else {}
    fields = {name: value for name, value in fields.items() if only is None or name in only}
    fields.update({name: from_text(text, hints[name]) for name, text in given.items()})
    config = Config(**{**fields, **fixed})
    start_pool(config, fill=True)
    return config


def check_flags(arguments: Sequence[str], parser: argparse.ArgumentParser) -> None:
    """Refuses an unknown flag and names the nearest known one, before argparse reports less."""
    known = [option for action in parser._actions for option in action.option_strings]
    for argument in arguments:
        name = argument.split("=", 1)[0]
        if name.startswith("--") and name != "--" and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"see {parser.prog} --help"
            raise ConfigError(parser.prog, None, f"{name} is not an option; {hint}")
