"""SecAgg and SecAgg+ in Python integers: the oracle of `core.sharing.secagg`."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import floor

from ssddl_jax.reference.encoding import to_values
from ssddl_jax.reference.graph import connected
from ssddl_jax.reference.randomness import PRIME, Words, chacha_block, derive_key, stream, tag
from ssddl_jax.reference.settings import Settings
from ssddl_jax.reference.shamir import interpolate_at_zero, shamir_shares

SELF_MASK, MASK_KEY = 1, 2
Values = dict[int, list[int]]  # by slot


@dataclass(frozen=True)
class Outcome:
    """The uploads, their sum after unmasking, and the secret of each member that was opened."""

    sent: Values
    summed: list[int]
    kinds: dict[int, int]
    secrets: Values


def elements(chain: Words, participant: int, index: int, purpose: bytes) -> Words:
    """Eight elements of F_p, drawn for one participant."""
    block = chacha_block(chain, 0, (participant, index, tag(purpose)))
    masked = [word & PRIME for word in block]
    pairs = zip(masked[:8], masked[8:], strict=True)
    return [first if first != PRIME else second % PRIME for first, second in pairs]


def recoverable(
    settings: Settings,
    partners: list[list[int]],
    members: Sequence[int],
    survivors: Sequence[int],
) -> bool:
    """Whether the server can remove all masks: every member has t holders left (its partners and
    itself), at least three survive, and they are connected. On a ring no more may vanish than
    max_dropout allows.
    """
    slots, needed = len(partners), max(3, settings.threshold)
    if settings.neighbours < slots - 1:
        needed = max(needed, slots - floor(Fraction(settings.max_dropout) * slots))
    left = [sum(holder in survivors for holder in [u, *partners[u]]) for u in members]
    many = len(survivors) >= needed
    return many and all(n >= settings.threshold for n in left) and connected(partners, survivors)


def secagg(
    settings: Settings,
    chain: Words,
    ids: list[int],
    messages: Values,
    partners: list[list[int]],
    survivors: Sequence[int],
) -> Outcome:
    """One round from the messages on. The keys of `messages` are the members' slots."""
    bits, t = settings.ring_bits, settings.threshold
    seeds = {u: elements(chain, ids[u], 0, b"SELF") for u in messages}
    mask_keys = {u: elements(chain, ids[u], 0, b"MKEY") for u in messages}

    def mask(key: Words) -> list[int]:
        count = len(next(iter(messages.values()))) * bits // 32
        return to_values(stream(key, (0, 0, 0), count, settings.prg_rounds), bits)

    def agreed(first: Words, second: Words, u: int, v: int) -> Words:
        both = [a ^ b for a, b in zip(first, second, strict=True)]
        low, high = sorted((ids[u], ids[v]))
        return derive_key(both, 0, low, high, b"PAIR")

    def plus(total: list[int], addend: list[int], sign: int) -> list[int]:
        return [x + sign * y for x, y in zip(total, addend, strict=True)]

    sent = {}
    for u, message in messages.items():
        held = plus(message, mask(seeds[u]), 1)
        for v in partners[u]:
            sign = 1 if ids[v] < ids[u] else -1
            held = plus(held, mask(agreed(mask_keys[u], mask_keys[v], u, v)), sign)
        sent[u] = held

    # The server recovers one secret of each member from t shares, then removes the masks.
    summed = [sum(column) for column in zip(*(sent[u] for u in survivors), strict=True)]
    kinds, opened = {}, {}
    for u in messages:
        kinds[u] = SELF_MASK if u in survivors else MASK_KEY
        secret = seeds[u] if u in survivors else mask_keys[u]
        rows = [elements(chain, ids[u], 4 * degree + kinds[u], b"SECA") for degree in range(1, t)]
        points = [h + 1 for h in [u, *partners[u]] if h in survivors][:t]
        opened[u] = interpolate_at_zero(points, shamir_shares(secret, rows, points, PRIME), PRIME)
    for u in messages:
        if kinds[u] == SELF_MASK:
            summed = plus(summed, mask(opened[u]), -1)
            continue
        for v in set(partners[u]) & set(survivors):
            sign = 1 if ids[u] < ids[v] else -1
            summed = plus(summed, mask(agreed(opened[u], mask_keys[v], u, v)), -sign)
    return Outcome(sent, summed, kinds, opened)
