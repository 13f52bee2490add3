"""A round from the updates on (docs/protocol.md, sections 5 and 6), in Python integers."""

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import floor, isfinite
from typing import Any

import numpy as np

from ssddl_jax.reference.encoding import decode, encode, lift, to_values, to_words
from ssddl_jax.reference.graph import connected, neighbours_of
from ssddl_jax.reference.randomness import (
    PRIME,
    Words,
    derive_key,
    field_words,
    public_key,
    rounding_noise,
    stream,
)
from ssddl_jax.reference.secagg import recoverable, secagg
from ssddl_jax.reference.settings import Settings, check
from ssddl_jax.reference.shamir import interpolate_at_zero, shamir_shares

VOID_DIGEST = "0" * 64
Values = dict[int, list[int]]  # by slot


@dataclass(frozen=True)
class Round:
    """One round as an all-seeing observer records it; lists over slots have n entries."""

    attempt: int  # the final one
    alive: list[bool]  # per slot: finite and not vanished
    neighbours: list[list[int]]  # per slot: partners' global ids in the final attempt
    encoded: list[Words]  # per slot: the message; zeros where the update was not finite
    uploads: list[Words]  # per slot: what the server received; zeros where not alive
    aggregate: Words  # after any correction
    weight_total: int  # W, the aggregate's weight word
    digest: Words  # sum over alive slots s of (2 s + 1) a_s
    uploads_sha256: str
    aggregate_sha256: str
    clipped: int
    nonfinite: int
    void: bool
    total: list[float]  # d values: the decoded mean


def share_round(
    settings: Settings,
    chain: Words,
    round: int,
    group: Sequence[int],
    updates: Any,
    weights: Sequence[int],
    vanished: set[int],
) -> Round:
    """ParaShare and ParaUpdate's sum: from updates f32[n, d] to uploads, aggregate and total.

    `chain` is S_r; `group` n ids in slot order; `weights` n integers; `vanished` the slots that
    leave after sharing. Raises ValueError for settings that cannot work.
    """
    n, bits, rule = len(group), settings.ring_bits, settings.dropout_rule
    ids, weights = [int(i) for i in group], [int(m) for m in weights]
    check(settings, n, weights)
    public = public_key(settings.seed)

    # Encode; a non-finite update excludes its participant before sharing.
    rows = np.asarray(updates, np.float32).tolist()
    size = (len(rows[0]) + 1) * bits // 32
    members = [slot for slot in range(n) if all(map(isfinite, rows[slot]))]
    encoded, clipped = [[0] * size for _ in ids], 0
    for slot in members:
        noise = None
        if settings.rounding == "stochastic":
            noise = rounding_noise(public, round, ids[slot], len(rows[slot]))
        encoded[slot], more = encode(rows[slot], weights[slot], settings, noise)
        clipped += more

    # Who shares in the final attempt, who uploads, and with whom.
    survivors = [slot for slot in members if slot not in vanished]
    attempt = int(rule == "retry" and survivors != members)
    dealers = survivors if rule == "retry" else members
    partners = neighbours_of(settings, public, round, attempt, dealers, n)
    if rule == "shamir":
        void = len(survivors) < settings.threshold or len(members) < max(3, settings.threshold)
    elif rule == "secagg":
        void = not recoverable(settings, partners, members, survivors)
    else:
        needed = max(3, n - floor(Fraction(settings.max_dropout) * n))
        void = len(survivors) < needed or not connected(partners, survivors)

    # Share, upload, aggregate.
    uploads: list[Words] = [[0] * size for _ in ids]
    aggregate = [0] * size
    if not void:
        messages = {slot: to_values(encoded[slot], bits) for slot in dealers}
        if rule == "shamir":
            sent, summed = _shamir(settings, chain, ids, messages, survivors)
        elif rule == "secagg":
            played = secagg(settings, chain, ids, messages, partners, survivors)
            sent, summed = played.sent, played.summed
        elif settings.engine == "ideal":
            sent, summed = _ideal(settings, chain, attempt, ids, messages)
        else:
            sent, summed = _pairwise(settings, chain, attempt, ids, messages, partners, survivors)
        aggregate = to_words(summed, bits)
        for slot in survivors:
            uploads[slot] = to_words(sent[slot], bits)

    # The weight word must be a possible sum of the weights (section 3.4).
    weight_total = to_values(aggregate, bits)[-1]
    counted = len(members if rule == "shamir" else survivors)
    least, most = (counted, counted) if set(weights) == {1} else (1, n * max(weights))
    if void := void or not least <= weight_total <= most:
        uploads, aggregate, weight_total = [[0] * size for _ in ids], [0] * size, 0
    digest = [
        sum((2 * s + 1) * a for s, a in enumerate(column)) % 2**32
        for column in zip(*uploads, strict=True)
    ]
    return Round(
        attempt=attempt,
        alive=[slot in survivors for slot in range(n)],
        neighbours=[[ids[j] for j in row] for row in partners],
        encoded=encoded,
        uploads=uploads,
        aggregate=aggregate,
        weight_total=weight_total,
        digest=digest,
        uploads_sha256=VOID_DIGEST if void else words_sha256(digest),
        aggregate_sha256=VOID_DIGEST if void else words_sha256(aggregate),
        clipped=clipped,
        nonfinite=n - len(members),
        void=void,
        total=[0.0] * len(rows[0]) if void else decode(aggregate, settings),
    )


def _pairwise(
    settings: Settings,
    chain: Words,
    attempt: int,
    ids: list[int],
    messages: Values,
    partners: list[list[int]],
    survivors: list[int],
) -> tuple[Values, list[int]]:
    """Uploads with every pair share, and their sum with the pads shared with the lost cancelled."""

    def share(dealer: int, holder: int) -> list[int]:
        """s_{dealer -> holder}; nothing where paired sharing deals the other way only."""
        if settings.shares == "paired" and ids[dealer] > ids[holder]:
            return [0] * len(messages[dealer])
        key = derive_key(chain, attempt, ids[dealer], ids[holder], b"PAIR")
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
        for lost in set(partners[i]) - set(survivors):  # `reveal`: the opened pads
            pads = zip(summed, share(i, lost), share(lost, i), strict=True)
            summed = [a + out - received for a, out, received in pads]
    return held, summed


def _ideal(
    settings: Settings, chain: Words, attempt: int, ids: list[int], messages: Values
) -> tuple[Values, list[int]]:
    """Uniform uploads with the right sum; the last member's is the difference."""
    summed = [sum(column) for column in zip(*messages.values(), strict=True)]
    *drawn, last = messages
    rest, sent, bits = summed, {}, settings.ring_bits
    for i in drawn:
        key = derive_key(chain, attempt, ids[i], 0, b"IDEA")
        words = stream(key, (0, 0, 0), len(summed) * bits // 32, settings.prg_rounds)
        sent[i] = to_values(words, bits)
        rest = [r - u for r, u in zip(rest, sent[i], strict=True)]
    sent[last] = rest
    return sent, summed


def _shamir(
    settings: Settings, chain: Words, ids: list[int], messages: Values, survivors: list[int]
) -> tuple[Values, list[int]]:
    """Per survivor in slot j the sum of every dealer's f_i(j + 1), and sum_i f_i(0), lifted."""
    points = [slot + 1 for slot in survivors]
    sent: Values = {}
    for i, message in messages.items():
        keys = [derive_key(chain, 0, ids[i], c, b"SHAM") for c in range(1, settings.threshold)]
        rows = [field_words(key, len(message), settings.prg_rounds) for key in keys]
        secret = [lift(value, 2**32) for value in message]
        for j, share in zip(survivors, shamir_shares(secret, rows, points, PRIME), strict=True):
            held = sent.get(j, [0] * len(share))
            sent[j] = [(h + s) % PRIME for h, s in zip(held, share, strict=True)]
    t = settings.threshold
    total = interpolate_at_zero(points[:t], [sent[j] for j in survivors[:t]], PRIME)
    return sent, [lift(value, PRIME) for value in total]


# Hashes (section 9)


def words_sha256(words: Words) -> str:
    """SHA-256 (hex) over the words, little-endian."""
    return hashlib.sha256(struct.pack(f"<{len(words)}I", *words)).hexdigest()


def run_digest(aggregate_digests: Sequence[str], parameters: Any) -> str:
    """`run_sha256`: over the rounds' digests (hex, in order), then the final parameters f32[d]."""
    final = np.asarray(parameters, np.float32).tolist()
    rounds = b"".join(map(bytes.fromhex, aggregate_digests))
    return hashlib.sha256(rounds + struct.pack(f"<{len(final)}f", *final)).hexdigest()
