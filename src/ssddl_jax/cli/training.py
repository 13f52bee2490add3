"""The commands run, transcript and data."""

from pathlib import Path
from typing import TYPE_CHECKING

from ssddl_jax.cli.options import (
    Parser,
    add_cluster_flags,
    add_config_flags,
    json_flag,
    parse,
    print_json,
    profile_flag,
    read_cluster,
    read_config,
    say,
    whole,
)
from ssddl_jax.common.text import shown
from ssddl_jax.planning.requests import (
    check_explained,
    check_profile,
    check_shown,
    check_transcript_file,
)
from ssddl_jax.running import processes

if TYPE_CHECKING:
    from ssddl_jax.data.places import DatasetInfo


def run(arguments: list[str]) -> int:
    """`ssddl run`."""
    parser = Parser(prog="ssddl run", description="Trains a model and writes a run directory.")
    text = "replace the run in an existing `out`"
    parser.add_argument("--overwrite", action="store_true", help=text)
    text = "explain the protocol with the numbers of a real round of three, and train nothing"
    parser.add_argument("--explain", action="store_true", help=text)
    json_flag(parser)
    profile_flag(parser)
    add_cluster_flags(parser)
    add_config_flags(parser)
    options = parse(parser, arguments)
    cluster = read_cluster(options)
    profile = vars(options).pop("profile")
    config = read_config(options)
    if profile is not None and not processes.is_worker():
        check_profile(config, profile)
    from ssddl_jax.common.outputs import check_new, check_output, name_of, output
    from ssddl_jax.planning.checks import check

    if options.explain:
        check_explained(config)
        check(config)
        from ssddl_jax.cli.explain.screen import explain

        text = explain(config)
        print_json({"explain": text}) if options.json else print(text)
        return 0
    if processes.is_worker():
        processes.join()  # the parent has checked
    else:
        if cluster.process_index in (None, 0) and cluster.launcher is None:
            if config.out is None:
                check_new(name_of(config))
            else:
                check_output(Path(config.out), options.overwrite)
        check(config)
        if not cluster.alone:
            with output(config.out, name_of(config), overwrite=True) as directory:
                if config.out is None:
                    arguments = [*arguments, "--out", str(directory)]
                return processes.supervise(cluster, ["run", *arguments], directory)
    from ssddl_jax.cli.console import Progress, print_summary
    from ssddl_jax.running import runner

    with Progress(config, processes.is_leader()) as progress:
        result = runner.run(
            config, overwrite=options.overwrite, watch=progress.watch, profile=profile
        )
    if options.json and processes.is_leader():
        print_json(result.summary)
    elif processes.is_leader():
        print_summary(config, result)
    return 0


def transcript(arguments: list[str]) -> int:
    """`ssddl transcript`."""
    parser = Parser(
        prog="ssddl transcript",
        usage="ssddl transcript --out FILE.npz [options]",
        description="Writes all messages of one round, as only the simulator sees them, to an "
        ".npz file.",
    )
    parser.add_argument("--round", default="0", metavar="R", help="the round, counted from 0 [0]")
    parser.add_argument("--out", required=True, metavar="FILE.npz", help="file to write")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    json_flag(parser)
    add_config_flags(parser, hidden=["out"])
    options = parse(parser, arguments)
    round_ = whole("round", options.round)
    path, overwrite = options.out, options.overwrite
    del options.out, options.overwrite
    config = read_config(options)
    check_transcript_file(path, overwrite)
    check_shown(config, [round_])
    from ssddl_jax.planning.checks import check

    check(config)
    from ssddl_jax.simulation.digests import words_sha256
    from ssddl_jax.simulation.transcript import transcript as messages_of
    from ssddl_jax.simulation.transcript import write_transcript

    arrays = messages_of(config, round_)
    write_transcript(arrays, path)
    say(f"round {round_}: {len(arrays['group'])} messages of {arrays['encoded'].shape[1]} words")
    if options.json:
        shapes = {key: list(value.shape) for key, value in arrays.items()}
        digest = words_sha256(arrays["aggregate"])
        print_json(
            {"out": shown(path), "round": round_, "aggregate_sha256": digest, "arrays": shapes}
        )
    else:
        print(path)
    return 0


def data(arguments: list[str]) -> int:
    """`ssddl data`."""
    description = "Lists the datasets found on this machine, and how to get the others."
    parser = Parser(prog="ssddl data", description=description)
    json_flag(parser)
    options = parse(parser, arguments)
    from ssddl_jax.cli.console import print_table
    from ssddl_jax.data.places import list_datasets

    found = list_datasets()
    inputs = {entry.name: _ranges(entry) for entry in found}
    if options.json:
        entries = [{**entry._asdict(), "inputs": inputs[entry.name]} for entry in found]
        print_json({"datasets": entries})
    else:
        about = {name: f" ({values})" if values else "" for name, values in inputs.items()}
        lines = {entry.name: f"{entry.where or entry.how}{about[entry.name]}" for entry in found}
        print_table("datasets", lines)
    return 0


def _ranges(entry: "DatasetInfo") -> str | None:
    """The range of a dataset's inputs, or what is wrong with its file; None if it has none here."""
    from ssddl_jax.common.errors import DataError
    from ssddl_jax.data.datasets import load_dataset, ranges

    if entry.where is None or not Path(entry.where).exists():
        return None  # importing scikit-learn for its dataset would take seconds
    try:
        found = load_dataset(entry.name)
    except DataError as error:
        return str(error)
    return ranges(found.x_train, found.x_test)
