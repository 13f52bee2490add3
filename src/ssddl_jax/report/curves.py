"""Curves over rounds, as small SVG pictures that use the colours of the page."""

from collections.abc import Sequence
from html import escape
from math import ceil, floor, isfinite, log10
from typing import NamedTuple

import numpy as np

from ssddl_jax.config.metrics import Column
from ssddl_jax.report.files import RoundRow
from ssddl_jax.report.html import Html, figure, plural, short

_WIDTH, _HEIGHT = 400, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 14, 10, 32
_MOST = 300  # points of a curve; more are drawn as means, with a band from smallest to largest
_DOTS = 60  # points up to which each has its dot


class Points(NamedTuple):
    """A curve: rounds and values, and the range of the values that each point represents."""

    rounds: np.ndarray  # f64 [P]
    values: np.ndarray
    least: np.ndarray
    greatest: np.ndarray


class Axis(NamedTuple):
    """A linear map from [low, high] to pixels."""

    low: float
    high: float
    first: float
    last: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.first + share * (self.last - self.first), 1)


def curves(rows: Sequence[RoundRow], more: Sequence[Column] = ()) -> Html:
    """Accuracy, loss, clipped, alive, seconds, bytes and the optional metrics `more`."""
    void = [row.round for row in rows if row.void]
    most = max(row.members for row in rows)
    moved = [(row.up + row.down) / 1e6 for row in rows]
    return Html(
        "<p>The horizontal axes show rounds, counted from 0.</p>\n"
        + '<div class="grid">\n'
        + _figure("Test accuracy", rows, [row.accuracy for row in rows], void, zero=False)
        + _figure("Local loss, mean over members", rows, [row.loss for row in rows], void)
        + _figure("Clipped coordinates", rows, [row.clipped for row in rows], void, whole=True)
        + _figure(
            f"Members alive, of {most:,}",
            rows,
            [row.alive for row in rows],
            void,
            whole=True,
            most=most,
        )
        + _figure("Seconds per round, on this machine", rows, [row.seconds for row in rows], void)
        + _figure("Megabytes per round, all members", rows, moved, void)
        + "".join(
            _figure(column.title, rows, [row.more[column.key] for row in rows], void)
            for column in more
        )
        + "</div>\n"
    )


def _figure(
    title: str,
    rows: Sequence[RoundRow],
    values: Sequence[float | None],
    void: Sequence[int],
    *,
    zero: bool = True,
    whole: bool = False,
    most: float | None = None,
) -> str:
    known = [
        (row.round, value)
        for row, value in zip(rows, values, strict=True)
        if value is not None and isfinite(value)
    ]
    if not known:
        return figure("", title, "No round has a value.")
    only = [value for _, value in known]
    summary = (
        f"Last {short(only[-1])} (round {known[-1][0]:,}), smallest {short(min(only))}, "
        f"largest {short(max(only))}."
    )
    if len(known) < len(rows):
        summary += f" {len(rows) - len(known):,} of {len(rows):,} rounds have no value."
    if len(known) > _MOST:
        summary += " The line is a mean over neighbouring rounds, and the band is their range."
    if void:
        summary += f" Marks on the axis: {plural(len(void), 'void round')}."
    points = thinned(np.array(known, float))
    low = min(only) if not zero else min(0.0, *only, 0.0)
    high = max(*only, low, most or low)
    picture = line_chart(title, summary, points, (low, high), len(rows), void, whole)
    return figure(picture, title, summary)


def thinned(known: np.ndarray) -> Points:
    """At most `_MOST` points: means over consecutive (round, value) pairs f64 [P, 2]."""
    parts = np.array_split(known, _MOST) if len(known) > _MOST else np.split(known, len(known))
    means = np.array([part.mean(axis=0) for part in parts])
    least, greatest = (np.array([f(part[:, 1]) for part in parts]) for f in (np.min, np.max))
    return Points(means[:, 0], means[:, 1], least, greatest)


def ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers in [low, high], about `count` of them."""
    rough = (high - low) / count
    unit = 10.0 ** floor(log10(rough))
    step = next(s for s in (unit, 2 * unit, 2.5 * unit, 5 * unit, 10 * unit) if s >= rough)
    found = [i * step for i in range(ceil(low / step - 1e-9), floor(high / step + 1e-9) + 1)]
    return [float(f"{value:.10g}") for value in found]


def line_chart(
    title: str,
    summary: str,
    points: Points,
    span: tuple[float, float],
    rounds: int,
    void: Sequence[int],
    whole: bool,
) -> str:
    """One curve with axes, and marks for void rounds. `whole`: values are integers."""
    low, high = span
    room = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    y = Axis(low - (room if low else 0), high + room, _HEIGHT - _BOTTOM, _TOP)
    x = Axis(-0.5, rounds - 0.5, _LEFT, _WIDTH - _RIGHT)
    at = [(x(r), y(v)) for r, v in zip(points.rounds, points.values, strict=True)]
    parts = [_axes(x, y, rounds, whole)]
    if len(points.rounds) == _MOST:
        edge = [(x(r), y(v)) for r, v in zip(points.rounds, points.greatest, strict=True)]
        edge += [(x(r), y(v)) for r, v in zip(points.rounds, points.least, strict=True)][::-1]
        parts.append(f'<polygon class="band" points="{_list(edge)}"/>')
    parts.append(f'<polyline class="line" points="{_list(at)}"/>')
    if len(at) <= _DOTS:
        parts += [f'<circle class="dot" cx="{px:g}" cy="{py:g}" r="3"/>' for px, py in at]
    bottom = _HEIGHT - _BOTTOM
    marks = sorted({x(index) for index in void})
    if marks:
        strokes = "".join(f"M{px:g} {bottom - 7}v7" for px in marks)
        parts.append(f'<path class="void" d="{strokes}"/>')
    return svg(_WIDTH, _HEIGHT, title, summary, "\n".join(parts))


def _axes(x: Axis, y: Axis, rounds: int, whole: bool) -> str:
    lines, labels = [], []
    for value in ticks(y.low, y.high, 5):
        if whole and value != int(value):
            continue
        lines.append(f"M{_LEFT} {y(value):g}H{_WIDTH - _RIGHT}")
        labels.append(
            f'<text x="{_LEFT - 7}" y="{y(value) + 5:g}" class="end">{_label(value)}</text>'
        )
    across = [v for v in ticks(0, max(rounds - 1, 1), 5) if v == int(v) and v < rounds]
    below = _HEIGHT - _BOTTOM + 18
    labels += [f'<text x="{x(v):g}" y="{below}" class="middle">{v:,.0f}</text>' for v in across]
    return f'<path class="rule" d="{"".join(lines)}"/>' + "".join(labels)


def _label(value: float) -> str:
    for unit, each in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= 10 * each:
            return f"{value / each:g}{unit}"
    return f"{value:g}"


def _list(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{px:g},{py:g}" for px, py in points)


def svg(width: int, height: int, title: str, description: str, body: str) -> str:
    """A picture with a title and a description for screen readers."""
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title><desc>{escape(description)}</desc>\n{body}</svg>"
    )
