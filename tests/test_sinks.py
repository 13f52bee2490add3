"""Where metrics go: always JSONL and CSV, and the user's own sinks, by name or from Python."""

import csv
import json
import struct
import sys

import pytest

import harness
import ssddl_jax as sd
from ssddl_jax.cli import main
from ssddl_jax.running.directory import write_config
from ssddl_jax.running.sinks import load_sinks

MODULE = """
heard = []

class Heard:
    def start(self, directory, config, rows):
        heard.append(("start", [row["round"] for row in rows]))
        assert directory.is_dir()
    def round(self, row):
        heard.append(("round", row["round"]))
        row.clear()  # its own copy
    def finish(self, summary):
        heard.append(("finish", summary["rounds"]))
    def close(self):
        heard.append(("close", None))

class Breaks(Heard):
    def round(self, row):
        if row["round"] == 3:
            raise OSError("nobody listens")

class Leaves(Heard):
    def round(self, row):
        raise SystemExit

class Unmade(Heard):
    def __init__(self):
        raise RuntimeError("no address given")

class HalfASink:
    def start(self, directory, config, rows): ...
"""


@pytest.fixture
def heard(tmp_path, monkeypatch):
    """What the sinks of the module `mine` are told, in order."""
    (tmp_path / "mine.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    import mine

    yield mine.heard
    sys.modules.pop("mine", None)


def config_of(tiny_file, **more):
    """Four rounds, a checkpoint after every second; plain compiles fastest."""
    fields = {"participants": 8, "group_size": 5, "rounds": 4, "checkpoint_every": 2, "out": "run"}
    fields |= {"protocol": "plain", "model": "linear", "tile_size": 2, "devices": 1, **more}
    return sd.Config(data=str(tiny_file), **fields)


def test_csv_has_the_rows_of_jsonl(tiny_file, heard, tmp_path):
    result = sd.run(config_of(tiny_file, eval_every=2))
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert rows == result.metrics
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        cells = list(csv.DictReader(file))
    for row, told in zip(rows, cells, strict=True):
        assert list(told) == [key for key in row if key != "group"]
        for key, text in told.items():
            assert text == ("" if row[key] is None else str(row[key])), key


def test_sinks_by_name_and_from_python_hear_of_everything_in_order(tiny_file, heard):
    import mine

    config = config_of(tiny_file, sinks="mine:Heard")
    result = sd.run(config, sinks=[mine.Heard()])
    each = [("start", []), *(("round", r) for r in range(4)), ("finish", 4), ("close", None)]
    assert heard == [entry for entry in each for _ in range(2)]
    assert [row["round"] for row in result.metrics] == [0, 1, 2, 3]  # theirs were copies


def test_a_sink_that_raises_ends_the_run_in_one_line_and_it_goes_on(
    tiny_file, heard, tmp_path, capsys
):
    whole = sd.run(config_of(tiny_file, out="whole")).summary["run_sha256"]
    write_config(config_of(tiny_file, sinks="mine:Breaks"), tmp_path / "c.toml")
    assert main(["run", "--config", "c.toml"]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    for needle in (
        "Breaks.round",
        "OSError: nobody listens",
        "config.toml",
        "ssddl resume run --trust",
    ):
        assert needle in line
    assert not (tmp_path / "run" / "summary.json").exists()
    toml = tmp_path / "run" / "config.toml"
    toml.write_text(toml.read_text().replace("mine:Breaks", "mine:Heard"))
    heard.clear()
    assert main(["resume", "run", "--trust", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["run_sha256"] == whole
    assert heard == [("start", [0, 1]), ("round", 2), ("round", 3), ("finish", 4), ("close", None)]


def test_a_sink_that_exits_does_not_end_the_run_as_if_it_were_done(tiny_file, heard):
    with pytest.raises(sd.RunError, match=r"Leaves\.round raised SystemExit"):
        sd.run(config_of(tiny_file, sinks="mine:Leaves"))


@pytest.mark.parametrize(
    ("names", "needles"),
    [
        ("tensorbord", ["tensorbord", "tensorboard", "module:attribute"]),
        ("mine:Nobody", ["mine:Nobody", "cannot be imported"]),
        ("nowhere:Sink", ["nowhere:Sink", "cannot be imported"]),
        ("mine:HalfASink", ["mine:HalfASink", "lacks", "round, finish, close"]),
        ("mine:Unmade", ["mine:Unmade", "RuntimeError: no address given"]),
        ("mine:Heard,", ["mine:Heard,"]),
    ],
)
def test_what_is_no_sink_is_refused_before_anything_happens(
    tiny_file, heard, tmp_path, names, needles
):
    with harness.compilations() as seen, pytest.raises(sd.ConfigError) as caught:
        sd.run(config_of(tiny_file, sinks=names))
    assert caught.value.field == "sinks"
    assert not seen
    assert not (tmp_path / "run").exists()
    for needle in needles:
        assert needle in str(caught.value)


def test_several_names_with_commas(heard):
    assert [type(sink).__name__ for sink in load_sinks("mine:Heard, mine:Breaks")] == [
        "Heard",
        "Breaks",
    ]
    assert load_sinks(None) == []


def test_tensorboard_writes_curves_that_read_back(tiny_file, tmp_path, monkeypatch):
    pytest.importorskip("tensorboardX", reason="the extra `tensorboard` is not installed")
    from tensorboardX.proto.event_pb2 import Event

    monkeypatch.chdir(tmp_path)
    result = sd.run(config_of(tiny_file, sinks="tensorboard"))
    (file,) = (tmp_path / "run" / "tensorboard").iterdir()
    points, data = {}, file.read_bytes()
    while data:  # records: length u64, its CRC u32, the event, its CRC u32
        (length,) = struct.unpack("<Q", data[:8])
        event = Event.FromString(data[12 : 12 + length])
        data = data[16 + length :]
        for value in event.summary.value:
            points.setdefault(value.tag, {})[event.step] = value.simple_value
    for key in ("loss", "test_accuracy", "bytes_up", "alive"):
        assert points[key] == {
            row["round"]: pytest.approx(row[key], rel=1e-6) for row in result.metrics
        }
