"""A comparison as Markdown, for `compare.md` and the terminal."""

from typing import Any

from ssddl_jax.common.text import literal

_GIVES = (
    "| protocol | accuracy | exact | up kB | down kB | keys kB | keys kB per round | messages "
    "| dropouts tolerated |"
)
_WORK = (
    "| protocol | member s | of it training s | server s | in sequence | round s "
    "| PRG words, member + server | multiplications |"
)
_LEAKS = "| protocol | the server learns | a participant learns | colluders |"


def markdown(result: dict[str, Any]) -> str:
    """The whole comparison as Markdown."""
    made = [row for row in result["rows"] if "left_out" not in row]
    parameters = f", {made[0]['parameters']:,} parameters" if made else ""
    lines = [
        f"{result['participants']:,} participants, {result['group_size']:,} per round, "
        f"{result['rounds']} rounds; {literal(result['model'])}{parameters} on "
        f"{literal(result['data'])} "
        f"({result['partition']}); dropout {result['dropout']:g}; "
        f"accuracy: mean of {result['seeds']} seeds, +- half the width of its 95 % interval.",
        "",
        _GIVES,
        "|---|---:|---|---:|---:|---:|---:|---:|---|",
        *(_gives(row) for row in result["rows"]),
        "",
        _WORK,
        "|---|" + "---:|" * 7,
        *(_work(row) for row in made),
        "",
        _LEAKS,
        "|---|---|---|---|",
        *(_leak(row) for row in made),
        "",
        *_reading(made),
        *(_lens(found) for found in result["lens"]),
        *_missing(result),
        f"- {literal(result['device'])}, jax {result['versions']['jax']}; "
        f"{result['seconds']:.0f} s.",
    ]
    return "\n".join(lines) + "\n"


def _missing(result: dict[str, Any]) -> list[str]:
    """A line if the comparison has not finished, or was interrupted."""
    count, planned = len(result["rows"]), result["rows_planned"]
    return [f"- {count} of {planned} rows: the others have not run."] if count < planned else []


def _gives(row: dict[str, Any]) -> str:
    """Accuracy and network costs of a row."""
    if "left_out" in row:
        return f"| {row['name']} | left out: {literal(row['left_out'])} | | | | | | | |"
    half, keys = row["half_width_95"], row["key_agreement"]
    inside = 1 if keys["counted"] else 0
    cells = [
        row["name"],
        f"{row['accuracy']:.4f}" + ("" if half is None else f" +- {half:.4f}"),
        _exact(row),
        f"{(row['bytes_up'] - inside * keys['up']) / 1e3:,.1f}",
        f"{(row['bytes_down'] - inside * keys['down']) / 1e3:,.1f}",
        f"{(keys['up'] + keys['down']) / 1e3:,.1f}",
        f"{keys['bytes_a_round'] / 1e3:,.1f}",
        _mean(row["exchanges"]),
        row["survives"],
    ]
    return f"| {' | '.join(cells)} |"


def _work(row: dict[str, Any]) -> str:
    """Computation of a row, by role."""
    member, server = row["participant"], row["server"]
    words = [count(role["prg_words"]) for role in (member, server)]
    operations = member["operations"] + server["operations"]
    cells = [
        row["name"],
        seconds(member["seconds"]),
        seconds(member["train_seconds"]),
        seconds(server["seconds"]),
        f"{row['serial_depth']:,}",
        seconds(row["seconds_a_round"]),
        "-" if words == ["0", "0"] else " + ".join(words),
        count(operations) if operations else "-",
    ]
    return f"| {' | '.join(cells)} |"


def _exact(row: dict[str, Any]) -> str:
    if row["rounds_exact"] is not None:
        return f"{row['rounds_exact']:,} of {row['rounds_in_all']:,}"
    if row["ciphertexts_exact"] is not None:
        return "slice" if row["ciphertexts_exact"] else "NO"
    return "-"


def _leak(row: dict[str, Any]) -> str:
    most = row["max_colluders"]
    colluders = "" if most is None else f"the same with up to {most}"
    if failure := row.get("max_colluders_failure"):
        colluders += f", fixed before the graph is drawn; fails with probability {failure:.1e}"
    return f"| {row['name']} | {row['server_learns']} | {row['participant_learns']} | {colluders} |"


def _reading(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "- Seconds: measured computation of one round on this machine, for one member and for the "
        "server. `round s` = in sequence x member + server, without the network; Phong's protocols "
        "add one member's new encryption of the model. In central and standalone no participant "
        "waits for another. Training is timed once, for one member alone, and is the same in all "
        "rows. If members vanish, a row of a secure sum gives the mean over the run's rounds; "
        "other rows count all members.",
        "- `multiplications`: in a field for Shamir shares, modulo q for LWE, of big numbers for "
        "Paillier, where one exponentiation takes 1.5 per bit of the exponent.",
        "- Bytes: per member and round, without keys. `keys kB`: per participant over the lifetime "
        "of its keys, which is one round for SecAgg and the whole run for others. `keys kB per "
        "round`: the same, spread over the rounds that a member takes part in. `messages`: how "
        "many follow one another in a round. `exact`: rounds (of all seeds) whose sum was correct "
        "word for word; slice: ciphertexts of a slice decrypted to the exact sum.",
    ]
    if any(row["serial_depth"] > 1 for row in rows):
        lines.append(
            "- `in sequence`: how many members train one after another, each from the weights that "
            "the previous one left; a round then takes one step of SGD per member. If it is 1, "
            "members train in parallel and a round takes one averaged step. Accuracies after equal "
            "numbers of rounds are not corrected for this."
        )
    once = [f"{row['name']} {row['bytes_once'] / 1e6:,.1f} MB" for row in rows if row["bytes_once"]]
    if once:
        lines.append(
            f"- Sent once by all participants together, not in the table: {', '.join(once)}."
        )
    for row in rows:
        if row["rounds_void"]:
            lines.append(
                f"- {row['name']}: {row['rounds_void']:,} of {row['rounds_in_all']:,} rounds were "
                "void: fewer members remained than it needs, so they changed nothing."
            )
        if row["updates_left_out"]:
            lines.append(
                f"- {row['name']}: {row['updates_left_out']:,} updates were left out, over all "
                "seeds and rounds: they held NaN or infinities."
            )
        lines += [f"- {row['name']}: {note}." for note in row["notes"]]
    return lines


def _lens(found: dict[str, Any]) -> str:
    whose = f"{found['determined']} of {found['honest']} honest updates"
    return (
        f"- Privacy lens, ssddl, {found['members']} members: the server colluding with "
        f"{found['colluders']} of them determines {whose}."
    )


def _mean(value: float) -> str:
    """A count, or its mean over rounds."""
    return f"{value:,.2f}".removesuffix(".00")


def seconds(value: float) -> str:
    """Seconds to three significant digits; "-" for none."""
    return "-" if not value else f"{value:.3g}" if value >= 1e-3 else f"{value:.1e}"


def count(value: int) -> str:
    """A number to three significant digits, with k, M or G."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return str(value)
