"""Commands on run directories: resume, verify, report."""

from pathlib import Path

from ssddl_jax.cli.options import (
    Parser,
    add_cluster_flags,
    json_flag,
    parse,
    print_json,
    read_cluster,
    say,
)
from ssddl_jax.common.text import shown
from ssddl_jax.running import processes
from ssddl_jax.running.host_devices import start_pool


def resume(arguments: list[str]) -> int:
    """`ssddl resume`."""
    parser = _parser("resume", "Continues a run from its last good checkpoint.")
    _trust_flag(parser)
    add_cluster_flags(parser)
    options = parse(parser, arguments)
    cluster = read_cluster(options)
    from ssddl_jax.running.directory import read_config, read_summary

    directory = Path(options.directory)
    config, _ = read_config(directory)
    unfinished = read_summary(directory, config) is None
    if unfinished:  # a finished run is only read
        start_pool(config, fill=True)
    if processes.is_worker():
        processes.join()
    elif unfinished and not cluster.alone:
        return processes.supervise(cluster, ["resume", *arguments], directory)
    from ssddl_jax.cli.console import Progress, print_summary
    from ssddl_jax.running import runner

    with Progress(config, processes.is_leader()) as progress:
        result = runner.resume(directory, trust=options.trust, watch=progress.watch)
    if processes.is_leader():
        if options.json:
            print_json(result.summary)
        else:
            print_summary(config, result)
    return 0


def verify(arguments: list[str]) -> int:
    """`ssddl verify`."""
    parser = _parser("verify", "Replays a finished run and compares hashes.")
    _trust_flag(parser)
    options = parse(parser, arguments)
    from ssddl_jax.running.directory import read_config

    directory = Path(options.directory)
    config, _ = read_config(directory)
    start_pool(config, fill=True)
    from ssddl_jax.cli.console import Progress
    from ssddl_jax.running.verify import verify as replay

    with Progress(config) as progress:
        progress.show()
        found = replay(directory, trust=options.trust, on_round=progress.round)
    if options.json:
        print_json(found._asdict())
    elif found.equal:
        print(f"equal: {found.rounds} rounds, run_sha256 {found.run_sha256}")
    if not found.equal:
        say(f"error: differs at {found.first_difference}")
        for line in found.may_explain or ["device, versions and data match the record"]:
            say(f"  {line}")
    return 0 if found.equal else 1


def report(arguments: list[str]) -> int:
    """`ssddl report`."""
    options = parse(_parser("report", "Rewrites the report.html of a finished run."), arguments)
    from ssddl_jax.report.page import write_report

    path = write_report(Path(options.directory))
    if options.json:
        print_json({"report": shown(path), "bytes": path.stat().st_size})
    else:
        print(path)
    return 0


def _trust_flag(parser: Parser) -> None:
    text = "import the code that config.toml names (model, prg, optimizers, sinks): it will run"
    parser.add_argument("--trust", action="store_true", help=text)


def _parser(command: str, description: str) -> Parser:
    usage = f"ssddl {command} DIR [options]"
    parser = Parser(prog=f"ssddl {command}", usage=usage, description=description)
    parser.add_argument("directory", metavar="DIR", help="a run directory")
    json_flag(parser)
    return parser
