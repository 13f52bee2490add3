"""`ssddl compare` as a user sees it: table, JSON and picture; and the work that it counts."""

import json
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

import ssddl_jax as sd
from ssddl_jax.baselines import work
from ssddl_jax.cli import main
from ssddl_jax.config.config import Config
from ssddl_jax.config.protocols import PROTOCOLS
from ssddl_jax.measure.compare import comparison as compare
from ssddl_jax.measure.compare import work as works
from ssddl_jax.measure.compare.rows import DEFAULT, Contender, read_rows
from ssddl_jax.measure.compare.work import mean_round, measure
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


def secure(config):
    """(a member's cost, the server's, the plan) of a secure sum."""
    simulation = sd.build_simulation(config, None, sd.load_data(config))
    plan, scheme = simulation.plan, simulation.recipe.scheme
    kind = {"shamir": works.field_work, "secagg": works.secagg_work}
    cost = kind.get(config.rule_in_force.name, works.pair_work)
    return *cost(config, plan, scheme, mean_round(config, plan)), plan


@pytest.fixture
def untimed(monkeypatch):
    """Every part takes a second; nothing is compiled."""
    monkeypatch.setattr(works, "timed", lambda call, *arguments: 1.0)
    monkeypatch.setattr(works, "_secrets", lambda scheme: (1.0, 1.0))


def twenty(tiny_file, **fields):
    more = {"participants": 20, "group_size": "all", "max_dropout": 0.4, "devices": 1, **fields}
    return Config(data=str(tiny_file), model="linear", partition="resample:20", **more)


@pytest.mark.parametrize(
    "fields",
    [{}, {"dropout_rule": "reveal"}, {"dropout_rule": "shamir"}, {"protocol": "secagg"}],
    ids=str,
)
def test_a_round_that_nobody_survives_has_its_cost(untimed, tiny_file, fields):
    """Members share, and that is all; the server's part was divided by the survivors."""
    fields = {"threshold": 5, **fields}
    member, server, _ = secure(twenty(tiny_file, dropout=1.0, **fields))
    usual, _, _ = secure(twenty(tiny_file, **fields))
    assert member == usual
    assert (server.seconds, server.prg_words, server.operations) == (0.0, 0, 0)


def test_one_round_of_a_schedule_counts_as_one(untimed, tiny_file, tmp_path):
    """It doubled every round's shares: the plan holds the most that ever vanish."""
    path = tmp_path / "gone.csv"
    path.write_text("round,participant\n3,0\n3,1\n3,2\n")
    usual = twenty(tiny_file, rounds=40)
    bad = twenty(tiny_file, rounds=40, dropout_schedule=str(path))
    (once, _, plan), (member, _, _) = secure(usual), secure(bad)
    assert once.prg_words == 2 * 19 * plan.width
    assert member.prg_words == round(once.prg_words * 41 / 40)
    opened = secure(twenty(tiny_file, rounds=40, dropout_schedule=str(path), dropout_rule="reveal"))
    assert opened[1].prg_words == round(2 * 3 * 17 * plan.width / 40)
    work_ = measure(bad, sd.build_simulation(bad, None, sd.load_data(bad)), None, 1.0)
    assert work_.exchanges == (39 * 2 + 4) / 40


@pytest.mark.parametrize("transport", ["seeded", "explicit"])
@pytest.mark.parametrize("shares", ["directed", "paired"])
def test_the_members_words_are_all_words(untimed, tiny_file, transport, shares):
    """With transport explicit only the dealer draws."""
    config = twenty(tiny_file, transport=transport, shares=shares, neighbours=4)
    member, server, plan = secure(config)
    assert 20 * member.prg_words + server.prg_words == share_words(config, plan)


def test_training_is_timed_for_one_participant_alone(monkeypatch, make_tiny_data):
    """Side by side, four take less than four times as long: their rivals train in turn."""
    seen = []

    def timed(call, *arguments):
        seen.append(arguments[-1])
        return 3.0

    monkeypatch.setattr(works, "timed", timed)
    config = Config(model="linear", participants=20, group_size=8, tile_size=4, devices=1)
    data = make_tiny_data(20)
    assert works.training(sd.build_simulation(config, None, data), data) == 3.0
    assert [ids.shape for ids in seen] == [(1,)]
    assert seen[0].dtype == jnp.int32


def test_all_rows_have_the_same_training(compared):
    assert len({row["participant"]["train_seconds"] for row in compared[1]["rows"]}) == 1


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
    """All five vanish where two may: nothing is learned, and the table says why."""
    more = ("--protocols", "ssddl", "--seeds", "1", "--dropout", "1.0", "--json")
    assert play(tmp_path / "a", *more) == 0
    row = json.loads(capsys.readouterr().out)["rows"][0]
    assert (row["rounds_void"], row["rounds_exact"], row["rounds_in_all"]) == (2, 0, 2)
    assert "ssddl: 2 of 2 rounds were void" in (tmp_path / "a" / "compare.md").read_text()


@pytest.fixture
def replayed(compared, monkeypatch):
    """Rows that were trained before come again, unless `ends` names an exception for one."""
    rows, ends = {row["name"]: row for row in compared[1]["rows"]}, {}

    def one(row, seeds, train):
        if row.name in ends:
            raise ends[row.name]
        return SimpleNamespace(train_seconds=1.0, name=row.name)

    monkeypatch.setattr(compare, "_one", one)
    monkeypatch.setattr(compare, "as_json", lambda trained: rows[trained.name])
    monkeypatch.setattr(compare, "lens", lambda config: [])
    monkeypatch.setattr(compare, "check", lambda rows: None)
    return ends


def kept(out):
    """(rows, what is left of each: None, or why it is left out) of a folder's results."""
    assert (out / "compare.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    found = json.loads((out / "compare.json").read_text("utf-8"))
    return [(row["name"], row.get("left_out")) for row in found["rows"]]


def test_a_row_that_fails_loses_only_itself(replayed, tmp_path, capsys, play):
    replayed["snt"] = FloatingPointError("seed 0, round 1: updates are not finite")
    assert play(tmp_path / "a", "--protocols", "ssddl,snt,standalone", "--json") == 1
    told = capsys.readouterr()
    assert told.err.splitlines()[-1].startswith("error: row snt failed and is left out: seed 0")
    assert len(json.loads(told.out)["rows"]) == 3
    why = "failed: FloatingPointError: seed 0, round 1: updates are not finite"
    assert kept(tmp_path / "a") == [("ssddl", None), ("snt", why), ("standalone", None)]


def test_ctrl_c_loses_only_the_row_that_runs(replayed, tmp_path, capsys, play):
    replayed["standalone"] = KeyboardInterrupt()
    assert play(tmp_path / "a", "--protocols", "ssddl,snt,standalone,plain") == 1
    assert kept(tmp_path / "a") == [("ssddl", None), ("snt", None)]
    text = (tmp_path / "a" / "compare.md").read_text("utf-8")
    assert "- 2 of 4 rows: the others have not run." in text


def test_old_results_stay_until_a_row_is_there(replayed, tmp_path, capsys, play):
    assert play(tmp_path / "a", "--protocols", "ssddl") == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    for error, status in ((FloatingPointError("x"), 1), (sd.ConfigError("clip", 1, "no"), 2)):
        replayed.update(ssddl=error, snt=KeyboardInterrupt())
        for rows in ("ssddl", "snt"):
            found = play(tmp_path / "a", "--protocols", rows, "--overwrite")
            assert found == (status if rows == "ssddl" else 1)
            assert {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()} == before


def test_the_reference_is_refused_before_anything_is_trained(tmp_path, capsys, play):
    """In a file: the command line has no such flag. `plain` was trained first."""
    path = tmp_path / "c.toml"
    path.write_text('engine = "reference"\n')
    assert play(tmp_path / "a", "--config", str(path), "--protocols", "plain,ssddl") == 2
    assert "error: engine = reference: " in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


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
    rows = (
        Config(protocol="secagg", threshold=13),
        Config(fraction_bits=24, clip=3.0),
        Config(protocol="phong-lwe", clip=1e9),
        Config(local_optimizer="nowhere:mine", server_optimizer="nowhere:mine"),
    )
    for config in rows:
        with pytest.raises(KeyboardInterrupt):
            compare.lens(config)
        sd.build_simulation(seen[-1], None, sd.load_data(seen[-1]))


def test_the_lens_is_checked_before_anything_is_trained(monkeypatch, tiny_file):
    row = Contender("plain", twenty(tiny_file, protocol="plain"))
    compare.check([row])
    refused = twenty(tiny_file, fraction_bits=24, clip=300.0)
    monkeypatch.setattr(compare, "lens_config", lambda config: refused)
    with pytest.raises(sd.ConfigError, match="fraction_bits"):
        compare.check([row])
