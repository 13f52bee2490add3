"""The certificate: which updates a view determines, and which it leaves free, by linear algebra.

Every message in a view is linear in the honest members' updates and in randomness that the
adversary does not know. Each unknown share, or polynomial coefficient, is uniform and independent
of the rest. Linear combinations of messages in which all this randomness cancels give the *known*
sums of updates. Everything else in the view is uniform, whatever the updates are. A participant is
*determined* if its unit vector is in the span of the known sums. Otherwise it is *free*: for every
value of its update, some updates of the others give the same view with the same probability.

For secagg the secrets are solved first: a secret is known if the view holds t of its shares, and so
are the masks that it expands to (`secrets`).
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
Equation = tuple[Message, dict[int, int], dict[tuple[int, ...], int]]  # message = updates + masks


class Certificate(NamedTuple):
    """What an adversary knows about the honest members after one round."""

    honest: list[int]  # ids whose updates were shared
    known: Matrix  # u64 [rank, honest], reduced: coefficients of the known sums
    rank: int
    determined: list[int]  # ids
    free: list[int]  # ids
    modulus: int  # of the coefficients

    @property
    def exposed(self) -> float:
        """The fraction of honest members that are determined."""
        return len(self.determined) / max(1, len(self.honest))


class KnownSum(NamedTuple):
    """A known sum of coefficient * update over honest members, and its words."""

    coefficients: dict[int, int]
    words: UInt32[np.ndarray, " W"]


def modulus_of(header: Header) -> int:
    """The modulus of the arithmetic that shares are computed in."""
    return P if header.rule.field else 1 << header.ring_bits


def certificate(header: Header, adversary: Adversary) -> Certificate:
    """Who is determined and who is free. Uses public facts only, no word of any message.

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
    """Small integers i64, from their residues u64."""
    negative = residues > np.uint64(modulus // 2)
    below = (np.uint64(modulus & (1 << 64) - 1) - residues).astype(np.int64)  # 2^64 is 0
    return np.where(negative, -below, residues.astype(np.int64))


def over_rounds(rounds: Sequence[Certificate]) -> Certificate:
    """What one adversary knows after several rounds in which no participant's update changes.

    `rounds`: certificates of the same coalition, one per round. A sum below the headroom is known
    as an integer, so the sums of several rounds are combined over the rationals. The elimination
    runs modulo 2^31 - 1; it differs from the rationals only if that prime divides a minor.
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
    """The known sums of the certificate, computed from the view's words."""
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
    """The encoded updates of the determined members, exact: id -> u32 [W]."""
    sums = known_sums(view)
    return {
        next(iter(known.coefficients)): known.words
        for known in sums
        if len(known.coefficients) == 1 and next(iter(known.coefficients.values())) == 1
    }


def _honest(header: Header, adversary: Adversary) -> list[int]:
    return [i for i in header.sharers if i not in adversary.coalition]


def _solve(header: Header, adversary: Adversary) -> tuple[Matrix, Matrix, list[Equation]]:
    """(known sums [rank, honest], the combination of equations that gives each, the equations)."""
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
    """Every message, less its known part, in terms of honest updates and unknown masks.

    The masks of a pair of honest members enter only as s_{j->i} - s_{i->j}: one unknown per pair.
    In secagg a member's self-mask is one more unknown.
    """
    seen = visible(header, adversary)
    honest = set(_honest(header, adversary))
    make = _field_equations if header.rule.field else _ring_equations
    sums = [message for message in seen if message.kind == "aggregate"]
    summed = {i: 1 for i in header.summed if i in honest}
    return make(header, seen, honest) + [(message, summed, {}) for message in sums]


def _field_equations(header: Header, seen: list[Message], honest: set[int]) -> list[Equation]:
    """Shamir's shares: the unknowns are the polynomials' coefficients (dealer, degree)."""
    found: list[Equation] = []
    for message in seen:
        if message.kind == "upload":
            holder, dealers = message.sender, honest
        elif message.kind == "share":
            holder, dealers = message.receiver, {message.sender} & honest
        else:
            continue
        if dealers:
            point = header.slot(holder) + 1
            degrees = range(1, header.threshold)
            powers: dict[tuple[int, ...], int] = {
                (i, degree): pow(point, degree, P) for i in dealers for degree in degrees
            }
            found.append((message, dict.fromkeys(dealers, 1), powers))
    return found


def _ring_equations(header: Header, seen: list[Message], honest: set[int]) -> list[Equation]:
    """Masked uploads: the unknowns are masks (attempt, lower id, higher id) and self-masks."""
    secrets = header.rule.opens == "secrets"
    if secrets:
        known = known_masks(header, seen)
    else:
        known = {m[1:] for m in seen if m.kind in ("share", "opened")}
    around: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for attempt in range(len(header.partners)):
        for pair in pairs(header, attempt):
            for end in pair:
                around.setdefault((attempt, end), []).append(pair)
    found: list[Equation] = []
    for message in seen:
        kind, attempt, sender, _ = message
        if kind != "upload" or sender not in honest:
            continue
        masks: dict[tuple[int, ...], int] = {}
        for i, j in around.get((attempt, sender), []):
            if (attempt, i, j) not in known:
                masks[attempt, min(i, j), max(i, j)] = 1 if sender == max(i, j) else -1
        if secrets and (0, sender, sender) not in known:
            masks[0, sender, sender] = 1
        found.append((message, {sender: 1}, masks))
    return found


def _right_side(view: View, equation: Equation) -> np.ndarray:
    """The words of a message, less the part that the adversary knows: u64 [words]."""
    message, header, modulus = equation[0], view.header, modulus_of(view.header)
    total = _as_values(view.words[message], header, message.kind)
    for known, sign in _known_terms(view, message):
        value = _as_values(view.words[known], header, known.kind)
        weights = np.array([[1, sign % modulus]], np.uint64)
        total = combined(weights, np.stack([total, value]), modulus)[0]
    return total


def _known_terms(view: View, message: Message) -> list[tuple[Message, int]]:
    """(known message, sign): what to add to a message to remove its known part."""
    header = view.header
    own = [m for m in view.words if m.kind == "update"]
    if message.kind == "aggregate":
        return [(update, -1) for update in own if update.sender in header.summed]
    if header.rule.field:
        if message.kind != "upload":
            return []
        # The coalition knows the shares that it dealt.
        return [(Message("share", 0, m.sender, message.sender), -1) for m in own]
    kinds = ("mask",) if header.rule.opens == "secrets" else ("share", "opened")
    known = {m[1:]: m for m in view.words if m.kind in kinds}  # each mask once
    terms = []
    for (attempt, dealer, holder), mask in known.items():
        if attempt == message.attempt and message.sender in (dealer, holder):
            terms.append((mask, -1 if holder == message.sender else 1))
    return terms


def _as_values(words: np.ndarray, header: Header, kind: str) -> np.ndarray:
    """A message's words as residues u64 of the modulus."""
    if header.rule.field and kind in ("update", "aggregate"):
        return (words.view(np.int32).astype(np.int64) % P).astype(np.uint64)
    if header.ring_bits == 32 or header.rule.field:
        return words.astype(np.uint64)
    half = len(words) // 2
    return words[:half].astype(np.uint64) | words[half:].astype(np.uint64) << np.uint64(32)


def _as_words(values: np.ndarray, header: Header) -> np.ndarray:
    """The inverse of `_as_values` for an update: the encoded words u32 [W]."""
    if header.rule.field:
        signed = np.where(values > P // 2, values.astype(np.int64) - P, values.astype(np.int64))
        return signed.astype(np.int32).view(np.uint32)
    if header.ring_bits == 32:
        return values.astype(np.uint32)
    halves = [values & np.uint64(0xFFFFFFFF), values >> np.uint64(32)]
    return np.concatenate(halves).astype(np.uint32)
