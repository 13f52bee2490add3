"""Counters equal what is really sent: void rounds, sequential messages, keys, re-encryption."""

import importlib
import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import independent
import ssddl_jax as sd
from ssddl_jax.baselines.phong import encrypted
from ssddl_jax.baselines.work import Cost
from ssddl_jax.config.config import Config
from ssddl_jax.config.protocols import notes
from ssddl_jax.measure.compare.work import in_order
from ssddl_jax.planning.forecast import forecast
from ssddl_jax.planning.guarantees import guarantees_of
from ssddl_jax.planning.key_agreement import key_agreement
from ssddl_jax.planning.network import messages
from ssddl_jax.planning.plan import traffic
from ssddl_jax.planning.report import plan_report
from ssddl_jax.privacy.messages import SERVER, Header, sealed

n, D = 6, 7851
BASE = Config(
    model="linear",
    partition="resample:4",
    participants=n,
    group_size="all",
    rounds=1,
    threshold=4,
    max_corrupt=0.0,
    max_dropout=0.34,
    devices=1,
)
RULES = [
    {"dropout_rule": "retry"},
    {"dropout_rule": "retry", "transport": "explicit"},
    {"dropout_rule": "retry", "transport": "explicit", "shares": "paired"},
    {"dropout_rule": "retry", "transport": "explicit", "neighbours": 2},
    {"dropout_rule": "reveal"},
    {"dropout_rule": "reveal", "shares": "paired", "neighbours": 2},
    {"dropout_rule": "reveal", "transport": "explicit"},
    {"dropout_rule": "shamir"},
]


def plan_of(config):
    return sd.build_simulation(config, None, sd.load_data(config)).plan


def header_of(config, plan, gone, void):
    """The public facts of the round in which these slots vanish."""
    public = independent.public_of(config.seed)
    alive = [slot for slot in range(n) if slot not in gone]
    tables = []
    for attempt, present in enumerate([list(range(n)), alive]):
        ring = independent.ring_partners(public, 0, attempt, present, plan.neighbours, n)
        tables.append(np.array([row + [-1] * (n - len(row)) for row in ring], np.int32))
    retried = config.rule_in_force.attempts > 1 and bool(gone) and not void
    return Header(
        group=np.arange(n, dtype=np.int32),
        finite=np.ones(n, bool),
        alive=np.isin(np.arange(n), alive),
        partners=tuple(tables[: 1 + retried]),
        dropout_rule=config.rule_in_force.name,
        shares=config.shares,
        threshold=plan.threshold,
        ring_bits=32,
        void=void,
        engine="pairwise",
        transport=config.transport,
    )


@pytest.mark.parametrize("fields", RULES, ids=lambda f: "-".join(map(str, f.values())))
def test_bytes_are_those_of_the_messages_that_travel(fields, tmp_path):
    """Every set of members that vanish, void rounds among them."""
    config = replace(BASE, **fields)
    plan, voids = plan_of(config), 0
    for gone in (set(s) for m in range(n) for s in itertools.combinations(range(n), m)):
        path = tmp_path / "gone.csv"
        path.write_text("\n".join(["round,participant", *(f"0,{i}" for i in gone)]) + "\n")
        ahead = forecast(replace(config, dropout_schedule=str(path)), plan)
        header = header_of(config, plan, gone, bool(ahead.void))
        up = down = 0
        for message, words in sealed(header, [], plan.width, plan.dimension).items():
            up += 4 * words * (message.sender != SERVER)
            down += 4 * words * (message.receiver != SERVER)
        assert (ahead.up, ahead.down) == (up, down), gone
        voids += ahead.void
    assert voids


def test_nothing_is_sent_where_too_few_can_share():
    plan = plan_of(BASE)
    for fields in RULES:
        for alive in (2, 1):  # also if one of the two would have vanished
            least = {"members": 2, "alive": alive, "attempt": 0, "void": True}
            moved = traffic(replace(BASE, **fields), plan, **least)
            assert moved == (0, 4 * plan.dimension * n, 0)


def test_messages_that_wait_for_one_another():
    def count(lost=False, void=False, **fields):
        return messages(replace(BASE, **fields), lost=lost, void=void)

    assert count() == 2
    assert count(transport="explicit") == 3
    assert count(lost=True) == 4
    assert count(lost=True, transport="explicit") == 6
    assert count(lost=True, dropout_rule="reveal") == 4
    assert count(lost=True, dropout_rule="shamir") == count(dropout_rule="shamir") == 3
    # The model; keys up and down; shares up and down; the upload; who is left; opened shares.
    assert count(protocol="secagg") == count(protocol="secagg", lost=True) == 8
    assert count(protocol="plain") == count(protocol="snt", lost=True) == 2
    assert count(protocol="standalone") == count(protocol="central") == 0
    # Void: what would follow the uploads does not; nor, if too few can share, do they.
    assert count(lost=True, void=True) == 2
    assert count(lost=True, void=True, dropout_rule="reveal", transport="explicit") == 3
    assert count(lost=True, void=True, protocol="secagg") == 6
    assert count(void=True) == count(void=True, protocol="secagg") == 1


@pytest.mark.parametrize("protocol", ["ssddl", "secagg", "secagg+", "snt", "phong-lwe", "plain"])
def test_keys_are_counted_the_same_way_for_everybody(protocol):
    more = {"neighbours": 4, "threshold": 2} if protocol == "secagg+" else {}
    config = replace(BASE, protocol=protocol, participants=20, group_size=10, rounds=8, **more)
    k = more.get("neighbours", 9)
    keys = key_agreement(config, 100, k)
    public = 3000 * 100 * 77 // 8
    want = {
        "ssddl": (32, 32 * 19, 8, False),
        "secagg": (64, 64 * 9, 1, True),
        "secagg+": (64, 64 * 4, 1, True),
        "snt": (0, 32, 8, False),
        "phong-lwe": (0, public, 8, False),
        "plain": (0, 0, 8, False),
    }
    assert keys == want[protocol]
    # All bytes of keys in the run, over all that take part in its rounds.
    times = 10 * 8 if keys.counted else 20
    assert keys.a_round(20, 10) == (keys.up + keys.down) * times / (10 * 8)


def test_secaggs_bytes_hold_its_keys_and_ssddls_do_not():
    secagg = replace(BASE, protocol="secagg")
    report, ours = plan_report(secagg), plan_report(BASE)
    assert ours["key_agreement"]["counted"] is False
    assert ours["bytes_up_per_participant"] == 4 * D
    assert report["key_agreement"]["counted"] is True
    # Keys and shares down, besides the model: two of 256 bits each, of every partner.
    assert report["bytes_down_per_participant"] == 4 * (D - 1) + 2 * 2 * 32 * (n - 1)
    assert report["key_agreement"]["down"] == 2 * 32 * (n - 1)


@pytest.mark.parametrize(("rounds", "bytes_"), [(1, 12_800), (2, 6_400), (8, 1_600)])
def test_keys_of_everybody_are_spread_over_the_members_of_all_rounds(rounds, bytes_):
    """Also of one round: 100 agree with 99 others, and 25 take part."""
    keys = key_agreement(replace(BASE, participants=100, rounds=rounds), 10, 24)
    assert keys.a_round(100, 25) == bytes_


def test_a_round_under_encryption_encrypts_the_model_anew():
    config = replace(BASE, protocol="phong-lwe")
    plan = plan_of(config)
    member, server = Cost(1.0, 10.0), Cost(0.0, 2.0)
    made = in_order(config, encrypted(member, server, plan.dimension, 256, 7.0, True))
    assert made.seconds == 6 * 11.0 + 7.0 + 2.0
    assert made.exchanges == 2 * 6 + 1
    assert "re-encrypts" in made.note


def test_phongs_members_take_turns_and_compare_says_so():
    """The source's work at the same time: 11 s of one, the model's encryption, the server."""
    made = encrypted(Cost(1.0, 10.0), Cost(0.0, 2.0), 100, 100, 7.0, True)
    assert "if all members worked at once, a round would take 20 s" in made.note
    for protocol in ("phong-lwe", "phong-paillier"):
        (note,) = notes(replace(BASE, protocol=protocol), 1, 100)
        assert "members take turns (our choice)" in note
        assert "asynchronous" in note


def test_the_benchmark_of_dropouts_tolerates_as_many_colluders_as_it_says(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parent.parent / "benchmarks"))
    threshold_of = importlib.import_module("dropouts").threshold_of
    for members in (100, 1000):
        least = threshold_of(members)
        for threshold in (least, least - 1):
            config = Config(
                protocol="secagg",
                participants=members,
                group_size="all",
                threshold=threshold,
                max_dropout=0.3,
            )
            most = guarantees_of(config).max_colluders
            assert (most >= members // 10) is (threshold == least)


def test_the_benchmarks_page_says_on_which_processor_each_file_was_measured():
    benchmarks = Path(__file__).resolve().parent.parent / "benchmarks"
    page = (benchmarks / "README.md").read_text()
    machine = page[page.index("Machine: ") : page.index("| file | question |")]
    usual, others = machine.split("Each result", 1)
    assert "AMD EPYC" in usual
    for path in (benchmarks / "results").rglob("*.json"):
        found = json.loads(path.read_text())
        named = found.get("machine", {}).get("cpu") or found["device"]
        folder = "" if path.parent.name == "results" else f"{path.parent.name}/"
        listed = f"`{folder or path.name}`" in others
        assert listed == ("AMD EPYC" not in named), path.name
