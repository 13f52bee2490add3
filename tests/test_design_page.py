"""docs/design.md and the picture in CONTRIBUTING.md match the code; citations name real sections.
Pages that nobody runs go stale unnoticed.
"""

import ast
import re
import typing
from pathlib import Path

import rooms
from ssddl_jax.core.accumulate import RingSums, Tile
from ssddl_jax.core.records import Group, State
from ssddl_jax.core.sharing.base import Attempt, Messages, Uploads

ROOT = Path(__file__).resolve().parent.parent
PAGES = {name: (ROOT / "docs" / f"{name}.md").read_text("utf-8") for name in ("protocol", "design")}
DESIGN = PAGES["design"]
SOURCES = [
    path
    for folder in ("src", "tests", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
    if path != Path(__file__)
]


def test_the_picture_of_the_rooms_is_the_codes():
    assert rooms.shown() == rooms.picture(), "draw it anew: python tests/rooms.py"


def test_every_room_is_on_one_floor():
    here = {path.parent.name for path in (ROOT / "src" / "ssddl_jax").glob("*/__init__.py")}
    assert sorted(here) == sorted(name for floor in rooms.floors("ssddl_jax") for name in floor)


# Tables


def rows_of(heading):
    """Cells of the table under this header row."""
    body = DESIGN.split(f"| {heading} |\n")[1].split("\n\n")[0].splitlines()[1:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in body]


def field(name, hint):
    """A field as the table has it: its name, and type and axes of an array."""
    kinds = [kind for kind in (hint, *typing.get_args(hint)) if hasattr(kind, "dim_str")]
    if not kinds:
        return name
    short = {"uint32": "u32", "int32": "i32", "float32": "f32", "bool": "bool"}
    return f"{name} {short[kinds[0].dtypes[0]]}[{kinds[0].dim_str}]"


def test_records_have_the_fields_of_the_table():
    records = {
        record.__name__: record
        for record in (State, Group, Tile, RingSums, Attempt, Messages, Uploads)
    }
    rows = rows_of("record | fields")
    assert [name.strip("`") for name, _ in rows] == list(records)
    for name, said in rows:
        hints = typing.get_type_hints(records[name.strip("`")])
        assert said == ", ".join(field(*item) for item in hints.items())


def test_a_transcript_has_the_keys_of_the_table():
    source = (ROOT / "src/ssddl_jax/simulation/transcript.py").read_text("utf-8")
    (function,) = (
        node for node in ast.walk(ast.parse(source)) if getattr(node, "name", "") == "_arrays"
    )
    (given,) = (node.value for node in ast.walk(function) if isinstance(node, ast.Return))
    keys = [key.value for key in given.keys]
    said = [key for cells in rows_of("keys | what they hold") for key in cells[0].split("`")[1::2]]
    assert sorted(said) == sorted(keys)


# Facts


def test_figures_of_the_facts_stand_where_they_are_said_to():
    facts = re.findall(r"\*\*Fact (\d+)\. (.*?)(?=\n\n)", DESIGN, re.DOTALL)
    assert len(facts) > 10
    assert [int(number) for number, _ in facts] == list(range(1, len(facts) + 1))
    for number, text in facts:
        text = " ".join(text.split())
        name, section = re.search(r'\(([\w/.]+)(?:, "([^"]+)")?\)\.$', text).groups()
        source = (ROOT / "benchmarks" / name).read_text("utf-8")
        if section:
            source = source.split(f"## {section}\n")[1].split("\n## ")[0]
        _, _, measured = text.partition("easured")
        figures = [word for word in re.findall(r"`([^`]+)`", measured) if word[0].isdigit()]
        assert figures or "Not timed" in text, number
        for figure in figures:
            assert re.search(rf"(?<![\d.]){re.escape(figure)}(?!\d|\.\d)", source), (number, figure)


# Citations


def test_files_that_the_pages_name_exist():
    places = [ROOT, ROOT / "src/ssddl_jax", ROOT / "docs"]
    for page in PAGES.values():
        for name in set(re.findall(r"`([\w/]+\.(?:py|md|toml))`", page)):
            assert any((place / name).is_file() for place in places), name
        for target in re.findall(r"\]\(([^)#]+)", page):
            assert (ROOT / "docs" / target).is_file(), target


def test_links_to_headings_find_one():
    anchors = {
        name: {
            re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
            for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        }
        for name, text in {
            **{f"{name}.md": text for name, text in PAGES.items()},
            "../CONTRIBUTING.md": (ROOT / "CONTRIBUTING.md").read_text("utf-8"),
        }.items()
    }
    for page, text in PAGES.items():
        for target, anchor in re.findall(r"\]\(([^)#]*)#([^)]+)\)", text):
            assert anchor in anchors[target or f"{page}.md"], (page, anchor)


def test_citations_in_code_find_their_section_or_fact():
    sections = {
        name: set(re.findall(r"^(?:## |\*\*)(\d+(?:\.\d)?)\.? ", text, re.MULTILINE))
        for name, text in PAGES.items()
    }
    facts = set(re.findall(r"\*\*Fact (\d+)\.", DESIGN))
    cited = 0
    for path in SOURCES:
        text = " ".join(re.sub(r"\n\s*#", "\n", path.read_text("utf-8")).split())
        for name, kind, first, last in re.findall(
            r"docs/(\w+)\.md, (section|fact)s? ([\d.]*\d)(?:(?: to | and )([\d.]*\d))?", text
        ):
            for number in filter(None, (first, last)):
                assert number in (facts if kind == "fact" else sections[name]), (path, number)
            cited += 1
    assert cited > 15


def test_no_source_cites_a_page_that_a_clone_does_not_have():
    for path in SOURCES:
        text = " ".join(path.read_text("utf-8").split())
        found = re.search(
            r"protocol(?:'s)?(?: specification)? sections? \d|performance facts?|\(security: |"
            r"`(?:interface|security|performance|protocol|house)\.md`|"
            r"the(?: security)? specification",
            text,
        )
        assert not found, (path.name, found)
