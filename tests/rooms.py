"""Draws the picture of the rooms in CONTRIBUTING.md from the import contracts and the packages.

python tests/rooms.py      redraws it
"""

import ast
import textwrap
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "CONTRIBUTING.md"
START, END = "<!-- drawn by tests/rooms.py -->\n```\n", "```\n<!-- end of the picture -->"
WIDTH, INDENT = 98, 20


def floors(package):
    """Rows of modules, from the top down, as the contract of `package` lists them."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
    (layers,) = (
        contract["layers"]
        for contract in contracts["contracts"]
        if contract["type"] == "layers" and contract["containers"] == [package]
    )
    return [[name.strip() for name in layer.split("|")] for layer in layers]


def purpose(*names):
    """The first sentence of a module's docstring, as far as its first line goes."""
    path = ROOT.joinpath("src", "ssddl_jax", *names)
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    said = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    return said.partition("\n")[0]


def _row(label, name, text):
    rest = " " * INDENT
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=f"{label:5}{name}".ljust(INDENT - 1) + " ",
        subsequent_indent=rest,
        break_on_hyphens=False,
    )


def picture():
    """The rooms of the package, and inside the core its parts, from the top down."""
    rows, storeys = [], floors("ssddl_jax")
    for height, names in zip(range(len(storeys), 0, -1), storeys, strict=True):
        for name in names:
            rows.append(_row(str(height) if name == names[0] else "", name, purpose(name)))
        if names == ["core"]:
            inner = floors("ssddl_jax.core")
            for step, parts in zip(range(len(inner), 0, -1), inner, strict=True):
                for part in parts:
                    label = f"{height}.{step}" if part == parts[0] else ""
                    rows.append(_row(label, f"  {part}", purpose("core", part)))
    return "\n".join(rows) + "\n"


def shown():
    """The picture that the page shows."""
    text = PAGE.read_text("utf-8")
    return text[text.index(START) + len(START) : text.index(END)]


if __name__ == "__main__":
    page = PAGE.read_text("utf-8")
    PAGE.write_text(page.replace(START + shown() + END, START + picture() + END), "utf-8")
