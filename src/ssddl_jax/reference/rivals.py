"""The rounds of rival protocols, from the participants' changes on: the oracle of `baselines`.

The caller's function `change_of` trains a participant from given parameters. Everything else is
written out here: who receives which parameters, which coordinates are sent, and how they are added.
Integers are Python's. Where a rival adds float32, numpy adds one after another. The modules of
`baselines` say which choices are ours and not the source's.
"""

import math
import struct
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, getcontext
from fractions import Fraction

import numpy as np

from ssddl_jax.reference.encoding import encode, lift, to_values
from ssddl_jax.reference.randomness import ANY, Words, public_words, stream, tag
from ssddl_jax.reference.settings import Settings, float32

KEPT = 8  # past server states that an asynchronous visit may see
Vector = np.ndarray  # f32 [d]
ChangeOf = Callable[[int, Vector], Vector]  # (participant, start) -> its change


def largest(keys: Sequence[int], count: int) -> list[int]:
    """Indices of the `count` largest keys, ascending; ties go to the lower index."""
    order = sorted(range(len(keys)), key=lambda index: (-keys[index], index))
    return sorted(order[:count])


def magnitude_bits(values: Sequence[float]) -> list[int]:
    """The bits of |x| as float32. As integers they have the order of the magnitudes."""
    packed = struct.pack(f"<{len(values)}f", *values)
    return [bits & 0x7FFFFFFF for bits in struct.unpack(f"<{len(values)}I", packed)]


def pool_order(public: Words, round: int, valid: Sequence[bool], epochs: int) -> list[list[int]]:
    """Central training: the valid pooled rows, in the order of each epoch."""
    count = len(valid)
    words = public_words(public, (round, ANY, tag(b"BTCH")), epochs * count)
    held = [index for index in range(count) if valid[index]]
    return [sorted(held, key=words[e * count : (e + 1) * count].__getitem__) for e in range(epochs)]


def passed_on(
    weights: Vector, ids: Sequence[int], vanished: Collection[int], change_of: ChangeOf
) -> Vector:
    """SNT: the weights pass from slot to slot. A vanished slot's change is lost."""
    for slot, participant in enumerate(ids):
        change = change_of(participant, weights)
        if slot not in vanished and np.isfinite(change).all():
            weights = weights + change
    return weights


@dataclass
class Selective:
    """DSSGD: its settings and its state."""

    theta_u: str  # exact decimals
    theta_d: str
    rule: str  # largest, random
    gamma: float
    tau: float
    schedule: str  # round-robin, random, asynchronous
    everybody: int
    counts: list[int]
    local: dict[int, Vector]  # each participant's own parameters
    clipped: dict[int, int] = field(default_factory=dict)  # of the last round, by slot
    lags: list[int] = field(default_factory=list)  # of the last round, in the order of visits

    def share(self, fraction: str) -> int:
        """A fraction of the coordinates, at least one."""
        return max(1, math.floor(Fraction(fraction) * len(self.counts)))

    def order(self, public: Words, round: int, ids: Sequence[int]) -> list[int]:
        """Slots in the order of their visits."""
        slots = list(range(len(ids)))
        if self.schedule == "round-robin":
            return sorted(slots, key=ids.__getitem__)
        if len(ids) < self.everybody:
            return slots
        words = public_words(public, (round, ANY, tag(b"SELE")), len(ids))
        return sorted(slots, key=words.__getitem__)

    def chosen(self, public: Words, round: int, participant: int, change: Vector) -> list[int]:
        """The coordinates to upload."""
        size, count = len(self.counts), self.share(self.theta_u)
        if self.rule == "largest":
            return largest(magnitude_bits(change.tolist()), count)
        words = public_words(public, (round, participant, tag(b"DSSG")), size)
        # The threshold applies to what is sent. The order ignores the last bit of a word.
        over = np.minimum(np.abs(change), np.float32(self.gamma)) > np.float32(self.tau)
        keys = [words[w] >> 1 if over[w] else -1 for w in range(size)]
        return [w for w in largest(keys, count) if over[w]]

    def run_round(
        self,
        public: Words,
        round: int,
        ids: Sequence[int],
        vanished: Collection[int],
        weights: Vector,
        change_of: ChangeOf,
    ) -> Vector:
        """Runs a round and returns the server's parameters after it."""
        past, gamma = [weights], np.float32(self.gamma)
        self.clipped, self.lags = dict.fromkeys(range(len(ids)), 0), []
        for turn, slot in enumerate(self.order(public, round, ids)):
            i = ids[slot]
            seen = weights
            if self.schedule == "asynchronous":
                word = public_words(public, (round, i, tag(b"DSLG")), 1)[0]
                self.lags.append(min(word % KEPT, turn))
                seen = past[turn - self.lags[-1]]
            before = seen
            if Fraction(self.theta_d) < 1:
                before = self.local[i].copy()
                newest = largest(self.counts, self.share(self.theta_d))
                before[newest] = seen[newest]
            change = change_of(i, before)
            finite = bool(np.isfinite(change).all())
            self.local[i] = before + change if finite else before
            if finite:
                picked = self.chosen(public, round, i, change)
                self.clipped[slot] = sum(abs(change[w]) > gamma for w in picked)
                if slot not in vanished:
                    weights = weights.copy()
                    weights[picked] += np.clip(change[picked], -gamma, gamma)
                    for w in picked:
                        self.counts[w] += 1
            past.append(weights)
        return weights


def laplace_noise(key: Words, scales: Sequence[Decimal]) -> list[int]:
    """An integer z for each scale, with probability proportional to exp(-|z| / scale).

    z is the difference of two geometric variables. Their binary digits are independent: a digit is
    1 if a 96-bit word is below a threshold.
    """
    drawn, count = [0] * len(scales), len(scales)
    getcontext().prec = 60
    for digit in range(31):
        # Higher digits are 0 except with probability 2^-97.
        live = {s for s in scales if 2**digit / s < 97 * Decimal(2).ln()}
        if not live:
            break
        one = {s: int((2**96 / (1 + (2**digit / s).exp())).to_integral_value()) for s in live}
        limbs = [stream(key, (digit, limb, 0), 2 * count) for limb in range(3)]
        for w, (high, middle, low) in enumerate(zip(*limbs, strict=True)):
            if (high << 64 | middle << 32 | low) < one.get(scales[w % count], 0):
                drawn[w % count] += 1 << digit if w < count else -1 << digit
    return drawn


@dataclass(frozen=True)
class Private:
    """DSSGD's selection with noise: `steps` levels up to gamma, and the noise scales."""

    steps: int
    scales: tuple[Decimal, Decimal, Decimal]  # threshold, comparisons, values

    def pick(
        self, key: Words, change: Vector, gamma: float, tau: float, order: Sequence[int], count: int
    ) -> tuple[list[int], list[np.float32]]:
        """The chosen coordinates, ascending, and their noisy values. Larger `order` comes first."""
        size, steps = len(change), self.steps
        clipped = np.clip(change, -np.float32(gamma), np.float32(gamma))
        scaled = np.rint(clipped * np.float32(steps / gamma)).astype(int)
        levels = [max(-steps, min(steps, level)) for level in scaled.tolist()]
        least = min(round(tau / gamma * steps), 2**29)
        kinds = [0] + [1] * size + [2] * count
        noises = laplace_noise(key, [self.scales[kind] for kind in kinds])
        least, seen = least + noises[0], noises[1 : 1 + size]
        over = [abs(level) + noise > least for level, noise in zip(levels, seen, strict=True)]
        keys = [order[w] if over[w] else -1 for w in range(size)]
        picked = [w for w in largest(keys, count) if over[w]]
        released = [levels[w] + z for w, z in zip(picked, noises[1 + size :], strict=False)]
        step = np.float32(gamma / steps)
        return picked, [np.float32(max(-steps, min(steps, z))) * step for z in released]


@dataclass
class Encrypted:
    """SGD under encryption: the integers inside the server's ciphertexts."""

    settings: Settings  # ring_bits 64; clip and fraction_bits
    held: list[int]

    @classmethod
    def of(cls, weights: Vector, settings: Settings) -> "Encrypted":
        """Encodes the initial weights to the nearest integer, ties to even."""
        scale = 2**settings.fraction_bits
        return cls(settings, [round(Fraction(value) * scale) for value in weights.tolist()])

    def weights(self) -> Vector:
        """The weights that a participant decrypts."""
        scale = 2**self.settings.fraction_bits
        return np.array([float32(value / scale) for value in self.held], np.float32)

    def run_round(
        self, ids: Sequence[int], vanished: Collection[int], change_of: ChangeOf
    ) -> dict[int, int]:
        """Runs a round. Returns how many coordinates each slot clipped; 0 if not finite."""
        beyond = dict.fromkeys(range(len(ids)), 0)
        for slot, participant in enumerate(ids):
            change = change_of(participant, self.weights())
            if not np.isfinite(change).all():
                continue
            words, beyond[slot] = encode(change, 1, self.settings)
            values = [lift(value, 2**64) for value in to_values(words, 64)[:-1]]
            if slot not in vanished:
                self.held = [a + b for a, b in zip(self.held, values, strict=True)]
        return beyond
