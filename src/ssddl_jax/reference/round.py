"""One round, from the updates on (docs/protocol.md, sections 5 and 6), in Python integers."""

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, isfinite
from typing import Any

import numpy as np

from ssddl_jax.reference.encoding import decode, encode, to_values, to_words
from ssddl_jax.reference.graph import neighbours_of
from ssddl_jax.reference.randomness import Words, public_key, rounding_noise
from ssddl_jax.reference.rules import RULES, Sharers, ideal
from ssddl_jax.reference.settings import Settings, float32

ROUNDINGS, SHARES = ("nearest", "stochastic"), ("directed", "paired")
ENGINES = ("pairwise", "ideal")
VOID_DIGEST = "0" * 64


@dataclass(frozen=True)
class Round:
    """All that happens in one round. Lists over slots have n entries."""

    attempt: int  # the number of the final attempt
    alive: list[bool]  # by slot: finite, and did not vanish
    neighbours: list[list[int]]  # by slot: global ids of its partners in the final attempt
    encoded: list[Words]  # by slot: the message; zeros if the update was not finite
    uploads: list[Words]  # by slot: what the server received; zeros if not alive
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
    """Computes uploads, aggregate and decoded total from updates f32 [n, d].

    `chain` is S_r, `group` the n ids in slot order, `weights` n integers, and `vanished` the slots
    that drop out after sharing. Raises `ValueError` for settings that cannot work.
    """
    n, bits = len(group), settings.ring_bits
    ids, weights = [int(i) for i in group], [int(m) for m in weights]
    _check(settings, n, weights)
    rule = RULES[settings.dropout_rule]
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

    # Who shares in the final attempt, with whom, and who uploads.
    survivors = [slot for slot in members if slot not in vanished]
    attempt = int(rule.retries and survivors != members)
    dealers = survivors if rule.retries else members
    partners = neighbours_of(settings, public, round, attempt, dealers, n)
    sharers = Sharers(attempt, ids, partners, members, survivors)
    void = not rule.valid(settings, sharers)

    # Share, upload, aggregate.
    uploads: list[Words] = [[0] * size for _ in ids]
    aggregate = [0] * size
    if not void:
        messages = {slot: to_values(encoded[slot], bits) for slot in dealers}
        share = ideal if settings.engine == "ideal" else rule.share
        sent, summed = share(settings, chain, messages, sharers)
        aggregate = to_words(summed, bits)
        for slot in survivors:
            uploads[slot] = to_words(sent[slot], bits)

    # The weight word must be a possible sum of the weights (section 3.4).
    weight_total = to_values(aggregate, bits)[-1]
    counted = len(members if rule.holds_sharers else survivors)
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


def _check(settings: Settings, n: int, weights: Sequence[int]) -> None:
    """Raises `ValueError` for a small group, clashing settings, or no headroom (section 3.3)."""
    k, t, name = settings.neighbours, settings.threshold, settings.dropout_rule
    if name not in RULES:
        raise ValueError(f"The setting dropout_rule {name!r} must be in {tuple(RULES)}.")
    rule, drawn = RULES[name], tuple(other for other in RULES if RULES[other].ideal)
    largest = ceil(Fraction(float32(settings.clip)) * 2**settings.fraction_bits)
    limit = 2**30 - 1 if rule.field else 2 ** (settings.ring_bits - 1) - 1
    needed = n * max(weights) * largest
    for works, what, bound in [
        (n >= 3, f"group size {n}", "at least 3"),
        (k >= n - 1 or (k >= 2 and k % 2 == 0), f"neighbours {k}", f"even or at least {n - 1}"),
        (settings.prg_rounds in (8, 12, 20), f"prg_rounds {settings.prg_rounds}", "8, 12 or 20"),
        (settings.ring_bits in (32, 64), f"ring_bits {settings.ring_bits}", "32 or 64"),
        (settings.rounding in ROUNDINGS, f"rounding {settings.rounding!r}", f"in {ROUNDINGS}"),
        (settings.shares in SHARES, f"shares {settings.shares!r}", f"in {SHARES}"),
        (settings.engine in ENGINES, f"engine {settings.engine!r}", f"in {ENGINES}"),
        (settings.engine != "ideal" or rule.ideal, f"dropout_rule {name!r}", f"in {drawn}: ideal"),
        (not rule.field or settings.ring_bits == 32, "ring_bits 64", f"32: {name}"),
        (not rule.complete or k >= n - 1, f"neighbours {k}", f"at least {n - 1}: {name}"),
        (not rule.needs_threshold or 2 <= t <= n, f"threshold {t}", f"in [2, {n}]"),
        (0 < largest < 2**31, f"clip * 2^fraction_bits {largest}", "in (0, 2^31)"),
        (needed <= limit, f"n * weight * clip * 2^fraction_bits {needed}", f"at most {limit}"),
    ]:
        if not works:
            raise ValueError(f"The setting {what} must be {bound}.")


# Hashes (section 9)


def words_sha256(words: Words) -> str:
    """SHA-256 (hex) of the words, little-endian."""
    return hashlib.sha256(struct.pack(f"<{len(words)}I", *words)).hexdigest()


def run_digest(aggregate_digests: Sequence[str], parameters: Any) -> str:
    """`run_sha256`: SHA-256 of the rounds' digests (hex, in order) and the parameters f32 [d]."""
    final = np.asarray(parameters, np.float32).tolist()
    rounds = b"".join(map(bytes.fromhex, aggregate_digests))
    return hashlib.sha256(rounds + struct.pack(f"<{len(final)}f", *final)).hexdigest()
