"""Predicts a run's counters, such as its bytes and void rounds, before anything is compiled.

Who vanishes, who shares with whom and who is in the group follow from public randomness, so they
are replayed here, on the host. Every update is assumed to be finite. The secret chain is not used.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ssddl_jax import reference
from ssddl_jax.config.config import Config
from ssddl_jax.config.dropout_schedule import read_schedule
from ssddl_jax.config.protocols import protocol_of
from ssddl_jax.planning.network import messages
from ssddl_jax.planning.plan import Plan, Traffic, traffic

_SELE, _DROP, _GRPH = (int.from_bytes(tag, "little") for tag in (b"SELE", b"DROP", b"GRPH"))
_REPLAYED = 2000  # most rounds that are replayed one by one
_NOBODY = 0xFFFFFFFF  # the nonce word of what belongs to no participant


class Outcome(NamedTuple):
    """What happens in a round, apart from its numbers."""

    vanished: int
    attempt: int  # the final one
    opened: int  # pair keys, or shares of secrets, opened to the server
    void: bool


class Forecast(NamedTuple):
    """Totals over a run's rounds; bytes are of all members."""

    rounds: int
    up: int
    down: int
    peers: int
    messages: int  # sequential ones of a member, over all rounds
    void: int  # rounds
    most_vanished: int  # most members that vanish in one round
    attempts: int  # in total; one per round if nobody vanishes
    absent: int  # entries of the dropout schedule whose participant is not in that round's group
    replayed: int | None  # rounds that represent all; None if all were counted

    def each(self, total: int, members: int) -> int | float:
        """A total per member and round; an integer if it divides evenly."""
        count = members * self.rounds
        return total // count if total % count == 0 else total / count


def forecast(config: Config, plan: Plan) -> Forecast:
    """The counters of `run`; exact if every update is finite and all rounds were counted."""
    expected, absent = outcomes(config, plan)
    known = sum(times for _, times in expected)

    def total(count: Callable[[Outcome], int]) -> int:
        return sum(times * count(outcome) for outcome, times in expected) * config.rounds // known

    return Forecast(
        rounds=config.rounds,
        up=total(lambda outcome: _traffic(config, plan, outcome).up),
        down=total(lambda outcome: _traffic(config, plan, outcome).down),
        peers=total(lambda outcome: _traffic(config, plan, outcome).peers),
        messages=total(lambda outcome: messages_of(config, outcome)),
        void=total(lambda outcome: outcome.void),
        most_vanished=max(outcome.vanished for outcome, _ in expected),
        attempts=total(lambda outcome: outcome.attempt + 1),
        absent=absent,
        replayed=known if known < config.rounds else None,
    )


def _traffic(config: Config, plan: Plan, outcome: Outcome) -> Traffic:
    return traffic(
        config,
        plan,
        members=plan.size,
        alive=plan.size - outcome.vanished,
        attempt=outcome.attempt,
        opened=outcome.opened,
        void=outcome.void,
    )


def messages_of(config: Config, outcome: Outcome) -> int:
    """Sequential messages of a member's round."""
    return messages(config, lost=outcome.vanished > 0, void=outcome.void)


def outcomes(config: Config, plan: Plan) -> tuple[list[tuple[Outcome, int]], int]:
    """The outcomes of the rounds, with the number of rounds of each; and `absent`."""
    sparse = plan.neighbours < plan.size - 1
    replays = config.sums_securely and bool(config.rule_in_force.opens)
    public = reference.public_key(config.seed)
    rounds, absent = config.rounds, 0
    if config.dropout_schedule is not None:
        listed = {r: ids for r, ids in sorted(read_schedule(config).items()) if r < rounds}
        gone = {r: _scheduled(config, public, r, ids) for r, ids in listed.items()}
        absent = sum(len(ids) - len(gone[r]) for r, ids in listed.items())
    elif replays and sparse and plan.vanishing:
        rounds = min(rounds, _REPLAYED)
        gone = {r: _dropped(config, plan, public, r) for r in range(rounds)}
    else:  # the cost does not depend on who vanishes
        return [(_outcome(config, plan, public, 0, np.arange(plan.vanishing)), rounds)], 0
    expected = [(_outcome(config, plan, public, r, slots), 1) for r, slots in gone.items()]
    quiet = rounds - len(expected)
    expected += [(_outcome(config, plan, public, 0, np.arange(0)), quiet)] * (quiet > 0)
    return expected, absent


def _outcome(
    config: Config, plan: Plan, public: list[int], round_: int, gone: np.ndarray
) -> Outcome:
    """The outcome of a round in which the slots `gone` vanish after sharing."""
    lost, alive = len(gone), plan.size - len(gone)
    if protocol_of(config).reference:
        return Outcome(0, 0, 0, False)
    if not config.sums_securely:
        return Outcome(lost, 0, 0, alive < plan.least_alive)
    rule, void = config.rule_in_force, alive < plan.least_alive
    if rule.opens == "secrets":
        return _secrets(config, plan, public, round_, gone)
    if not rule.opens:
        return Outcome(lost, int(lost > 0 and rule.retries), 0, void)
    ends = 1 if config.paired else 2
    if plan.neighbours >= plan.size - 1 or not lost:
        return Outcome(lost, 0, ends * lost * alive, void)
    words = _words(public, (round_, 0, _GRPH), plan.size)
    away = np.isin(np.argsort(words, kind="stable"), gone)  # by position in the ring
    edges = sum(
        int(np.sum(away != np.roll(away, distance)))
        for distance in range(1, plan.neighbours // 2 + 1)
    )
    return Outcome(lost, 0, ends * edges, void or _cut(away, plan.neighbours // 2))


def _secrets(
    config: Config, plan: Plan, public: list[int], round_: int, gone: np.ndarray
) -> Outcome:
    """SecAgg opens one secret of every member, which needs t surviving holders of each and a
    connected graph.
    """
    lost, alive, need = len(gone), plan.size - len(gone), plan.threshold
    if plan.neighbours >= plan.size - 1 or not lost:
        void = alive < plan.least_alive
        return Outcome(lost, 0, 0 if void else (plan.neighbours + 1) * alive, void)
    words = _words(public, (round_, 0, _GRPH), plan.size)
    here = ~np.isin(np.argsort(words, kind="stable"), gone)  # by position in the ring
    reach = range(-(plan.neighbours // 2), plan.neighbours // 2 + 1)  # 0: itself
    holders = sum(np.roll(here, distance).astype(int) for distance in reach)
    void = bool(np.min(holders) < need) or alive < plan.least_alive
    void = void or _cut(~here, plan.neighbours // 2)
    return Outcome(lost, 0, 0 if void else int(np.sum(holders)), void)


def _cut(away: np.ndarray, reach: int) -> bool:
    """Whether a ring without `away` falls apart: it has two gaps wider than `reach`."""
    present = np.flatnonzero(~away)
    gaps = np.diff(np.append(present, present[:1] + len(away)))
    return bool(np.sum(gaps > reach) > 1)


def _dropped(config: Config, plan: Plan, public: list[int], round_: int) -> np.ndarray:
    """The slots that vanish by the dropout rate."""
    words = _words(public, (round_, _NOBODY, _DROP), config.group)
    return np.argsort(words, kind="stable")[: plan.vanishing]


def _scheduled(config: Config, public: list[int], round_: int, ids: set[int]) -> np.ndarray:
    """The slots of the round's group whose participants the schedule names."""
    everybody, size = config.participants, config.group
    if size == everybody:
        return np.array(sorted(ids))
    draw, turn = round_, 0
    if config.selection == "rotate":
        draw, turn = divmod(round_, everybody // size)
    order = np.argsort(_words(public, (draw, _NOBODY, _SELE), everybody), kind="stable")
    return np.flatnonzero(np.isin(order[turn * size : (turn + 1) * size], sorted(ids)))


def _words(public: list[int], nonce: tuple[int, int, int], count: int) -> np.ndarray:
    """Public words, u32 [count]."""
    return np.array(reference.stream(public, nonce, count), np.uint32)
