"""The command `ssddl plan`."""

from ssddl_jax.cli.options import (
    Parser,
    add_config_flags,
    json_flag,
    parse,
    print_json,
    read_config,
    say,
)


def plan(arguments: list[str]) -> int:
    """`ssddl plan`."""
    parser = Parser(
        prog="ssddl plan",
        description="Reports what a run needs and which failures it tolerates, without training: "
        "headroom, bytes,\nPRG words, memory, time, collusion, dropouts. Refuses what cannot work.",
    )
    add = parser.add_argument
    add("--no-calibration", action="store_true", help="do not time any rounds, so predict no time")
    add("--network", metavar="UP,DOWN,LATENCY", help="a link of your own beside the three "
        "standard ones: Mbit/s, Mbit/s, ms one way")  # fmt: skip
    json_flag(parser)
    add_config_flags(parser)
    options = parse(parser, arguments)
    config = read_config(options)
    from ssddl_jax.planning.checks import check
    from ssddl_jax.planning.network import NETWORKS, user_network

    own = () if options.network is None else (user_network(options.network),)
    check(config)
    from ssddl_jax.planning.report import plan_report

    report = plan_report(config, (*NETWORKS, *own))
    if not options.no_calibration:
        from ssddl_jax.measure.calibration import calibrated

        report = calibrated(config, report, say)
    if options.json:
        print_json(report)
    else:
        from ssddl_jax.cli.plan_table import print_plan

        print_plan(report)
    return 0
