"""Dropout rules: when a round is valid, what survivors send, and how the server forms the sum."""

from collections.abc import Callable
from fractions import Fraction
from math import floor
from typing import NamedTuple

from ssddl_jax.reference.encoding import lift, to_values
from ssddl_jax.reference.graph import connected
from ssddl_jax.reference.randomness import PRIME, Words, derive_key, field_words, stream
from ssddl_jax.reference.secagg import recoverable, secagg
from ssddl_jax.reference.settings import Settings
from ssddl_jax.reference.shamir import interpolate_at_zero, shamir_shares

Values = dict[int, list[int]]  # by slot


class Sharers(NamedTuple):
    """Who shares with whom in a round's final attempt; all by slot."""

    attempt: int
    ids: list[int]
    partners: list[list[int]]
    members: list[int]  # slots with finite updates
    survivors: list[int]  # the members who upload


class Rule(NamedTuple):
    """A dropout rule.

    `valid(settings, sharers)`: whether the round is not void.
    `share(settings, chain, messages, sharers)`: what the survivors send, and the sum.
    """

    valid: Callable[[Settings, Sharers], bool]
    share: Callable[[Settings, Words, Values, Sharers], tuple[Values, list[int]]]
    retries: bool = False  # if members vanish, the rest share again in attempt 1
    holds_sharers: bool = False  # the sum contains all members, not only the survivors
    needs_threshold: bool = False
    field: bool = False  # shares live in the prime field, not in the ring
    complete: bool = False  # needs the complete graph
    ideal: bool = False  # engine ideal can draw its uploads


def _enough(settings: Settings, sharers: Sharers) -> bool:
    """At most max_dropout vanish, and the survivors are connected."""
    n = len(sharers.ids)
    needed = max(3, n - floor(Fraction(settings.max_dropout) * n))
    return len(sharers.survivors) >= needed and connected(sharers.partners, sharers.survivors)


def _t_uploads(settings: Settings, sharers: Sharers) -> bool:
    """At least t uploads, and a sum of at least so many updates."""
    t = settings.threshold
    return len(sharers.survivors) >= t and len(sharers.members) >= max(settings.least_summed, t)


def _t_holders(settings: Settings, sharers: Sharers) -> bool:
    return recoverable(settings, sharers.partners, sharers.members, sharers.survivors)


def _pairs(
    settings: Settings, chain: Words, messages: Values, sharers: Sharers
) -> tuple[Values, list[int]]:
    """Uploads with all pair shares; their sum, without the pads shared with vanished members."""
    _, ids, partners, _, survivors = sharers

    def share(dealer: int, holder: int) -> list[int]:
        """s_{dealer -> holder}; zeros if paired sharing deals only the other way."""
        if settings.shares == "paired" and ids[dealer] > ids[holder]:
            return [0] * len(messages[dealer])
        key = derive_key(chain, sharers.attempt, ids[dealer], ids[holder], b"PAIR")
        count = len(messages[dealer]) * settings.ring_bits // 32
        return to_values(stream(key, (0, 0, 0), count, settings.prg_rounds), settings.ring_bits)

    held = {slot: list(message) for slot, message in messages.items()}
    for dealer in messages:
        for holder in partners[dealer]:
            dealt = share(dealer, holder)
            held[dealer] = [h - s for h, s in zip(held[dealer], dealt, strict=True)]
            held[holder] = [h + s for h, s in zip(held[holder], dealt, strict=True)]
    summed = [sum(column) for column in zip(*(held[i] for i in survivors), strict=True)]
    for i in survivors:
        for lost in set(partners[i]) - set(survivors):  # rule reveal opens these pads
            pads = zip(summed, share(i, lost), share(lost, i), strict=True)
            summed = [a + out - received for a, out, received in pads]
    return held, summed


def _shamir(
    settings: Settings, chain: Words, messages: Values, sharers: Sharers
) -> tuple[Values, list[int]]:
    """Survivor j sends sum_i f_i(j + 1) over all dealers i; the sum is sum_i f_i(0), lifted."""
    points = [slot + 1 for slot in sharers.survivors]
    sent: Values = {}
    for i, message in messages.items():
        keys = [
            derive_key(chain, 0, sharers.ids[i], c, b"SHAM") for c in range(1, settings.threshold)
        ]
        rows = [field_words(key, len(message), settings.prg_rounds) for key in keys]
        secret = [lift(value, 2**32) for value in message]
        shares = shamir_shares(secret, rows, points, PRIME)
        for j, share in zip(sharers.survivors, shares, strict=True):
            held = sent.get(j, [0] * len(share))
            sent[j] = [(h + s) % PRIME for h, s in zip(held, share, strict=True)]
    t = settings.threshold
    total = interpolate_at_zero(points[:t], [sent[j] for j in sharers.survivors[:t]], PRIME)
    return sent, [lift(value, PRIME) for value in total]


def _secagg(
    settings: Settings, chain: Words, messages: Values, sharers: Sharers
) -> tuple[Values, list[int]]:
    _, ids, partners, _, survivors = sharers
    outcome = secagg(settings, chain, ids, messages, partners, survivors)
    return outcome.sent, outcome.summed


def ideal(
    settings: Settings, chain: Words, messages: Values, sharers: Sharers
) -> tuple[Values, list[int]]:
    """Uniform uploads with the right sum: all but the last are drawn, the last completes it."""
    summed = [sum(column) for column in zip(*messages.values(), strict=True)]
    *drawn, last = messages
    rest, sent, bits = summed, {}, settings.ring_bits
    for i in drawn:
        key = derive_key(chain, sharers.attempt, sharers.ids[i], 0, b"IDEA")
        words = stream(key, (0, 0, 0), len(summed) * bits // 32, settings.prg_rounds)
        sent[i] = to_values(words, bits)
        rest = [r - u for r, u in zip(rest, sent[i], strict=True)]
    sent[last] = rest
    return sent, summed


RULES = {
    "retry": Rule(_enough, _pairs, retries=True, ideal=True),
    "reveal": Rule(_enough, _pairs),
    "shamir": Rule(
        _t_uploads, _shamir, holds_sharers=True, needs_threshold=True, field=True, complete=True
    ),
    "secagg": Rule(_t_holders, _secagg, needs_threshold=True),
}
