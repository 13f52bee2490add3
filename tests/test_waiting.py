"""Long rounds: what the estimate is made from, and lines of progress until the result is there."""

from types import SimpleNamespace

import pytest

import harness
import ssddl_jax as sd
from ssddl_jax.running import interrupts, waiting
from ssddl_jax.running.waiting import Pace, pace_of, wait_for
from ssddl_jax.simulation.schemes import words_made

FIELDS = {"participants": 20, "group_size": 12, "model": "linear", "devices": 1}


def simulated(**fields):
    config = sd.Config(**FIELDS | fields)
    data, model = harness.table_data(20, 40), harness.table_model(40)
    return config, sd.build_simulation(config, model, data, train=harness.table_train)


@pytest.mark.parametrize("dimension", [40, 10**8])
def test_a_small_group_is_timed_however_large_the_model(monkeypatch, dimension):
    """Full width would take as long as the round that it announces, and could not be stopped."""
    timed = []

    def times(scheme, share):
        timed.append(scheme)
        return 2.0, 4.0

    monkeypatch.setattr(waiting, "_times", times)
    monkeypatch.setattr(waiting, "LONG", 1)
    config, simulation = simulated(engine="pairwise", neighbours=4)
    scheme = simulation.recipe.scheme._replace(dimension=dimension)
    simulation = simulation._replace(recipe=simulation.recipe._replace(scheme=scheme))
    pace, (small,) = pace_of(config, simulation), timed
    assert pace.words == words_made("pairwise", config.rule_in_force, scheme)
    assert (small.size, small.neighbours) == (64, 63)
    assert small.dimension == min(dimension, 2**16)
    made = words_made("pairwise", config.rule_in_force, small)
    assert made < 2**29
    assert (pace.kernel_rate, pace.kernel_cpu_rate) == (made / 2, made / 4)


def test_the_rate_of_a_short_round_is_not_timed(monkeypatch):
    monkeypatch.setattr(waiting, "_times", None)
    assert pace_of(*simulated()) is None
    monkeypatch.setattr(waiting, "LONG", 1)
    assert pace_of(*simulated(protocol="plain")) is None


def test_a_really_timed_group(monkeypatch):
    """The small group that is timed must run: a sparse graph's, in either ring."""
    monkeypatch.setattr(waiting, "LONG", 1)
    monkeypatch.setattr(waiting, "_TURNS", 1)
    monkeypatch.setattr(waiting, "_GROUP", 8)
    config, simulation = simulated(ring_bits=64, neighbours=4, prg="chacha8")
    assert pace_of(config, simulation).kernel_rate > 0


@pytest.mark.parametrize(
    ("error", "runs"), [(KeyboardInterrupt(), True), (RuntimeError("out of memory"), False)]
)
def test_only_after_an_interrupt_a_program_still_runs(monkeypatch, error, runs):
    """The command then ends at once, without what Python does at its end. Short rounds, too."""

    def ends(_):
        raise error

    monkeypatch.setattr(waiting.jax, "block_until_ready", ends)
    monkeypatch.setattr(interrupts, "_computing", False)
    with pytest.raises(type(error)):
        wait_for([], None, print)
    assert interrupts.still_computing() is runs


def test_lines_until_the_result_is_there(monkeypatch):
    """One every 15 s; after the expected time no time left is claimed."""
    now = [0.0]
    clock = SimpleNamespace(
        monotonic=lambda: now[0], sleep=lambda s: now.__setitem__(0, now[0] + 5)
    )
    monkeypatch.setattr(waiting, "time", clock)
    result = [SimpleNamespace(is_ready=lambda: now[0] >= 50)]
    said = []
    assert wait_for(result, Pace(3500, 100.0, 1.0), said.append) is result
    assert said == [
        "sharing: 15 s, about 20 s left (estimate)",
        "sharing: 30 s, about 5 s left (estimate)",
        "sharing: 45 s, expected 35 s (estimate)",
    ]
