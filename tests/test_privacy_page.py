"""docs/privacy.md: every claim names a test that exists; every table is the recorded run's."""

import json
import re
from pathlib import Path

from ssddl_jax.privacy.results import leak_table
from ssddl_jax.privacy.scoring import Leak

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "privacy.md").read_text()
RESULTS = ROOT / "benchmarks" / "results"


def test_every_test_that_the_page_names_exists():
    source = {path.name: path.read_text() for path in (ROOT / "tests").glob("test_*.py")}
    named = set(re.findall(r"\btest_\w+(?:\.py)?", PAGE))
    assert len(named) > 10
    for name in named:
        there = (
            name in source if name.endswith(".py") else f"def {name}(" in "".join(source.values())
        )
        assert there, name


def test_the_recovered_shares_are_the_recorded_ones():
    found = json.loads((RESULTS / "gradient_inversion.json").read_text())
    assert found["settings"]["targets"] >= 50
    leaks = [Leak(row["members"], row["batch"], row["share"]) for row in found["recovered_share"]]
    assert len(leaks) == 28
    assert "\n".join(leak_table(leaks)[2:]) in PAGE


def spread(value):
    return f"{value['mean']:.1f} ({value['low']:.1f} to {value['high']:.1f})"


def test_the_attacks_are_the_recorded_ones():
    found = json.loads((RESULTS / "gradient_inversion.json").read_text())
    by = {(row["attack"], row["surface"]): row for row in found["attacks"]}
    for attack in ("linear layer", "dlg", "inverting gradients"):
        plain, upload = (by[attack, on]["psnr"] for on in ("plain update", "one upload"))
        line = f"| {attack} | {plain['median']:.1f} dB | {spread(plain)} | {spread(upload)} |"
        assert f"{line} {spread(found['mean_image']['psnr'])} |" in PAGE
        assert not by[attack, "one upload"]["beats_mean_image"]
        assert by[attack, "plain update"]["beats_mean_image"]


def test_the_rounds_of_differencing_are_the_recorded_ones():
    found = json.loads((RESULTS / "gradient_inversion.json").read_text())["exposure_by_round"]
    first = {name: at["at"][at["mean"].index(1.0)] for name, at in found.items()}
    told = "after {random} rounds of random groups, {rotate} of rotating ones".format(**first)
    assert told in " ".join(PAGE.split())


def test_the_statistics_are_the_recorded_ones():
    cases = json.loads((RESULTS / "independence.json").read_text())["cases"]
    assert all(case["right"] for case in cases.values())
    for name, case in cases.items():
        p = case["uniformity"]["combined"]
        row = f"| {name} | {case['auc']:.3f} | {1.96 * case['error']:.3f} | {p:.2g} |"
        assert row in PAGE


def test_pictures_are_there():
    for name in re.findall(r"\]\((images/\S+)\)", PAGE):
        assert (ROOT / "docs" / name).stat().st_size > 50_000
