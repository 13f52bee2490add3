"""The table that `ssddl plan` prints, in sections, and the sentences after it."""

from typing import Any

from ssddl_jax.cli.console import megabytes, show, what_and_value
from ssddl_jax.common.text import printable
from ssddl_jax.config.protocols import PROTOCOLS
from ssddl_jax.config.rules import RULES

Lines = list[tuple[str, str]]


def print_plan(report: dict[str, Any]) -> None:
    """Prints the plan on stdout."""
    table = what_and_value("plan")
    for rows in (_sharing(report), _numbers(report), _bytes(report), _cost(report)):
        for row in rows:
            table.add_row(*(printable(cell) for cell in row))
        table.add_section()
    show(table, *report["tolerance"], *(f"note: {note}" for note in report["notes"]))


def _sharing(report: dict[str, Any]) -> Lines:
    size, neighbours = report["group_size"], report["neighbours"]
    rows = [
        ("participants", f"{report['participants']:,}, {size:,} per round"),
        ("model", f"{report['model']}, {report['parameters']:,} parameters"),
    ]
    protocol = PROTOCOLS[report["protocol"]]
    if not protocol.secure:
        return [*rows, ("sharing", "none"), ("protocol", protocol.name)]
    graph = "complete graph" if neighbours >= size - 1 else f"{neighbours} partners each"
    how = f"engine {report['engine']}" if protocol.pair_shares else protocol.name
    rows.append(("sharing", f"{how}, {graph}, {report['prg']}"))
    if RULES[report["dropout_rule"]].needs_threshold:
        rows.append(("threshold t (shares needed)", f"{report['threshold']:,}"))
    failure = report["max_colluders_failure"]
    return [
        *rows,
        ("colluding members tolerated", f"up to {report['max_colluders']:,} with the server"),
        *([("  except with probability, per run", f"{failure:.1e}")] if failure else []),
        ("uploads needed", f"{report['least_alive']:,} of {size:,}"),
    ]


def _numbers(report: dict[str, Any]) -> Lines:
    if not PROTOCOLS[report["protocol"]].secure:
        return []
    return [
        ("fraction bits", str(report["fraction_bits"])),
        (f"rounding {report['rounding']}", _dead_zone(report)),
        ("headroom left, bits", f"{report['headroom_bits']:.2f}"),
        ("encoding error of the mean", f"at most {report['error_bound']:.2g} per coordinate"),
        ("PRG words per attempt, all parties", f"{report['share_words']:,}"),
    ]


def _dead_zone(report: dict[str, Any]) -> str:
    """What becomes of coordinates too small for the fraction bits, and how many there are."""
    share = report["dead_zone_share"]
    which = f"coordinates up to {report['dead_zone']:.2g}"
    if share is not None:
        which += f" ({share:.1%} of those not zero, in a first update)"
    if report["rounding"] == "nearest":
        return f"{which} become zero"
    return f"{which} keep their mean; to nearest, they would become zero"


def _bytes(report: dict[str, Any]) -> Lines:
    up, down = report["bytes_up_per_participant"], report["bytes_down_per_participant"]
    into, out = report["bytes_server_in"], report["bytes_server_out"]
    rows = [
        ("bytes per member and round", f"{megabytes(up)} up, {megabytes(down)} down"),
        ("bytes of the server per round", f"{megabytes(into)} in, {megabytes(out)} out"),
        ("bytes on all links per round", megabytes(report["bytes_total"])),
    ]
    keys = report["key_agreement"]
    if keys["up"] + keys["down"]:
        once = f"{keys['up']:,} B up, {keys['down']:,} B down"
        each = f"{keys['bytes_a_round']:,.0f} B"
        life = f"once; {each} per member and round"
        if keys["counted"]:
            life = "every round, included above"
        rows.append(("key agreement per participant", f"{once}, {life}"))
    for name, seconds in report["network_seconds"].items():
        up_rate, down_rate, latency = report["networks"][name]
        link = f"{up_rate:,g} / {down_rate:,g} Mbit/s, {latency:g} ms"
        rows.append((f"network seconds, {name}", f"{seconds:,.3g} ({link})"))
    return rows


def _cost(report: dict[str, Any]) -> Lines:
    rows = [("memory", f"about {report['memory_mb']:,.0f} MB")]
    for device, held in report["memory_by_device"].items():
        rows.append((f"  on {device}", f"{held:,.0f} MB"))
    seconds = report["seconds_per_round"]
    if seconds is None:
        return [*rows, ("seconds per round, simulated", "not calibrated")]
    whole = f"{seconds * report['rounds']:,.1f} for {report['rounds']}"
    return [*rows, ("seconds per round, simulated", f"{seconds:,.3g}, {whole}")]
