"""`report.html`: one self-contained page on a finished run, made from its run directory only.

The page has no script and makes no request. Pictures are inline SVG and colours are CSS variables,
so that it reads well in light and dark mode, on a desktop and on a phone.
"""

from importlib import resources
from pathlib import Path
from string import Template

from ssddl_jax.common.atomic import write_whole
from ssddl_jax.config.metrics import columns
from ssddl_jax.report.curves import curves
from ssddl_jax.report.files import Run, read_run
from ssddl_jax.report.html import Html, text
from ssddl_jax.report.privacy import privacy
from ssddl_jax.report.sections import (
    bytes_by_role,
    cite,
    config_table,
    environment_table,
    key_figures,
    rerun,
    round_time,
    what_it_is,
)
from ssddl_jax.report.sharing import sharing

# Sections in the page's order: id, heading, and the function that makes the body.
SECTIONS = (
    ("curves", "Curves", lambda run: curves(run.rows, columns(run.config))),
    ("bytes", "Bytes by role", bytes_by_role),
    ("sharing", "Who shared with whom", sharing),
    ("privacy", "Who learns what", privacy),
    ("time", "Round time on networks", round_time),
    ("rerun", "Run it again", rerun),
    ("config", "Config", config_table),
    ("environment", "Environment", environment_table),
    ("cite", "How to cite", cite),
)


def write_report(directory: Path) -> Path:
    """Writes `report.html` into the run directory, whole or not at all; returns its path.

    Reads only config.toml, metrics.jsonl and summary.json there, so the same files give the same
    page. Raises `ConfigError` if the directory is not that of a finished run.
    """
    path = directory / "report.html"
    write_whole(path, render(read_run(directory)))
    return path


def render(run: Run) -> str:
    """The page."""
    template = Template(resources.files(__package__).joinpath("page.html").read_text("utf-8"))
    bodies = [
        f'<section id="{name}" aria-labelledby="{name}-title">\n'
        f'<h2 id="{name}-title">{title}</h2>\n{make(run)}</section>\n'
        for name, title, make in SECTIONS
    ]
    links = "".join(f'<li><a href="#{name}">{title}</a></li>' for name, title, _ in SECTIONS)
    return template.substitute(
        name=text(Path(run.out).name),
        line=text(what_it_is(run)),
        figures=key_figures(run),
        links=Html(links),
        sections="\n".join(bodies),
    )
