"""The certificate: what a view determines, and what it leaves free, by linear algebra.

Everything that is seen is linear in the honest members' updates and in randomness that the
adversary does not know: every such share, or polynomial coefficient, is uniform and independent of
the rest. Combinations of what was seen in which all of it cancels are the sums of updates that are
*known*; everything else that was seen is uniform whatever the updates are. A participant is
*determined* if its unit vector is in the span of the known sums, and *free* if its update can be
anything: then, for every value of it, some updates of the others give the same view with the same
probability.

In secagg the secrets come first: those of which the view holds t shares are known, and so are the
masks that they give (`secrets`).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt32

from ssddl_jax.common.errors import ConfigError
from ssddl_jax.core.arithmetic.field import P
from ssddl_jax.privacy.elimination import Matrix, combined, reduce_rows, residues
from ssddl_jax.privacy.messages import Adversary, Header, Message, pairs, visible
from ssddl_jax.privacy.secrets import known_masks
from ssddl_jax.privacy.views import View

_MOST_ENTRIES = 1 << 26
Equation = tuple[Message, dict[int, int], dict[tuple[int, ...], int]]  # seen = updates + masks


class Certificate(NamedTuple):
    """What an adversary knows of the honest members after one round."""

    honest: list[int]  # ids whose updates were shared
    known: Matrix  # u64 [rank, honest], reduced: coefficients of the sums that are known
    rank: int
    determined: list[int]  # ids
    free: list[int]  # ids
    modulus: int  # of the coefficients

    @property
    def exposed(self) -> float:
        """The share of honest members that are determined."""
        return len(self.determined) / max(1, len(self.honest))


class KnownSum(NamedTuple):
    """sum of coefficient * update over honest members, and its words."""

    coefficients: dict[int, int]
    words: UInt32[np.ndarray, " W"]


def modulus_of(header: Header) -> int:
    """Of the arithmetic that shares are made in."""
    return P if header.rule.field else 1 << header.ring_bits


def certificate(header: Header, adversary: Adversary) -> Certificate:
    """Who is determined and who is free, from public facts alone: no word of a message is used.

    Raises `ConfigError` if the adversary's view cannot be taken, or the system is too large.
    """
    known = _solve(header, adversary)[0]
    return _certificate(_honest(header, adversary), known, modulus_of(header))


def _certificate(honest: list[int], known: Matrix, modulus: int) -> Certificate:
    single = [row for row in known if np.count_nonzero(row) == 1]
    determined = sorted(honest[int(np.flatnonzero(row)[0])] for row in single)
    free = [i for i in honest if i not in determined]
    return Certificate(honest, known, len(known), determined, free, modulus)


def _signed(residues: Matrix, modulus: int) -> np.ndarray:
    """Residues of -1, 0, 1 and other small integers as such, i64."""
    negative = residues > np.uint64(modulus // 2)
    below = (np.uint64(modulus & (1 << 64) - 1) - residues).astype(np.int64)  # 2^64 is 0
    return np.where(negative, -below, residues.astype(np.int64))


def over_rounds(rounds: Sequence[Certificate]) -> Certificate:
    """What one adversary knows after several rounds, if every participant's update stays the same.

    `rounds`: certificates of one coalition, whose members count as such in every round. Over the
    rationals: a sum below the headroom is known as an integer, so that sums subtract and divide.
    Computed modulo 2^31 - 1, which differs only if that prime divides a minor.
    """
    honest = sorted({i for found in rounds for i in found.honest})
    column = {participant: at for at, participant in enumerate(honest)}
    rows = np.zeros((sum(found.rank for found in rounds), len(honest)), np.int64)
    at = 0
    for found in rounds:
        columns = [column[i] for i in found.honest]
        rows[at : at + found.rank, columns] = _signed(found.known, found.modulus)
        at += found.rank
    return _certificate(honest, reduce_rows(rows, P).rows, P)


def known_sums(view: View) -> list[KnownSum]:
    """The sums that the certificate says are known, computed from the view's words."""
    header, modulus = view.header, modulus_of(view.header)
    known, combination, equations = _solve(header, view.adversary)
    if not len(known):
        return []
    values = np.stack([_right_side(view, equation) for equation in equations])
    sums = combined(combination, values, modulus)
    honest = _honest(header, view.adversary)
    found = []
    for row, value in zip(known, sums, strict=True):
        signed = _signed(row, modulus).tolist()
        coefficients = {i: c for i, c in zip(honest, signed, strict=True) if c}
        found.append(KnownSum(coefficients, _as_words(value, header)))
    return found


def recover(view: View) -> dict[int, UInt32[np.ndarray, " W"]]:
    """The encoded updates of the determined members: id -> words, exact."""
    sums = known_sums(view)
    return {
        next(iter(known.coefficients)): known.words
        for known in sums
        if len(known.coefficients) == 1 and next(iter(known.coefficients.values())) == 1
    }


def _honest(header: Header, adversary: Adversary) -> list[int]:
    return [i for i in header.sharers if i not in adversary.coalition]


def _solve(header: Header, adversary: Adversary) -> tuple[Matrix, Matrix, list[Equation]]:
    """Known sums [rank, honest], what combines the equations to them, and the equations."""
    modulus = modulus_of(header)
    honest = {i: at for at, i in enumerate(_honest(header, adversary))}
    equations = _equations(header, adversary)
    labels = sorted({label for _, _, masks in equations for label in masks})
    if len(equations) * (len(labels) + len(equations)) > _MOST_ENTRIES:
        remedy = "is too large for an exact certificate; use a smaller group"
        raise ConfigError("group_size", len(header.group), remedy)
    column = {label: at for at, label in enumerate(labels)}
    updates = np.zeros((len(equations), len(honest)), np.int64)
    masks = np.zeros((len(equations), len(labels)), np.int64)
    for row, (_, terms, unknown) in enumerate(equations):
        for i, factor in terms.items():
            updates[row, honest[i]] += factor
        for label, factor in unknown.items():
            masks[row, column[label]] += factor
    cancelling = reduce_rows(masks, modulus).vanishing
    left = combined(cancelling, residues(updates, modulus), modulus)
    reduced = reduce_rows(left, modulus)
    return reduced.rows, combined(reduced.combination, cancelling, modulus), equations


def _equations(header: Header, adversary: Adversary) -> list[Equation]:
    """What was seen, less what is known of it, in terms of honest updates and unknown masks.

    The masks of a pair of honest members enter only as s_{j->i} - s_{i->j}: one unknown a pair. In
    secagg a member's own mask is one more.
    """
    seen = visible(header, adversary)
    secrets = header.rule.opens == "secrets"
    if secrets:
        shares = known_masks(header, seen)
    else:
        shares = {m[1:] for m in seen if m.kind in ("share", "opened")}
    honest = set(_honest(header, adversary))
    around: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for attempt in range(len(header.partners)):
        for pair in pairs(header, attempt):
            for end in pair:
                around.setdefault((attempt, end), []).append(pair)
    found: list[Equation] = []
    for message in seen:
        kind, attempt, sender, receiver = message
        if kind == "aggregate":
            found.append((message, {i: 1 for i in header.summed if i in honest}, {}))
        elif header.rule.field:
            holder = sender if kind == "upload" else receiver
            dealers = honest if kind == "upload" else {sender} & honest
            if kind in ("upload", "share") and dealers:
                point = header.slot(holder) + 1
                degrees = range(1, header.threshold)
                powers: dict[tuple[int, ...], int] = {
                    (i, degree): pow(point, degree, P) for i in dealers for degree in degrees
                }
                found.append((message, dict.fromkeys(dealers, 1), powers))
        elif kind == "upload" and sender in honest:
            masks: dict[tuple[int, ...], int] = {}
            for i, j in around.get((attempt, sender), []):
                if (attempt, i, j) not in shares:
                    masks[attempt, min(i, j), max(i, j)] = 1 if sender == max(i, j) else -1
            if secrets and (0, sender, sender) not in shares:
                masks[0, sender, sender] = 1
            found.append((message, {sender: 1}, masks))
    return found


def _right_side(view: View, equation: Equation) -> np.ndarray:
    """The words of a seen message less what the adversary knows of it: u64 [words]."""
    message, header, modulus = equation[0], view.header, modulus_of(view.header)
    total = _as_values(view.words[message], header, message.kind)

    def less(other: Message, sign: int) -> None:
        nonlocal total
        value = _as_values(view.words[other], header, other.kind)
        total = combined(
            np.array([[1, sign % modulus]], np.uint64), np.stack([total, value]), modulus
        )[0]

    own = [m for m in view.words if m.kind == "update"]
    if message.kind == "aggregate":
        for other in own:
            if other.sender in header.summed:
                less(other, -1)
    elif header.rule.field:
        if message.kind == "upload":  # shares that the coalition dealt are known
            for other in own:
                less(Message("share", 0, other.sender, message.sender), -1)
    else:
        kinds = ("mask",) if header.rule.opens == "secrets" else ("share", "opened")
        known = {m[1:]: m for m in view.words if m.kind in kinds}
        for (attempt, dealer, holder), other in known.items():  # seen twice, it counts once
            if attempt == message.attempt and holder == message.sender:
                less(other, -1)
            elif attempt == message.attempt and dealer == message.sender:
                less(other, 1)
    return total


def _as_values(words: np.ndarray, header: Header, kind: str) -> np.ndarray:
    """Message words as u64 residues of the modulus."""
    if header.rule.field and kind in ("update", "aggregate"):
        return (words.view(np.int32).astype(np.int64) % P).astype(np.uint64)
    if header.ring_bits == 32 or header.rule.field:
        return words.astype(np.uint64)
    half = len(words) // 2
    return words[:half].astype(np.uint64) | words[half:].astype(np.uint64) << np.uint64(32)


def _as_words(values: np.ndarray, header: Header) -> np.ndarray:
    """The inverse of `_as_values` for an update: words as they were encoded."""
    if header.rule.field:
        signed = np.where(values > P // 2, values.astype(np.int64) - P, values.astype(np.int64))
        return signed.astype(np.int32).view(np.uint32)
    if header.ring_bits == 32:
        return values.astype(np.uint32)
    halves = [values & np.uint64(0xFFFFFFFF), values >> np.uint64(32)]
    return np.concatenate(halves).astype(np.uint32)
