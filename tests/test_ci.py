"""`.ci/run` runs its parts in order, always prints a table, keeps budgets, and sets workers."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import conftest

CI = Path(__file__).resolve().parents[1] / ".ci"
pytestmark = pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash here")


def played(parts, tmp_path):
    """Status, lines of the table by their first word, and stderr of a run of these parts."""
    script = f"set -euo pipefail\nsource {CI / 'parts.sh'}\n{parts}"
    done = subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert not list(tmp_path.iterdir()), "something is left behind"
    rows = [line.split() for line in done.stdout.splitlines() if line]
    return done.returncode, {row[0]: row[1:] for row in rows}, done.stderr


def test_parts_that_pass_are_listed_and_added_up(tmp_path):
    busy = f"work() {{ {sys.executable} -c 'sum(range(10**7))'; }}\n"
    parts = busy + "part one 20 work\npart two 30 true\npart three 40 bash -c true"
    status, table, _ = played(parts, tmp_path)
    assert status == 0
    assert list(table) == ["part", "one", "two", "three", "in"]
    assert [table[name][1] for name in ("one", "two", "three")] == ["20", "30", "40"]
    assert float(table["one"][0]) > 0, "a function's children are not counted"
    assert float(table["in"][1]) == pytest.approx(
        sum(float(table[name][0]) for name in ("one", "two", "three")), abs=0.21
    )
    assert table["in"][2] == "90"


def test_the_first_that_fails_ends_it_with_its_status_and_the_table(tmp_path):
    fails = "fails() { false; echo went on; }\n"
    for command, status in (("bash -c 'exit 3'", 3), ("fails", 1), ("nowhere-to-be-found", 127)):
        found, table, err = played(
            f"{fails}part one 20 true\npart two 30 {command}\npart three 40 true", tmp_path
        )
        assert found == status
        assert list(table) == ["part", "one", "two", "in"]
        assert table["two"][-1] == "FAILED"
        assert "went" not in table
        assert "== three" not in err


def test_a_budget_that_is_far_exceeded_fails_when_all_is_done(tmp_path):
    parts = f"part one 0 {sys.executable} -c 'sum(range(10**7))'\npart two 30 true"
    status, table, err = played(parts, tmp_path)
    assert status == 1
    assert list(table) == ["part", "one", "two", "in"]
    assert table["one"][-2:] == ["FAR", "OVER"]
    assert "more than 2.5 times the budget: one" in err


def test_the_parts_of_ci_are_cheap_first_and_an_hour_together():
    text = (CI / "run").read_text()
    parts = re.findall(r'^part +("[^"]+"|\S+) +(\d+) (.+)$', text, re.MULTILINE)
    assert len(parts) == len(re.findall("^part ", text, re.MULTILINE))
    assert [name for name, *_ in parts[:4]] == ["install", "lint", "tests", "mutants"]
    assert sum(int(budget) for _, budget, _ in parts) <= 3600
    makefile = (CI.parent / "Makefile").read_text()
    for _, _, command in parts:
        for target in re.findall(r"\bmake ([a-z-]+)", command):
            assert re.search(f"^{target}:", makefile, re.MULTILINE), target
    assert os.access(CI / "run", os.X_OK)


@pytest.mark.parametrize(
    ("cores", "gigabytes", "workers"),
    [(2, 23, 2), (16, 23, 7), (4, 4, 1), (4, 0.5, 1), (64, 1000, 64)],
)
def test_workers_by_cores_and_memory(monkeypatch, cores, gigabytes, workers):
    monkeypatch.delenv("PYTEST_XDIST_AUTO_NUM_WORKERS", raising=False)
    monkeypatch.setattr(conftest, "usable_cores", lambda: cores)
    monkeypatch.setattr(conftest, "available_bytes", lambda: gigabytes * 1e9)
    assert conftest.pytest_xdist_auto_num_workers() == workers


def test_workers_that_the_user_asks_for(monkeypatch):
    monkeypatch.setenv("PYTEST_XDIST_AUTO_NUM_WORKERS", "5")
    assert conftest.pytest_xdist_auto_num_workers() is None


def test_available_memory_is_some_of_the_machines():
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < conftest.available_bytes() <= whole
