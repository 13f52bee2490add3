"""Who shared with whom: the graph of one round, and heat maps, as SVG pictures.

The plain Python reference redraws the graph from the run's public randomness; no secret word is
made.
"""

from collections.abc import Callable
from decimal import Decimal
from math import cos, pi, sin
from typing import NamedTuple

import numpy as np

from ssddl_jax.config.config import Config
from ssddl_jax.config.protocols import protocol_of
from ssddl_jax.reference.graph import neighbours_of
from ssddl_jax.reference.randomness import public_key, public_words, tag, vanished_slots
from ssddl_jax.reference.settings import Settings
from ssddl_jax.report.curves import svg
from ssddl_jax.report.files import Drawn, Run
from ssddl_jax.report.html import Html, figure, paragraph, plural, short, size

_CIRCLE = 40  # members up to which the graph is drawn as a circle
_BINS = 40  # of ids, along each side of the heat map of larger groups
_LEVELS = 8


class Graph(NamedTuple):
    """The final attempt of a round: who took part, who vanished."""

    round: int
    attempt: int
    group: list[int]  # ids in slot order
    members: list[int]  # slots that shared in the final attempt
    vanished: set[int]  # slots
    neighbours: int  # k


def sharing_graph(run: Run, drawn: Drawn) -> Graph:
    """The graph of the drawn round."""
    config, row = run.config, drawn.row
    vanished: set[int] = set()
    if config.dropout > 0:
        rate = Decimal(repr(config.dropout))
        vanished = vanished_slots(public_key(config.seed), row.round, row.members, rate)
    slots = range(row.members)
    again = config.rule_in_force.retries  # without those who vanished
    stay = [slot for slot in slots if not (again and slot in vanished)]
    return Graph(
        row.round, row.attempt, drawn.group, stay, vanished, int(run.summary["neighbours"])
    )


def partners(config_seed: int, graph: Graph) -> list[list[int]]:
    """The slots of each slot's partners."""
    settings = Settings(seed=config_seed, clip=1.0, fraction_bits=0, neighbours=graph.neighbours)
    public = public_key(config_seed)
    return neighbours_of(
        settings, public, graph.round, graph.attempt, graph.members, len(graph.group)
    )


def share_counts(seed: int, graph: Graph, participants: int, bins: int, paired: bool) -> np.ndarray:
    """Shares from dealers (rows) to holders (columns), by bins of ids; i64 [bins, bins].

    Counts the graph of `partners` without listing it, because groups may be large.
    """
    ids = np.asarray(graph.group, np.int64)
    members = ids[graph.members]
    if graph.neighbours >= len(members) - 1:
        here = np.bincount(members * bins // participants, minlength=bins)
        counts = np.outer(here, here) - np.diag(here)
        return np.triu(counts, 1) + np.diag(np.diag(counts) // 2) if paired else counts
    words = public_words(
        public_key(seed), (graph.round, graph.attempt, tag(b"GRPH")), len(graph.group)
    )
    ring = ids[sorted(graph.members, key=words.__getitem__)]
    counts = np.zeros(bins * bins, np.int64)
    for distance in range(1, graph.neighbours // 2 + 1):
        ahead = np.roll(ring, -distance)
        low, high = (f(ring, ahead) * bins // participants for f in (np.minimum, np.maximum))
        counts += np.bincount(low * bins + high, minlength=bins * bins)
        if not paired:
            counts += np.bincount(high * bins + low, minlength=bins * bins)
    return counts.reshape(bins, bins)


def sharing(run: Run) -> Html:
    """The pictures of this section, or the reason why there are none."""
    config = run.config
    picture, note = _picture(run), ""
    heat = heat_map(
        run.heat,
        "Traffic of the participants",
        f"Across: rounds 0 to {len(run.rows) - 1:,}. Down: participants by id, 0 at the top. "
        "A cell's shade is the mean number of bytes, up and down together, through the links of "
        "its participants in its rounds. From the metrics; a round's bytes are divided evenly "
        "among its members, including those that vanished.",
        size,
    )
    if protocol_of(config).pair_shares and config.engine != "ideal" and run.drawn is not None:
        what = "group" if run.size < config.participants else "graph"
        note = paragraph(
            "Who shares with whom follows from public randomness: the report redraws it from the "
            f"seed in config.toml. The picture shows one round; every round draws a new {what}."
        )
    return Html(f'{note}<div class="grid wide">\n{picture}{heat}</div>\n')


def _picture(run: Run) -> str:
    config = run.config
    if not protocol_of(config).pair_shares:
        return paragraph(
            f"Protocol {config.protocol} makes no SSDDL pair shares, so there is no picture of who "
            "shared with whom."
        )
    if config.engine == "ideal":
        return paragraph(
            "Engine ideal draws the uploads from their joint distribution. This run made no pair "
            "shares, so there is no picture of who shared with whom."
        )
    if run.drawn is None:
        return paragraph(
            "There is no picture of who shared with whom: every round was void, or the run "
            "directory does not say which members vanished (a dropout_schedule is a separate file; "
            "non-finite updates are only counted)."
        )
    graph = sharing_graph(run, run.drawn)
    if len(graph.group) <= _CIRCLE:
        return circle(run, graph)
    paired = _paired(config)
    bins = min(config.participants, _BINS)
    counts = share_counts(config.seed, graph, config.participants, bins, paired)
    return heat_map(
        counts.astype(float),
        f"Who shared with whom in round {graph.round:,}",
        f"{_graph_words(graph)} Rows are dealers by id, 0 at the top; columns are holders, 0 on "
        f"the left. A cell's shade shows how many of the round's {int(counts.sum()):,} shares go "
        "from its dealers to its holders."
        + (" Paired shares go from the lower id to the higher." if paired else "")
        + _vanished_words(run, graph),
        lambda value: f"{short(value)} shares",
    )


def _paired(config: Config) -> bool:
    """Whether a pair has one share; values of polynomials go both ways whatever `shares` says."""
    return config.paired and not config.rule_in_force.field


def _graph_words(graph: Graph) -> str:
    count = len(graph.members)
    if graph.neighbours >= count - 1:
        return f"{count:,} members, each sharing with all the others."
    return f"{count:,} members, each sharing with {graph.neighbours:,} others."


def _vanished_words(run: Run, graph: Graph) -> str:
    if not graph.vanished:
        return ""
    after = run.config.rule_in_force.vanished
    return f" {plural(len(graph.vanished), 'member')} vanished after sharing: {after}"


def circle(run: Run, graph: Graph) -> str:
    """Members on a circle, in slot order, with their ids; an edge is a pair that shared."""
    count = len(graph.group)
    radius, middle = 150, 190
    turns = [2 * pi * slot / count - pi / 2 for slot in range(count)]
    at = [(middle + radius * cos(t), middle + radius * sin(t)) for t in turns]
    edges: dict[bool, list[str]] = {False: [], True: []}
    for slot, row in enumerate(partners(run.config.seed, graph)):
        for other in row:
            if slot < other:
                (ax, ay), (bx, by) = at[slot], at[other]
                gone = bool({slot, other} & graph.vanished)
                edges[gone].append(f"M{ax:.1f} {ay:.1f}L{bx:.1f} {by:.1f}")
    parts = [
        f'<path class="edge{" gone" * gone}" d="{"".join(lines)}"/>'
        for gone, lines in edges.items()
        if lines
    ]
    for slot, (px, py) in enumerate(at):
        kind = "member gone" if slot in graph.vanished else "member"
        lx, ly = (middle + (radius + 20) * f(turns[slot]) for f in (cos, sin))
        parts.append(
            f'<circle class="{kind}" cx="{px:.1f}" cy="{py:.1f}" r="6"/>'
            f'<text class="middle" x="{lx:.1f}" y="{ly + 5:.1f}">{int(graph.group[slot])}</text>'
        )
    each = "one share" if _paired(run.config) else "two shares, one each way"
    caption = (
        f"{_graph_words(graph)} A line is a pair that shared ({each}); numbers are participants' "
        "ids." + _vanished_words(run, graph)
    )
    if graph.vanished:
        caption += " Hollow, dashed: vanished."
    title = f"Who shared with whom in round {graph.round:,}"
    return figure(svg(2 * middle, 2 * middle, title, caption, "\n".join(parts)), title, caption)


def heat_map(values: np.ndarray, title: str, caption: str, words: Callable[[float], str]) -> Html:
    """Cells shaded in `_LEVELS` steps from 0 to the largest value; f64 [rows, columns]."""
    rows, columns = values.shape
    top = float(values.max())
    level = np.ceil(values / (top or 1.0) * _LEVELS).astype(int)
    wide, tall = 400 / columns, 260 / rows
    parts = ['<rect class="ground" width="400" height="260"/>']
    for step in range(1, _LEVELS + 1):
        cells = "".join(
            f"M{c * wide:.5g} {r * tall:.5g}h{wide:.4g}v{tall:.4g}h-{wide:.4g}z"
            for r, c in zip(*np.nonzero(level == step), strict=True)
        )
        if cells:
            parts.append(f'<path class="heat" fill-opacity="{step / _LEVELS:g}" d="{cells}"/>')
    swatches = "".join(
        f'<rect class="heat" x="{150 + 16 * i}" y="270" width="16" height="12" '
        f'fill-opacity="{i / _LEVELS:g}"/>'
        for i in range(_LEVELS + 1)
    )
    parts.append(
        f'{swatches}<text x="142" y="282" class="end">0</text>'
        f'<text x="302" y="282">{words(top)}</text>'
    )
    return figure(svg(400, 290, title, caption, "\n".join(parts)), title, caption)
