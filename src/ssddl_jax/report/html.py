"""HTML from values: everything that is not `Html` yet is escaped."""

from collections.abc import Sequence
from html import escape
from math import isfinite
from typing import Any


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def text(value: Any) -> Html:
    """A value as escaped text: numbers with separators, None as a dash."""
    if isinstance(value, Html):
        return value
    if value is None:
        return Html("&ndash;")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return Html(escape(str(value)))
    return Html(f"{value:,}" if isinstance(value, int) else short(value))


def short(value: float) -> str:
    """A float in at most about six characters."""
    if not isfinite(value):
        return str(value)
    if value and not 1e-3 <= abs(value) < 1e6:
        return f"{value:.3g}"
    return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def size(count: float) -> str:
    """A number of bytes as text; a kB is 1,000 bytes."""
    for unit, each in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= each:
            return f"{count / each:,.4g} {unit}"
    return f"{count:,.4g} bytes"


def table(
    caption: str, head: Sequence[str], rows: Sequence[Sequence[Any]], numbers: Sequence[int] = ()
) -> Html:
    """A table in a box that scrolls separately; the first cell of a row is its header.

    `numbers`: the columns to align right.
    """

    def cell(kind: str, scope: str, column: int, value: Any) -> str:
        right = ' class="number"' if column in numbers else ""
        return f"<{kind}{scope}{right}>{text(value)}</{kind}>"

    top = "".join(cell("th", ' scope="col"', i, value) for i, value in enumerate(head))
    body = "".join(
        "<tr>"
        + cell("th", ' scope="row"', 0, row[0])
        + "".join(cell("td", "", i, value) for i, value in enumerate(row[1:], start=1))
        + "</tr>\n"
        for row in rows
    )
    name = text(caption)
    return Html(
        f'<div class="scroll" role="region" aria-label="{name}" tabindex="0"><table>'
        f"<caption>{name}</caption><thead><tr>{top}</tr></thead>\n<tbody>\n{body}</tbody>"
        "</table></div>\n"
    )


def figure(picture: str, title: str, caption: str) -> Html:
    """A picture (HTML) with its title and caption."""
    below = f"<figcaption>{text(caption)}</figcaption>"
    return Html(f"<figure><h3>{text(title)}</h3>{picture}{below}</figure>\n")


def plural(count: int, what: str) -> str:
    """`1 round`, `2 rounds`."""
    return f"{count:,} {what}{'s' * (count != 1)}"


def paragraph(*sentences: Any) -> Html:
    """A paragraph."""
    return Html("<p>" + " ".join(text(sentence) for sentence in sentences) + "</p>\n")


def code(lines: str) -> Html:
    """A block of code that scrolls separately."""
    return Html(f'<pre class="scroll" tabindex="0"><code>{text(lines)}</code></pre>\n')
