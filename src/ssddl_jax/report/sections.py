"""The report's tables: bytes by role, network time, config, environment, rerunning, citing."""

import shlex
from collections.abc import Sequence
from dataclasses import fields, replace
from statistics import fmean, median
from typing import Any

from ssddl_jax.config.config import Config
from ssddl_jax.config.protocols import protocol_of
from ssddl_jax.planning.key_agreement import key_agreement
from ssddl_jax.planning.network import NETWORKS, messages
from ssddl_jax.report.files import RoundRow, Run
from ssddl_jax.report.html import Html, code, paragraph, plural, short, size, table, text

_WORD = 4  # bytes
_FIELDS = {"local": "local_optimizer", "server": "server_optimizer"}  # replaced by these parts
_LINE = 40  # characters of a command; a longer one is split into a line per flag


def key_figures(run: Run) -> Html:
    """The key figures at the top of the page."""
    summary, plain = run.summary, not run.config.sums_securely
    exact, rounds = summary.get("rounds_exact"), int(summary["rounds"])
    accuracy = summary.get("test_accuracy")
    figures = [
        ("test accuracy", text(accuracy)),
        (
            "rounds exact",
            text("no sums to check" if plain or exact is None else f"{exact} of {rounds}"),
        ),
        ("void rounds", text(summary.get("rounds_void"))),
        ("rounds shared again", text(summary.get("rounds_retried"))),
        ("updates left out (not finite)", text(summary.get("nonfinite"))),
        ("clipped coordinates", text(summary.get("clipped"))),
        ("participants", text(summary["participants"])),
        ("members per round", text(run.size)),
        ("parameters", text(summary["parameters"])),
    ]
    cards = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>\n" for name, value in figures)
    digest = text(summary["run_sha256"])
    return Html(
        f'<dl class="cards">\n{cards}</dl>\n'
        f'<p class="digest"><strong>run_sha256</strong> <code>{digest}</code></p>\n'
    )


def what_it_is(run: Run) -> str:
    """A sentence on what was run."""
    config, protocol, k = run.config, protocol_of(run.config), int(run.summary["neighbours"])
    partners = "all others" if k >= run.size - 1 else f"{k:,} others"
    how = protocol.sentence.format(name=protocol.name, partners=partners)
    model = run.summary.get("model", config.model) if "model" in run.given else config.model
    data = "data given from Python" if "data" in run.given else config.data
    return (
        f"{config.participants:,} participants train {model} on {data} through "
        f"{how}: {plural(len(run.rows), 'round')} with {run.size:,} members each."
    )


def peers_bytes(run: Run, row: RoundRow) -> int:
    """Bytes of shares from member to member: all that members receive except the parameters."""
    if not protocol_of(run.config).pair_shares:  # a rival's messages all go through the server
        return 0
    return row.down - _WORD * int(run.summary["parameters"]) * row.members


def bytes_by_role(run: Run) -> Html:
    """A table of how much each role sends and receives."""
    config, rows = run.config, run.rows
    peers = [peers_bytes(run, row) for row in rows]
    received = [row.up - p for row, p in zip(rows, peers, strict=True)]
    sent = [row.down - p for row, p in zip(rows, peers, strict=True)]
    members = sum(row.members for row in rows)

    def line(who: str, values: Sequence[int], each: bool = False) -> tuple[Any, ...]:
        total = sum(values)
        mean = total / (members if each else len(rows))
        return who, f"{mean:,.0f}", size(total)

    lines = [
        line("a member, sent", [row.up for row in rows], each=True),
        line("a member, received", [row.down for row in rows], each=True),
        line("the server, received from all", received),
        line("the server, sent to all", sent),
        line("members to members, in total", peers),
    ]
    counted = (
        "From the metrics: means over rounds, and for a member also over all members, including "
        f"those that vanished. Counted: {protocol_of(config).counted}. Not counted: encryption "
        "overhead, headers, messages about who vanished."
    )
    return Html(
        table(
            f"Bytes of {plural(len(rows), 'round')}",
            ["role", "mean per round", "whole run, all in the role"],
            lines,
            numbers=(1, 2),
        )
        + paragraph(counted, _travel_words(config), _keys(run))
    )


def _keys(run: Run) -> str:
    """The bytes of key agreement: per key lifetime, and per round."""
    config, done = run.config, len(run.rows)
    k, dimension = int(run.summary["neighbours"]), int(run.summary["parameters"])
    keys = key_agreement(config, dimension, k, done)
    if not keys.up + keys.down:
        return ""
    spread = keys.a_round(config.participants, run.size)
    each = f"{keys.up:,} bytes up and {keys.down:,} down for each"
    if keys.counted:
        return f"Keys live for one round and take {each} member, included in the bytes above."
    return (
        f"Keys are agreed once and take {each} participant, not included in the bytes above. Over "
        f"{plural(done, 'round')} this is {spread:,.0f} bytes per member and round."
    )


def _travel_words(config: Config) -> str:
    if not protocol_of(config).pair_shares:
        return ""
    if config.rule_in_force.exchanges:
        return f"Rule {config.dropout_rule}: every member sends every other member a share."
    if config.transport == "explicit":
        return "Transport explicit: the dealer of a share sends it to its holder."
    return "Transport seeded: both ends derive a share, so no share travels."


def messages_of(config: Config, row: RoundRow) -> int:
    """Sequential messages of a member's round."""
    return messages(config, lost=row.alive < row.members - row.nonfinite, void=row.void)


def round_time(run: Run) -> Html:
    """The measured computing time and the calculated network time of a round."""
    rows, config = run.rows, run.config
    compute = median(row.seconds for row in rows)
    lines = []
    for network in NETWORKS:
        seconds = median(
            network.seconds(row.up / row.members, row.down / row.members, messages_of(config, row))
            for row in rows
        )
        lines.append(
            (
                network.name,
                short(seconds),
                f"{network.up_mbit:,g} / {network.down_mbit:,g}",
                f"{network.latency_ms:g}",
            )
        )
    most = max(messages_of(config, row) for row in rows)
    up = fmean(row.up / row.members for row in rows)
    down = fmean(row.down / row.members for row in rows)
    return Html(
        paragraph(
            Html(f"<strong>Measured: {text(compute)} s</strong> of computing per round (median)."),
            f"This machine simulates all {run.size:,} members; a member's own device would do "
            "only its own part of this work.",
        )
        + table(
            "Calculated: network time of a member's round",
            ["link", "seconds", "Mbit/s up / down", "latency, ms one way"],
            lines,
            numbers=(1, 2, 3),
        )
        + paragraph(
            "These medians are calculated from bytes, never measured: bits divided by the link's "
            f"rate, plus its latency for each of up to {most} sequential messages; about "
            f"{size(up)} up and {size(down)} down. The server's link is assumed to be fast enough. "
            "The rates are our own round figures for three classes of links."
        )
    )


def config_table(run: Run) -> Html:
    """Every field, with its default if the value differs."""
    lines = []
    for field in fields(Config):
        value = getattr(run.config, field.name)
        other = "" if value == field.default else _plain_text(field.default)
        lines.append((field.name, _plain_text(value), other))
    return table("All fields", ["field", "value", "default, if different"], lines)


def _plain_text(value: Any) -> str:
    return "none" if value is None else str(value)


def environment_table(run: Run) -> Html:
    """The device, the versions, and what the run measured of itself."""
    found, summary = run.environment, run.summary
    lines: list[tuple[str, Any]] = [("device", found.get("device"))]
    lines += [(str(name), value) for name, value in dict(found.get("versions", {})).items()]
    lines += [
        ("members side by side (tile_size)", summary.get("tile_size")),
        ("compilations of the round (0: kept from an earlier run)", summary.get("compilations")),
        ("seconds compiling", summary.get("compile_seconds")),
        ("seconds in total", summary.get("seconds_total")),
        ("peak memory, MB", summary.get("peak_memory_mb")),
        ("fraction_bits", summary.get("fraction_bits")),
        ("rounding", summary.get("rounding")),
        ("largest encoding error of the mean, per coordinate", summary.get("error_bound")),
    ]
    return table("Hardware, versions and measurements", ["what", "value"], lines)


def rerun(run: Run) -> Html:
    """The commands that repeat this run and verify it."""
    config, flags = run.config, []
    threads = run.environment.get("threads")
    if config.threads == "auto" and type(threads) is int:
        config = replace(config, threads=threads)  # part of the numerical recipe
    replaced = {"out", *(_FIELDS.get(name, name) for name in run.given)}
    for field in fields(Config):
        value = getattr(config, field.name)
        if value != field.default and field.name not in replaced:
            flag, given = f"--{field.name.replace('_', '-')}", shlex.quote(str(value))
            flags.append(f"{flag}={given}" if str(value)[:1] == "-" else f"{flag} {given}")
    command = " ".join(["ssddl run", *flags])
    if len(command) > _LINE:
        command = " \\\n    ".join(["ssddl run", *flags])
    lines = f"{command}\nssddl verify {shlex.quote(run.out)}"
    note = "The first writes a new run directory; the second replays this one and compares hashes."
    if run.config.tile_size == "auto":
        note += (
            f" tile_size auto was {run.summary.get('tile_size')} here. On another kind of device, "
            "set it to this value: it is part of the numerical recipe."
        )
    if run.given:
        model = run.summary.get("model", config.model)
        parts = [f"model ({model})" if name == "model" else name for name in run.given]
        note += (
            f" Passed from Python, so the command lacks them: {', '.join(parts)}. Pass them again, "
            "to sd.run and sd.verify."
        )
    return Html(code(lines) + paragraph(note))


def cite(run: Run) -> Html:
    """How to cite the paper and this software."""
    version = dict(run.environment.get("versions", {})).get("ssddl-jax", "unknown")
    doi = "10.1016/j.ins.2020.03.074"
    return Html(
        paragraph(
            "The protocol: Jia Duan, Jiantao Zhou, Yuanman Li. Privacy-Preserving distributed deep "
            "learning based on secret sharing. Information Sciences 527 (2020) 108-127.",
            Html(f'<a href="https://doi.org/{doi}">doi {doi}</a>.'),
            "The software: ssddl_jax, the version below.",
        )
        + code(_BIBTEX.replace("VERSION", str(version)))
    )


_BIBTEX = """@article{duan2020ssddl,
  title   = {Privacy-Preserving distributed deep learning based on secret sharing},
  author  = {Duan, Jia and Zhou, Jiantao and Li, Yuanman},
  journal = {Information Sciences},
  volume  = {527},
  pages   = {108--127},
  year    = {2020},
  doi     = {10.1016/j.ins.2020.03.074}
}

@software{ssddl_jax,
  title   = {ssddl_jax: a vectorised simulator of {SSDDL} in {JAX}},
  author  = {{The ssddl_jax authors}},
  version = {VERSION}
}"""
