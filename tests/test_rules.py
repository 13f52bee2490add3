"""Dropout rules: their records are complete, no other code knows their names, and rounds of every
rule, including future ones, agree with the oracle, the plan and the certificate.
"""

import ast
import dataclasses
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import ssddl_jax as sd
from ssddl_jax import reference
from ssddl_jax.cli.console import Progress
from ssddl_jax.common.lazily import resolve
from ssddl_jax.config.rules import CHOICES, RULES
from ssddl_jax.planning.report import plan_report
from ssddl_jax.privacy.certificate import certificate
from ssddl_jax.privacy.messages import Adversary, header_of

SOURCE = Path(sd.__file__).parent
KNOW = ("config/rules.py", "config/protocols.py")  # the records; `reference/` has its own


@pytest.fixture
def config(tiny_file, tmp_path):
    """Three rounds; a member vanishes from the second, six from the third."""
    schedule = tmp_path / "gone.csv"
    schedule.write_text("1,3\n" + "".join(f"2,{i}\n" for i in range(6)))
    return sd.Config(
        data=str(tiny_file),
        model="linear",
        participants=9,
        group_size="all",
        max_dropout=0.4,
        threshold=4,
        rounds=3,
        eval_every=3,
        devices=1,
        dropout_schedule=str(schedule),
        out=str(tmp_path / "run"),
    )


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_all_that_a_record_names_is_there(rule):
    named = [v for v in dataclasses.asdict(rule).values() if str(v).startswith("ssddl_jax.")]
    assert len(named) == 8
    assert all(callable(resolve(name)) for name in named)
    assert not rule.choice or (rule.late and rule.vanished and rule.explained)
    assert set(RULES) == set(reference.rules.RULES)


def test_nobody_compares_names_of_rules():
    """What a rule does stands in its record: a name that is asked for elsewhere would be one more
    place to change.
    """
    for path in SOURCE.rglob("*.py"):
        where = path.relative_to(SOURCE).as_posix()
        if where in KNOW or where.startswith("reference/"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            asks = isinstance(node, ast.Compare | ast.Dict | ast.Match)
            inside = ast.walk(node) if asks else ()
            names = {leaf.value for leaf in inside if isinstance(leaf, ast.Constant)}
            assert not names & {"retry", "reveal", "shamir"}, (where, node.lineno)


@pytest.mark.parametrize("name", CHOICES)
def test_every_rule_s_rounds_are_the_oracles_and_as_planned(config, name):
    config = replace(config, dropout_rule=name)
    slow = replace(config, engine="reference")
    for fast, oracle in zip(*(sd.transcripts(c, [0, 1, 2]) for c in (config, slow)), strict=True):
        for key in fast.keys() - {"engine"}:
            np.testing.assert_array_equal(fast[key], oracle[key], key)
        assert not certificate(header_of(fast), Adversary(server=True)).determined
    report, run = plan_report(config), sd.run(slow)
    assert report["run_bytes_up"] == sum(row["bytes_up"] for row in run.metrics)
    assert report["run_bytes_down"] == sum(row["bytes_down"] for row in run.metrics)
    assert report["rounds_void"] == run.summary["rounds_void"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"dropout_rule": "reveal"}, True),
        ({"protocol": "secagg"}, True),  # t is all that max_dropout leaves
        ({"dropout_rule": "shamir", "threshold": 2}, False),
        ({"protocol": "dssgd"}, False),  # a visit is lost, no round is void
    ],
)
def test_a_run_says_that_more_vanish_than_it_was_made_for(config, capsys, fields, said):
    config = replace(config, dropout_schedule=None, dropout=0.5, threshold="auto")
    config = replace(config, **fields)
    with Progress(config) as progress:
        progress.start(sd.build_simulation(config, None, sd.load_data(config)), 0)
    assert ("with fewer survivors are void" in capsys.readouterr().err) == said
