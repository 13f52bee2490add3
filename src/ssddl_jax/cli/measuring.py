"""Commands that measure: bench, scale."""

from argparse import Namespace
from typing import TYPE_CHECKING, Any

from ssddl_jax.cli.options import (
    Command,
    Parser,
    add_cluster_flags,
    add_config_flags,
    flag_of,
    json_flag,
    number,
    parse,
    print_json,
    profile_flag,
    read_cluster,
    read_config,
    say,
    whole,
)
from ssddl_jax.common.errors import ConfigError
from ssddl_jax.config.config import Config
from ssddl_jax.config.toml_files import read_toml
from ssddl_jax.planning.requests import (
    RoundBench,
    ShareBench,
    check_profile,
    check_round_bench,
    check_share_bench,
)
from ssddl_jax.running import processes

if TYPE_CHECKING:
    from ssddl_jax.measure.scaling import Training

# Fields that the measurement sets.
_SET = ["participants", "group_size", "data", "partition", "out", "rounds", "eval_every"]
_SET += ["checkpoint_every", "local_epochs"]
_TRAINED = ["seeds", "rounds", "data"]  # options of what `scale` trains after its sweep
_SAMPLE = "print the SHA-256 of K members' uploads, drawn at random [0]"
_ROUND_FLAGS = [
    ("--participants", "N", "participants, all in the group [1000]"),
    ("--examples", "E", "examples of each participant [20]"),
    ("--local-steps", "S", "local steps of each participant [1]"),
    ("--batch-size", "B", "examples in a step [20]"),
    ("--repeats", "R", "timed repetitions [5]"),
]


def bench(arguments: list[str]) -> int:
    """`ssddl bench share` and `ssddl bench round`."""
    if arguments and arguments[0] in ("-h", "--help"):
        Parser(
            prog="ssddl bench",
            usage="ssddl bench share|round [options]",
            description="Takes one timed measurement. share: ParaShare and the server's sum "
            "alone; round: whole rounds.",
            epilog="ssddl bench share --help and ssddl bench round --help list the options.",
        ).print_help()
        return 0
    if not arguments or arguments[0] not in BENCHES:
        raise ConfigError("bench", arguments[0] if arguments else None, "must be share or round")
    return BENCHES[arguments[0]](arguments[1:])


def _share(arguments: list[str]) -> int:
    parser = Parser(
        prog="ssddl bench share",
        description="Times ParaShare and the server's sum alone, on random updates.",
    )
    parser.add_argument("--group-size", metavar="n", help="members of the group [64]")
    parser.add_argument("--dimension", default="50890", metavar="d", help="parameters [50890]")
    parser.add_argument("--repeats", default="5", metavar="R", help="timed repetitions [5]")
    parser.add_argument("--sample-uploads", default="0", metavar="K", help=_SAMPLE)
    json_flag(parser)
    profile_flag(parser)
    add_config_flags(parser, hidden=[*_SET, "model", "batch_size"])
    options = parse(parser, arguments)
    profile = vars(options).pop("profile")
    fields = _from_file(options)
    _default(options, fields, group_size="64")
    given = vars(options).pop("group_size")
    size = _group_in(fields) if given is None else whole("group_size", given)
    names = ("dimension", "repeats", "sample_uploads")
    sizes = {name: whole(name, getattr(options, name)) for name in names}
    config = read_config(options, participants=size, group_size="all")
    measured = ShareBench(size, **sizes)
    check_share_bench(config, measured)
    if profile is not None:
        check_profile(config, profile)
    from ssddl_jax.planning.checks import check

    check(config)
    from ssddl_jax.measure.bench import bench_share

    return show("bench share", bench_share(config, measured, profile, say), options)


def _round(arguments: list[str]) -> int:
    parser = Parser(
        prog="ssddl bench round",
        description="Times whole rounds of N participants, all in the group, over a fixed pool of "
        "random\nimages. Each participant takes S steps of batch B over its E examples.",
    )
    for flag, metavar, text in _ROUND_FLAGS:
        parser.add_argument(flag, metavar=metavar, help=text)
    parser.add_argument("--sample-uploads", metavar="K", help=_SAMPLE)
    json_flag(parser)
    profile_flag(parser)
    add_cluster_flags(parser)
    add_config_flags(parser, hidden=[*_SET, "batch_size"])
    options = parse(parser, arguments)
    profile = vars(options).pop("profile")
    cluster = read_cluster(options)
    fields = _from_file(options)
    sizes: dict[str, Any] = {name: fields[name] for name in RoundBench._fields if name in fields}
    for name in RoundBench._fields:
        given = vars(options).pop(name)
        if given is not None:
            sizes[name] = whole(name, given)
    _default(options, fields, model="mlp-64")
    members = sizes.get("participants", 1000)
    config = read_config(options, participants=members, group_size="all")
    measured = RoundBench(**sizes)
    check_round_bench(config, measured)
    if profile is not None and not processes.is_worker():
        check_profile(config, profile)
    from ssddl_jax.planning.checks import check

    check(config)
    if processes.is_worker():
        processes.join()
    elif not cluster.alone:
        return processes.supervise(cluster, ["bench", "round", *arguments], None)
    from ssddl_jax.measure.bench import bench_round

    return show("bench round", bench_round(config, measured, profile, _say_once), options)


def _from_file(options: Namespace) -> dict[str, Any]:
    """The fields that --config names."""
    return read_toml(options.config) if options.config is not None else {}


def _group_in(fields: dict[str, Any]) -> int:
    """The members of the group that a file's fields describe."""
    return Config(**{k: v for k, v in fields.items() if k in ("participants", "group_size")}).group


def _default(options: Namespace, fields: dict[str, Any], **defaults: str) -> None:
    """Sets the options that neither a flag nor the file names."""
    for name, text in defaults.items():
        if name not in fields and vars(options).get(name) is None:
            setattr(options, name, text)


BENCHES: dict[str, Command] = {"share": _share, "round": _round}


def _say_once(text: str) -> None:
    """Progress, from process 0 only."""
    if processes.is_leader():
        say(text)


def show(title: str, result: dict[str, Any], options: Namespace) -> int:
    """Prints a flat record as JSON or as a table, in process 0 only."""
    from ssddl_jax.cli.console import print_table

    if processes.is_leader():
        if options.json:
            print_json(result)
        else:
            print_table(title, result)
    return 0


def scale(arguments: list[str]) -> int:
    """`ssddl scale`."""
    parser = Parser(
        prog="ssddl scale",
        description="Times whole rounds at growing numbers of participants, with and without "
        "sharing.\nEach row is one `ssddl bench round` in its own process.",
    )
    add = parser.add_argument
    add("--participants", default="10,100,1000,10000", metavar="N,N,...", help="rows [%(default)s]")
    add("--curves", default="plain,ideal,auto", metavar="NAME,...", help="curves to compare: "
        "plain, ideal, auto (sparse graph), complete [%(default)s]")  # fmt: skip
    add("--budget", default="600", metavar="SECONDS", help="skip rows that would take longer "
        "[%(default)s]")  # fmt: skip
    add("--out", metavar="DIR", help="folder for scale.json, .md, .png [a new one in runs/]")
    add("--overwrite", action="store_true", help="replace the sweep in an existing `out`")
    add("--seeds", metavar="S", help="also train from seeds 0..S-1, for accuracy and its interval")
    add("--rounds", metavar="R", help="with --seeds: rounds to train [20]")
    add("--data", metavar="TEXT", help="with --seeds: dataset [mnist-small]")
    for flag, metavar, text in _ROUND_FLAGS[1:]:
        add(flag, metavar=metavar, help=text)
    json_flag(parser)
    hidden = [*_SET, "batch_size", "protocol", "engine", "neighbours", "seed"]
    add_config_flags(parser, hidden=hidden)
    options = parse(parser, arguments)
    from ssddl_jax.common.outputs import output
    from ssddl_jax.measure import scaling, scaling_table

    sweep = scaling.Sweep(
        [whole("participants", part) for part in options.participants.split(",")],
        options.curves.split(","),
        [],
        number("budget", options.budget),
    )
    scaling.check_sweep(sweep)
    own = ["participants", "curves", "budget", "out", "overwrite", "json", *_TRAINED]
    given = {k: v for k, v in vars(options).items() if k not in own and v is not None}
    flags = [text for name, value in given.items() for text in (flag_of(name), str(value))]
    training = None
    if options.seeds is not None:
        training = _training(options, sweep.participants)
        for n, why in scaling.check_training(training, sweep.participants).items():
            say(f"training of {n:,} participants is left out: {why}")

    def progress(at: scaling.SweepProgress) -> None:
        left = "" if at.seconds_left is None else f"; about {at.seconds_left:,.0f} s left"
        say(f"{at.done + 1} of {at.total}: {at.curve}, {at.participants:,} participants{left}")

    with output(options.out, "scale", overwrite=options.overwrite) as directory:
        result = scaling.scale(sweep._replace(flags=flags), directory, progress, training)
    if options.json:
        print_json(result)
    elif result.get("rows"):
        print(scaling_table.markdown(result))
    say(f"written to {directory}")
    if result["interrupted"]:
        say(f"interrupted: {len(result.get('rows', []))} rows kept")
        return 1
    return 0


def _training(options: Namespace, participants: list[int]) -> "Training":
    """What `ssddl scale --seeds` trains: E examples each, batches of B, whole epochs."""
    from ssddl_jax.measure.scaling import Training

    if (seeds := whole("seeds", options.seeds)) < 1:
        raise ConfigError("seeds", seeds, "must be at least 1")
    examples = whole("examples", "20" if options.examples is None else options.examples)
    _default(
        options,
        _from_file(options),
        data="mnist-small",
        rounds="20",
        batch_size="20",
        model="mlp-64",
    )
    config = read_config(
        options,
        participants=min(participants),
        group_size="all",
        protocol="ssddl",
        engine="ideal",
        neighbours="complete",
        partition=f"resample:{examples}",
    )
    return Training(config, seeds)
