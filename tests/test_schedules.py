"""Dropout schedules: valid files are read; anything else is an error with its line number."""

import json

import pytest

import ssddl_jax as sd
from ssddl_jax.cli import main
from ssddl_jax.config.dropout_schedule import read_schedule, schedule_notes
from ssddl_jax.planning.plan import _vanishing
from ssddl_jax.planning.report import plan_report

TWO = {0: {3}, 1: {4}}


def read(folder, content):
    """The schedule that a file of this content is, for ten participants."""
    path = folder / "schedule.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_schedule(sd.Config(participants=10, group_size=5, dropout_schedule=str(path)))


@pytest.mark.parametrize(
    "content",
    [
        "0,3\n1,4\n",
        "0,3\r\n1,4",
        "0,3\r1,4\r",
        "round,participant\n0,3\n1,4\n",
        "Round, Participant\n0, 3\n 1 ,4\n",
        "participant,round\n3,0\n4,1\n",
        "\nround,participant\n\n0,3\n \n1,4\n\n",
        "\ufeff0,3\n1,4\n",
        "\ufeffround,participant\n0,3\n1,4\n",
        "0;3\n1;4\n",
        "participant;round\n3;0\n4;1\n",
        "0\t3\n1\t4\n",
        '"round","participant"\n"0","3"\n"1","4"\n',
        "0,3\n0,3\n1,4\n",
        "00,03\n1,4\n",
    ],
)
def test_what_people_write_is_read(tmp_path, content):
    assert read(tmp_path, content) == TWO


@pytest.mark.parametrize(
    ("content", "line", "shown"),
    [
        ("+1,3\n2,4\n", 1, "+1,3"),
        ("0.0,3\n1,4\n", 1, "0.0,3"),
        ("0 3\n", 1, "0 3"),
        ("0|3\n", 1, "0|3"),
        ("turn,who\n0,3\n", 1, "turn,who"),
        ("round,participant,why\n0,3,x\n", 1, "round,participant,why"),
        ("round\n0\n", 1, "round"),
        ("round,round\n0,3\n", 1, "round,round"),
        ("# mine\n0,3\n", 1, "# mine"),
        ("0,3\nround,participant\n", 2, "round,participant"),
        ("\n0,3\n1;4\n", 3, "1;4"),
        ("0;3\n1,4\n", 2, "1,4"),
        ("0,3\n,\n", 2, ","),
        ("0,3\n1,4,\n", 2, "1,4,"),
        ("0,3\n1_0,4\n", 2, "1_0,4"),
        ("0,3\n\u0661,4\n", 2, "\u0661,4"),
        ("0,3\n1,-4\n", 2, "1,-4"),
        ("0,3\n1,10\n", 2, "participant 10 must be 0..9"),
        (f"0,3\n{2**31},4\n", 2, f"round {2**31} must be 0..{2**31 - 1}"),
        (f"0,3\n{'9' * 5000},4\n", 2, "must be 0.."),
        ('0,3\n"1,4\n', 2, "unexpected end"),
    ],
)
def test_anything_else_is_an_error_with_its_line(tmp_path, content, line, shown):
    with pytest.raises(sd.ConfigError) as caught:
        read(tmp_path, content)
    assert caught.value.field == "dropout_schedule"
    assert f"line {line}" in caught.value.remedy
    assert shown in caught.value.remedy
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"\xff\xfe0\x00,\x003\x00", b"0,3\n\xff,4\n"])
def test_what_is_not_utf8_is_refused(tmp_path, content):
    with pytest.raises(sd.ConfigError, match=r"is not text.*UTF-8"):
        read(tmp_path, content)


def test_what_is_seldom_meant_is_said(tmp_path):
    config = sd.Config(dropout_schedule=str(tmp_path / "s.csv"))
    assert schedule_notes(config, [0, 1, 39]) == []
    (note,) = schedule_notes(config, [0, 40, 900])
    assert "2 of its 3 entries" in note
    assert "up to round 900" in note
    assert "39" in note
    (note,) = schedule_notes(config, [])
    assert "has no entries" in note
    assert schedule_notes(sd.Config(), []) == []


@pytest.mark.parametrize("selection", ["random", pytest.param("rotate", marks=pytest.mark.slow)])
def test_who_is_not_in_the_rounds_group_is_counted(tmp_path, tiny_file, selection):
    """By plan and run alike; otherwise nobody sees that fewer vanish than were listed."""
    (tmp_path / "s.csv").write_text("".join(f"{r},{i}\n" for r in (0, 2, 9) for i in range(4)))
    fields = {"data": str(tiny_file), "model": "linear", "participants": 8, "rounds": 3}
    fields |= {"selection": selection, "devices": 1, "max_dropout": 0.6, "dropout_rule": "reveal"}
    fields |= {"dropout_schedule": str(tmp_path / "s.csv")}
    config = sd.Config(**fields, group_size=5, out=str(tmp_path / "run"))
    result = sd.run(config)
    absent = sum(i not in result.metrics[r]["group"] for r in (0, 2) for i in range(4))
    assert 0 < absent < 8
    said = f"{absent} of its 12 entries cannot take effect: the participant is not in that round's"
    run = [note for note in result.summary["notes"] if "entries" in note]
    assert len(run) == 2
    assert "4 of its 12 entries are for rounds beyond" in run[0]
    assert said in run[1]
    assert [note for note in plan_report(config)["notes"] if "entries" in note] == run
    everybody = plan_report(sd.Config(**fields, group_size="all"))
    assert len([note for note in everybody["notes"] if "entries" in note]) == 1


def test_no_more_vanish_than_a_group_has(tmp_path):
    (tmp_path / "s.csv").write_text("".join(f"0,{i}\n" for i in range(9)))
    fields = {"participants": 10, "dropout_schedule": str(tmp_path / "s.csv")}
    assert _vanishing(sd.Config(group_size=5, **fields)) == 5
    assert _vanishing(sd.Config(group_size="all", **fields)) == 9


def test_plan_says_what_is_beyond_the_run(tiny_file, tmp_path, capsys):
    (tmp_path / "s.csv").write_text("round,participant\n0,3\n900,4\n")
    arguments = ["plan", "--data", str(tiny_file), "--model", "linear", "--participants", "8"]
    arguments += ["--group-size", "5", "--max-dropout", "0.5", "--no-calibration", "--json"]
    assert main([*arguments, "--dropout-schedule", str(tmp_path / "s.csv")]) == 0
    notes = json.loads(capsys.readouterr().out)["notes"]
    assert any("1 of its 2 entries" in note and "900" in note for note in notes)
