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

# Fields that an attack's rounds take from the user; the study sets the others.
_TAKEN = ("data", "participants", "group_size", "shares", "prg", "clip", "learning_rate", "seed")
_GROUP, _TARGETS = 5, 8


def attack(arguments: list[str]) -> int:
    """`ssddl attack`."""
    parser = Parser(
        prog="ssddl attack",
        description="Shows what each adversary can do with what it really sees: runs rounds, "
        "records each view,\nand tries published attacks on it. Writes a table and a picture.",
    )
    add = parser.add_argument
    add("--targets", metavar="T", help=f"participants to attack [{_TARGETS}, or all if fewer]")
    add("--batch", default="1", metavar="B", help="examples in a member's one step [%(default)s]")
    add("--sizes", metavar="N,N,...", help="numbers of members in the sums to attack "
        "[2,3,5,10,25,50,100, up to participants]")  # fmt: skip
    add("--group-size", metavar="N", default=argparse.SUPPRESS, help="members of a round; in the "
        f"last surfaces, all but one or two collude [{_GROUP}, or N - 1 if fewer]")  # fmt: skip
    add("--out", metavar="DIR", help="folder for attack.json, .md, .png [a new one in runs/]")
    add("--overwrite", action="store_true", help="replace the results in an existing `out`")
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
    from_file = read_toml(options.config) if options.config is not None else {}
    ignored = sorted(set(from_file) - {*_TAKEN, "out"})
    asked = "group_size" in {**from_file, **vars(options)}
    # Everybody's group, until the participants are known.
    given = read_config(options, only=_TAKEN, **({} if asked else {"group_size": "all"}))
    if not asked:
        given = dataclasses.replace(given, group_size=max(3, min(_GROUP, given.participants - 1)))
    config = attack_config(given, batch)
    targets = min(_TARGETS, config.participants) if targets is None else targets
    sizes = sizes or [size for size in SIZES if size <= config.participants]
    check_study(config, targets, sizes)
    from ssddl_jax.planning.checks import check

    check(config)
    first = [f"note: the study sets these fields of {options.config} itself: {', '.join(ignored)}"]

    def report(text: str) -> None:
        if ignored and first:
            say(first.pop())
        say(text)

    with output(out, "attack", overwrite) as directory:
        from ssddl_jax.privacy import results
        from ssddl_jax.privacy.study import study

        found = study(config, targets, sizes, report)
        numbers = results.write(found, directory)
    if options.json:
        print_json(numbers)
    else:
        print(results.markdown(found))
    say(f"written to {directory}: attack.png, attack.md, attack.json; {found.seconds:.0f} s")
    return 0
