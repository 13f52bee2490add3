"""A round of SecAgg or SecAgg+ from the messages on, in Python integers.

Source: Bonawitz et al. 2017; on a sparse graph Bell et al. 2020. Every share of both secrets is
dealt here, to the partners and oneself; holders answer; the server has their answers only.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ssddl_jax.reference.encoding import to_values, to_words
from ssddl_jax.reference.graph import neighbours_of
from ssddl_jax.reference.randomness import (
    PRIME,
    Words,
    chacha_block,
    derive_key,
    public_key,
    stream,
    tag,
)
from ssddl_jax.reference.settings import Settings
from ssddl_jax.reference.shamir import interpolate_at_zero, shamir_shares

SELF_MASK, MASK_KEY = 1, 2
Dealt = dict[tuple[int, int, int], Words]  # by member, kind of secret, holder: slots


@dataclass(frozen=True)
class SecAggRound:
    """A round as an all-seeing observer records it; lists over slots have n entries."""

    secrets: dict[int, list[Words]]  # by kind, per slot: both secrets; zeros of no member
    dealt: Dealt
    uploads: list[Words]  # of the survivors; zeros of the others
    opened: list[tuple[int, int, int]]  # (member, kind, holder) of every share opened
    kinds: list[int]  # per slot: the secret that was opened, or 0
    recovered: list[Words]  # per slot: by interpolation
    aggregate: Words
    digest: Words
    void: bool  # someone has fewer than t holders left: nothing is opened


def elements(chain: Words, a: int, b: int, name: bytes, attempt: int = 0) -> Words:
    """Eight residues mod 2^31 - 1: 31 bits of words 0..7, where that is p of 8..15, then 0."""
    block = [word & PRIME for word in chacha_block(chain, attempt, (a, b, tag(name)))]
    first = [block[8 + i] if block[i] == PRIME else block[i] for i in range(8)]
    return [word % PRIME for word in first]


def agreed_key(mine: Words, theirs: Words, first: int, second: int, attempt: int = 0) -> Words:
    """K_uv of two ids, from one's mask key and what stands for the other's public key."""
    both = [m ^ t for m, t in zip(mine, theirs, strict=True)]
    return derive_key(both, attempt, min(first, second), max(first, second), b"PAIR")


def secagg_round(
    settings: Settings,
    chain: Words,
    round: int,
    ids: Sequence[int],
    encoded: Sequence[Words],
    members: Sequence[int],
    survivors: Sequence[int],
) -> SecAggRound:
    """From messages, one a slot, to the survivors' sum. `members` (slots) share, `survivors` among
    them upload. Of the settings: seed, prg_rounds, ring_bits, neighbours, threshold.
    """
    n, t, bits = len(ids), settings.threshold, settings.ring_bits
    partners = neighbours_of(settings, public_key(settings.seed), round, 0, members, n)

    def mask(key: Words) -> list[int]:
        return to_values(stream(key, (0, 0, 0), len(encoded[0]), settings.prg_rounds), bits)

    # Both secrets of every member, and their shares.
    secrets = {kind: [[0] * 8 for _ in ids] for kind in (SELF_MASK, MASK_KEY)}
    dealt: Dealt = {}
    for u in members:
        for kind, name in ((SELF_MASK, b"SELF"), (MASK_KEY, b"MKEY")):
            secret = secrets[kind][u] = elements(chain, ids[u], 0, name)
            rows = [elements(chain, ids[u], 4 * c + kind, b"SECA") for c in range(1, t)]
            holders = [u, *partners[u]]
            shares = shamir_shares(secret, rows, [v + 1 for v in holders], PRIME)
            dealt |= {(u, kind, v): share for v, share in zip(holders, shares, strict=True)}

    # Uploads.
    keys = secrets[MASK_KEY]
    uploads = [[0] * len(encoded[0]) for _ in ids]
    for u in survivors:
        own = mask(secrets[SELF_MASK][u])
        sent = [x + b for x, b in zip(to_values(encoded[u], bits), own, strict=True)]
        for v in partners[u]:
            pads = mask(agreed_key(keys[u], keys[v], ids[u], ids[v]))
            sign = 1 if ids[v] < ids[u] else -1
            sent = [s + sign * pad for s, pad in zip(sent, pads, strict=True)]
        uploads[u] = to_words(sent, bits)

    # Holders that are left answer with one kind of share of every member.
    answers = {u: [v for v in sorted([u, *partners[u]]) if v in survivors] for u in members}
    void = len(survivors) < max(t, 2) or any(len(row) < t for row in answers.values())
    kinds, recovered = [0] * n, [[0] * 8 for _ in ids]
    opened: list[tuple[int, int, int]] = []
    summed = [0] * len(to_values(encoded[0], bits))
    if not void:
        for u in members:
            kinds[u] = SELF_MASK if u in survivors else MASK_KEY
            opened += [(u, kinds[u], v) for v in answers[u]]
            shares = [dealt[u, kinds[u], v] for v in answers[u][:t]]
            recovered[u] = interpolate_at_zero([v + 1 for v in answers[u][:t]], shares, PRIME)
        columns = zip(*(to_values(uploads[u], bits) for u in survivors), strict=True)
        summed = [sum(column) for column in columns]
        for u in members:
            if kinds[u] == SELF_MASK:
                summed = [s - b for s, b in zip(summed, mask(recovered[u]), strict=True)]
                continue
            for v in set(partners[u]) & set(survivors):
                pads = mask(agreed_key(recovered[u], keys[v], ids[u], ids[v]))
                sign = 1 if ids[u] < ids[v] else -1  # as v added it
                summed = [s - sign * pad for s, pad in zip(summed, pads, strict=True)]
    else:
        uploads = [[0] * len(encoded[0]) for _ in ids]
    digest = [
        sum((2 * s + 1) * a for s, a in enumerate(column)) % 2**32
        for column in zip(*uploads, strict=True)
    ]
    return SecAggRound(
        secrets, dealt, uploads, opened, kinds, recovered, to_words(summed, bits), digest, void
    )
