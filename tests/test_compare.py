"""`ssddl compare` as a user sees it: table, JSON and picture; and the work that it counts."""

import json

import numpy as np
import pytest

import ssddl_jax as sd
from ssddl_jax.baselines import work
from ssddl_jax.cli import main
from ssddl_jax.config.config import Config
from ssddl_jax.config.protocols import PROTOCOLS
from ssddl_jax.measure.compare import comparison as compare
from ssddl_jax.measure.compare.rows import DEFAULT, read_rows
from ssddl_jax.measure.compare.work import measure
from ssddl_jax.planning.forecast import forecast
from ssddl_jax.planning.plan import share_words
from ssddl_jax.simulation.seeds import run_seeds

SMALL = "--model linear --participants 20 --group-size 5 --rounds 2 --partition resample:20"
SMALL += " --max-dropout 0.4"
ROWS = "ssddl,secagg+,dssgd:0.1,snt,standalone"


@pytest.fixture(scope="module", autouse=True)
def _quick_clocks():
    """Three calls for each time that is measured: the times themselves are not looked at."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work, "_SECONDS", 0.0)
        yield


@pytest.fixture(scope="module")
def play(tiny_file):
    """(directory, more arguments) -> exit status, on tiny images."""
    data = ("--data", str(tiny_file))
    return lambda out, *more: main(["compare", *SMALL.split(), *data, "--out", str(out), *more])


@pytest.fixture(scope="module")
def compared(tmp_path_factory, play):
    """The directory, what its JSON says, and what was trained: (config, seeds, result)."""
    out, trained = tmp_path_factory.mktemp("compare") / "c", []

    def listening(config, seeds, *more, **fields):
        trained.append((config, list(seeds), run_seeds(config, seeds, *more, **fields)))
        return trained[-1][2]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compare, "run_seeds", listening)
        assert play(out, "--protocols", ROWS, "--seeds", "2", "--dropout", "0.4") == 0
    return out, json.loads((out / "compare.json").read_text()), trained


def test_every_protocol_is_a_default_row():
    rows = read_rows(DEFAULT, Config())
    assert {row.config.protocol for row in rows} == set(PROTOCOLS)
    thetas = [r.config.dssgd_theta_u for r in rows if r.config.protocol == "dssgd"]
    assert thetas == [1.0, 0.1, 0.01]


def test_numbers_are_those_of_the_parts(compared, tiny_file):
    _, result, trained = compared
    assert [row["name"] for row in result["rows"]] == ROWS.split(",")
    config = Config(
        data=str(tiny_file),
        model="linear",
        participants=20,
        group_size=5,
        rounds=2,
        partition="resample:20",
        max_dropout=0.4,
        dropout=0.4,
    )
    rows = read_rows(ROWS, config)
    for row, made, (played, numbers, seeds) in zip(rows, result["rows"], trained, strict=True):
        plan = sd.build_simulation(row.config, None, sd.load_data(row.config)).plan
        ahead = forecast(row.config, plan)
        assert made["bytes_up"] == ahead.up / (5 * 2)
        assert made["share_words"] == share_words(row.config, plan)
        assert (made["rounds_exact"] is None) == (not row.config.sums_securely)
        assert (played, numbers) == (row.config, [0, 1])
        assert made["accuracy_of_each_seed"] == seeds.accuracy[:, -1].tolist()
        assert made["accuracy"] == pytest.approx(seeds.accuracy[:, -1].mean())
        if row.config.sums_securely:
            assert made["rounds_exact"] == int(np.sum(seeds.exact)) > 0
            assert made["rounds_void"] == int(np.sum(seeds.void))
            assert made["rounds_exact"] + made["rounds_void"] == made["rounds_in_all"]


@pytest.mark.slow
def test_words_by_role_add_up():
    """Nobody vanishes: the members' words and the server's are all parties' words."""
    config = Config(model="linear", participants=20, group_size=5, partition="resample:20")
    for row in read_rows("ssddl,ssddl:shamir,secagg,secagg+,plain", config):
        data = sd.load_data(row.config)
        simulation = sd.build_simulation(row.config, None, data)
        done = measure(row.config, simulation, data)
        words = 5 * done.participant.prg_words + done.server.prg_words
        assert words == share_words(row.config, simulation.plan)
        assert done.participant.train_seconds > 0
        assert done.depth == 1


def test_files_and_what_they_say(compared, capsys):
    out, result, _ = compared
    text = (out / "compare.md").read_text()
    for row in result["rows"]:
        assert text.count(f"| {row['name']} |") == 3
        assert f"{row['accuracy']:.4f} +- " in text
    assert (out / "compare.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    by_name = {row["name"]: row for row in result["rows"]}
    assert by_name["snt"]["serial_depth"] == 5
    assert by_name["ssddl"]["serial_depth"] == 1
    lens = [(found["colluders"], found["determined"]) for found in result["lens"]]
    assert lens == [(0, 0), (3, 0), (4, 1)]


def test_json_is_one_object_and_out_is_not_overwritten(tmp_path, capsys, play):
    assert play(tmp_path / "a", "--protocols", "plain", "--seeds", "1", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["rows"][0]["half_width_95"] is None
    assert told["rows"][0]["survives"] == "2 of 5"  # beyond max_dropout a round is void
    assert play(tmp_path / "a", "--protocols", "plain", "--seeds", "1") == 2
    assert "overwrite" in capsys.readouterr().err


def test_void_rounds_are_told(tmp_path, capsys, play):
    """Four of five vanish where two may: nothing is learned, and the table says why."""
    more = ("--protocols", "ssddl", "--seeds", "1", "--dropout", "0.8", "--json")
    assert play(tmp_path / "a", *more) == 0
    row = json.loads(capsys.readouterr().out)["rows"][0]
    assert (row["rounds_void"], row["rounds_exact"], row["rounds_in_all"]) == (2, 0, 2)
    assert "ssddl: 2 of 2 rounds were void" in (tmp_path / "a" / "compare.md").read_text()


def test_a_row_without_its_extra_is_left_out(tmp_path, monkeypatch, capsys, play):
    from ssddl_jax.baselines import paillier

    monkeypatch.setattr(paillier, "installed", lambda: False)
    rows = "plain,phong-paillier"
    assert play(tmp_path / "a", "--protocols", rows, "--seeds", "1", "--json") == 0
    left = json.loads(capsys.readouterr().out)["rows"][1]
    assert "extra paillier" in left["left_out"]
    assert "left out" in (tmp_path / "a" / "compare.md").read_text()


@pytest.mark.slow
def test_ciphertexts_of_a_slice_are_exact(tmp_path, capsys, play):
    rows = "phong-lwe,phong-paillier"
    assert play(tmp_path / "a", "--protocols", rows, "--seeds", "1", "--json") == 0
    for row in json.loads(capsys.readouterr().out)["rows"]:
        assert row["ciphertexts_exact"]
        assert row["participant"]["protect_seconds"] > row["participant"]["train_seconds"]


def test_the_lens_looks_at_a_small_round_whatever_the_rows_are(monkeypatch):
    """What the rows have need not fit six members: all that they trained would be lost."""
    seen = []

    def transcript(config, number):
        seen.append(config)
        raise KeyboardInterrupt

    monkeypatch.setattr(compare, "transcript", transcript)
    rows = Config(protocol="secagg", threshold=13), Config(fraction_bits=24, clip=3.0)
    for config in rows:
        with pytest.raises(KeyboardInterrupt):
            compare.lens(config)
        sd.build_simulation(seen[-1], None, sd.load_data(seen[-1]))
