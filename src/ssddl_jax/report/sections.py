"""The report's tables: bytes by role, time on networks, config, environment, how to rerun, cite."""

import shlex
from collections.abc import Sequence
from dataclasses import fields
from statistics import fmean, median
from typing import Any

from ssddl_jax.config.config import Config
from ssddl_jax.config.protocols import protocol_of
from ssddl_jax.planning.key_agreement import key_agreement
from ssddl_jax.planning.network import NETWORKS, messages
from ssddl_jax.report.files import RoundRow, Run
from ssddl_jax.report.html import Html, code, paragraph, plural, short, size, table, text

_WORD = 4  # bytes
_LINE = 40  # characters of a command; a longer one has a line for each flag


def key_figures(run: Run) -> Html:
    """The figures at the top."""
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
        ("members a round", text(run.size)),
        ("parameters", text(summary["parameters"])),
    ]
    cards = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>\n" for name, value in figures)
    digest = text(summary["run_sha256"])
    return Html(
        f'<dl class="cards">\n{cards}</dl>\n'
        f'<p class="digest"><strong>run_sha256</strong> <code>{digest}</code></p>\n'
    )


def what_it_is(run: Run) -> str:
    """A line of what was run."""
    config, protocol, k = run.config, protocol_of(run.config), int(run.summary["neighbours"])
    partners = "all others" if k >= run.size - 1 else f"{k:,} others"
    how = protocol.sentence.format(name=protocol.name, partners=partners)
    return (
        f"{config.participants:,} participants train {config.model} on {config.data} through "
        f"{how}; {run.size:,} of them in a round, {plural(len(run.rows), 'round')}."
    )


def peers_bytes(run: Run, row: RoundRow) -> int:
    """Bytes of shares from member to member: what all members receive beyond the parameters."""
    if not protocol_of(run.config).pair_shares:  # all that a rival moves goes through the server
        return 0
    return row.down - _WORD * int(run.summary["parameters"]) * row.members


def bytes_by_role(run: Run) -> Html:
    """Who sends and receives how much."""
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
        line("members to members, all together", peers),
    ]
    counted = (
        "From the metrics: means over rounds, a member's over all members, those that vanished "
        f"included. Counted: {protocol_of(config).counted}. Not counted: what encryption adds, "
        "headers, messages of who vanished."
    )
    return Html(
        table(
            f"Bytes of {plural(len(rows), 'round')}",
            ["role", "a round, mean", "whole run, all of them"],
            lines,
            numbers=(1, 2),
        )
        + paragraph(counted, _travel_words(config), _keys(run))
    )


def _keys(run: Run) -> str:
    """Key agreement: in a key's life, and spread over its rounds."""
    config, done = run.config, len(run.rows)
    k, dimension = int(run.summary["neighbours"]), int(run.summary["parameters"])
    keys = key_agreement(config, dimension, k, done)
    if not keys.up + keys.down:
        return ""
    spread = keys.a_round(config.participants, run.size)
    each = f"{keys.up:,} bytes up and {keys.down:,} down for each"
    if keys.counted:
        return f"Keys live one round, {each} member: part of the bytes above."
    return (
        f"Keys are agreed once, {each} participant, not in the bytes above: "
        f"{spread:,.0f} bytes a member and round over {plural(done, 'round')}."
    )


def _travel_words(config: Config) -> str:
    if not protocol_of(config).pair_shares:
        return ""
    if config.rule_in_force.exchanges:
        return f"Rule {config.dropout_rule}: every member sends every other its share."
    if config.transport == "explicit":
        return "Transport explicit: the dealer of a share sends it to its holder."
    return "Transport seeded: both ends derive a share, so no share travels."


def messages_of(config: Config, row: RoundRow) -> int:
    """Messages of a member's round that wait for one another."""
    return messages(config, lost=row.alive < row.members - row.nonfinite, void=row.void)


def round_time(run: Run) -> Html:
    """Measured seconds of computing, computed seconds of network."""
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
            Html(f"<strong>Measured: {text(compute)} s</strong> of computing a round (median)."),
            f"This machine simulates all {run.size:,} members; a member's own device would "
            "compute only its share of it.",
        )
        + table(
            "Computed: network of a member's round",
            ["link", "seconds", "Mbit/s up / down", "latency, ms one way"],
            lines,
            numbers=(1, 2, 3),
        )
        + paragraph(
            "Medians, computed from bytes, never measured: 8 bits a byte over the link's rate, "
            f"plus its latency for each of up to {most} messages that wait for one another; about "
            f"{size(up)} up and {size(down)} down. The server's link is taken to be wide enough. "
            "The links are round figures of ours for three classes."
        )
    )


def config_table(run: Run) -> Html:
    """Every field, and what it stands at by default."""
    lines = []
    for field in fields(Config):
        value = getattr(run.config, field.name)
        other = "" if value == field.default else _plain_text(field.default)
        lines.append((field.name, _plain_text(value), other))
    return table("Every field", ["field", "value", "default, if another"], lines)


def _plain_text(value: Any) -> str:
    return "none" if value is None else str(value)


def environment_table(run: Run) -> Html:
    """What computed."""
    found, summary = run.environment, run.summary
    lines: list[tuple[str, Any]] = [("device", found.get("device"))]
    lines += [(str(name), value) for name, value in dict(found.get("versions", {})).items()]
    lines += [
        ("members side by side (tile_size)", summary.get("tile_size")),
        ("compilations of the round", summary.get("compilations")),
        ("seconds compiling", summary.get("compile_seconds")),
        ("seconds in all", summary.get("seconds_total")),
        ("peak memory, MB", summary.get("peak_memory_mb")),
        ("fraction_bits", summary.get("fraction_bits")),
        ("error of the mean, at most, a coordinate", summary.get("error_bound")),
    ]
    return table("What computed, and what it measured of itself", ["what", "value"], lines)


def rerun(run: Run) -> Html:
    """The commands that make this run again, and check it."""
    flags = []
    for field in fields(Config):
        value = getattr(run.config, field.name)
        if value != field.default and field.name != "out":
            flag, given = f"--{field.name.replace('_', '-')}", shlex.quote(str(value))
            flags.append(f"{flag}={given}" if str(value)[:1] == "-" else f"{flag} {given}")
    command = " ".join(["ssddl run", *flags])
    if len(command) > _LINE:
        command = " \\\n    ".join(["ssddl run", *flags])
    lines = f"{command}\nssddl verify {shlex.quote(run.out)}"
    told = "The first writes a new run directory; the second replays this one and compares hashes."
    if run.config.tile_size == "auto":
        told += (
            f" tile_size auto was {run.summary.get('tile_size')} here; on another kind of device "
            "give it, as it is part of the numerical recipe."
        )
    model = run.summary.get("model", run.config.model)
    if model != run.config.model:
        told += f" The run's model ({model}) was handed over in Python: the command lacks it."
    return Html(code(lines) + paragraph(told))


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
