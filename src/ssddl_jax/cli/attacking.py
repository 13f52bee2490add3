"""The command `ssddl attack`."""

import argparse
import dataclasses

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
from ssddl_jax.config.config import Config
from ssddl_jax.config.toml_files import read_toml
from ssddl_jax.planning.requests import SIZES, attack_config, check_study

# Fields that an attack's rounds take from the user; the others are the study's own.
_TAKEN = ("data", "participants", "group_size", "shares", "prg", "clip", "learning_rate", "seed")
_GROUP, _TARGETS = 5, 8


def attack(arguments: list[str]) -> int:
    """`ssddl attack`."""
    parser = Parser(
        prog="ssddl attack",
        description="What each adversary can do with what it really sees: plays rounds, takes the "
        "views,\nand tries published attacks on them. Writes a table and a picture.",
    )
    add = parser.add_argument
    add("--targets", metavar="T", help=f"participants attacked [{_TARGETS}, or all if fewer]")
    add("--batch", default="1", metavar="B", help="examples of a member's one step [%(default)s]")
    add("--sizes", metavar="N,N,...", help="members of the sums attacked [2,3,5,10,25,50,100, as "
        "far as participants go]")  # fmt: skip
    add("--group-size", metavar="N", default=argparse.SUPPRESS, help="members of a round; in the "
        f"last surfaces all but one or two collude [{_GROUP}]")  # fmt: skip
    add("--out", metavar="DIR", help="folder for attack.json, .md, .png; by default a new one")
    add("--overwrite", action="store_true", help="an `out` that exists is reused")
    json_flag(parser)
    hidden = [
        f.name for f in dataclasses.fields(Config) if f.name not in _TAKEN or f.name == "group_size"
    ]
    add_config_flags(parser, hidden=hidden)
    options = parse(parser, arguments)
    batch = whole("batch", options.batch)
    targets = None if options.targets is None else whole("targets", options.targets)
    sizes = None
    if options.sizes is not None:
        sizes = [whole("sizes", part) for part in options.sizes.split(",")]
    if batch < 1:
        raise ConfigError("batch", batch, "must be at least 1")
    from ssddl_jax.common.outputs import output

    out, overwrite = options.out, options.overwrite
    del options.out, options.overwrite
    told = read_toml(options.config) if options.config is not None else {}
    if "group_size" not in {**told, **vars(options)}:
        options.group_size = str(_GROUP)
    passed_over = sorted(set(told) - {*_TAKEN, "out"})
    given = read_config(options)
    kept = {name: getattr(given, name) for name in _TAKEN}
    config = attack_config(Config(**kept), batch)
    targets = min(_TARGETS, config.participants) if targets is None else targets
    sizes = sizes or [size for size in SIZES if size <= config.participants]
    check_study(config, targets, sizes)
    from ssddl_jax.planning.checks import check

    check(config)
    first = [f"not used of {options.config}, a study has its own: {', '.join(passed_over)}"]

    def tell(text: str) -> None:
        if passed_over and first:
            say(first.pop())
        say(text)

    with output(out, "attack", overwrite) as directory:
        from ssddl_jax.privacy import results
        from ssddl_jax.privacy.study import study

        found = study(config, targets, sizes, tell)
        numbers = results.write(found, directory)
    if options.json:
        print_json(numbers)
    else:
        print(results.markdown(found))
    say(f"written to {directory}: attack.png, attack.md, attack.json; {found.seconds:.0f} s")
    return 0
