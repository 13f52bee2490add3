"""`ssddl compile`: the round compiled for devices that this machine lacks."""

import os
import sys

from ssddl_jax.cli.measuring import show
from ssddl_jax.cli.options import Parser, add_config_flags, json_flag, parse, read_config
from ssddl_jax.planning.requests import check_compiled, parse_target


def compile_(arguments: list[str]) -> int:
    """`ssddl compile`."""
    parser = Parser(
        prog="ssddl compile",
        description="Compiles the round ahead of time for devices that this machine lacks, and "
        "reports memory,\ncollectives and operations. Nothing runs; no time is measured.",
    )
    text = (
        "tpu:VERSION:SHAPE, such as tpu:v5e:16x16 (extra tpu); cuda:GPU[:COUNT], such as "
        "cuda:h100:8 (extra cuda); or cuda (StableHLO only)"
    )
    parser.add_argument("--target", default="tpu:v5e:2x2", metavar="NAME", help=text)
    json_flag(parser)
    add_config_flags(parser, hidden=["out", "devices"])
    options = parse(parser, arguments)
    config = read_config(options, devices="all")  # those of the target
    target = parse_target(options.target)
    check_compiled(config, target)
    from ssddl_jax.planning.checks import check

    check(config)
    _on_cpu()
    from ssddl_jax.measure.compile_ahead import compile_report

    return show(f"compiled for {options.target}", compile_report(config, target), options)


def _on_cpu() -> None:
    """Restricts JAX to the CPU unless the user chose a platform: the compilers need no device.

    JAX reads JAX_PLATFORMS at import. Where a Python program that has imported it calls `main`, the
    setting in `jax.config` counts instead, until JAX first looks for devices.
    """
    if "jax" not in sys.modules:
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
        return
    import jax

    if not getattr(jax.config, "jax_platforms", None):
        jax.config.update("jax_platforms", "cpu")
