"""The protocol from the updates on, in plain Python integers: the oracle of everything fast.

It imports none of the package's other modules; NumPy appears only where arrays come in. Sections
are those of the protocol specification. n group, d parameters, D = d + 1 values of a message, k
neighbours, B blocks; a *slot* is a position in the group, ids are global. Messages are lists of
uint32 words; inside, arithmetic is on their D values, integers mod 2^32, 2^64 or the prime.

Where the specification leaves something open, this is our reading:
- Nonces carry global ids; share words of every kind (pair, Shamir, ideal) use `prg_rounds`.
- A pass of `rotate` has N div n rounds; the N mod n left over sit that pass out.
- A subnormal update counts as zero, so that backends which flush subnormals agree with the others.
- Clipped coordinates are counted over all members that encoded, those that vanish later included.
- A member both non-finite and drawn to vanish never shared: it makes no retry.
- Every lost dealer of `shamir` that shared is in the total; the first t uploads are interpolated.
- A void round hands back zeros for uploads, aggregate, digest and total: nothing of it is used.
"""

import hashlib
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from itertools import count as count_from
from math import ceil, floor, isfinite
from typing import Any

import numpy as np

PRIME = 2**31 - 1
ANY = 0xFFFFFFFF  # the nonce word of public randomness that belongs to no participant
TINY = 2.0**-126  # the least normal float32
VOID_DIGEST = "0" * 64
ROUNDINGS, SHARES = ("nearest", "stochastic"), ("directed", "paired")
RULES, ENGINES = ("retry", "reveal", "shamir"), ("pairwise", "ideal")
Words = list[int]
Nonce = tuple[int, int, int]


@dataclass(frozen=True)
class Settings:
    """What a round's arithmetic depends on. `clip` is rounded to float32 where it is read."""

    seed: int  # 0 <= seed < 2^64
    clip: float
    fraction_bits: int
    prg_rounds: int = 20  # 8, 12, 20
    ring_bits: int = 32  # 32, 64
    rounding: str = "nearest"  # nearest, stochastic
    neighbours: int = 2**31  # k: even, or at least n - 1 for the complete graph
    shares: str = "directed"  # directed, paired
    dropout_rule: str = "retry"  # retry, reveal, shamir
    threshold: int = 2  # t: the uploads that `shamir` needs
    max_dropout: str = "0.1"  # exact decimal
    engine: str = "pairwise"  # pairwise, ideal


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


# Randomness (section 4)


def _tag(name: bytes) -> int:
    return int.from_bytes(name, "little")


def _spread(words: Sequence[int]) -> int:
    """One integer whose 64-bit lane b holds words[b]: an operation on it is one on every block."""
    return int.from_bytes(struct.pack(f"<{len(words)}Q", *words), "little")


def _blocks(key: Words, counters: Sequence[int], nonce: Nonce, rounds: int) -> list[Words]:
    """ChaCha blocks (RFC 8439) of all counters side by side: row l holds word l of every block."""
    blocks = len(counters)
    ones = _spread([1] * blocks)
    mask = ones * 0xFFFFFFFF
    constants = struct.unpack("<4I", b"expand 32-byte k")
    start = [ones * word for word in (*constants, *key)]
    start += [_spread(counters)] + [ones * word for word in nonce]
    state = list(start)

    def add_xor_rotate(a: int, b: int, c: int, shift: int) -> None:
        """a += b; c ^= a; c <<<= shift, in every lane."""
        state[a] = (state[a] + state[b]) & mask
        mixed = state[c] ^ state[a]
        state[c] = (mixed << shift | mixed >> (32 - shift)) & mask

    for _ in range(rounds // 2):
        for diagonal in (0, 1):
            for i in range(4):
                a, b, c, d = (4 * row + (i + diagonal * row) % 4 for row in range(4))
                add_xor_rotate(a, b, d, 16)
                add_xor_rotate(c, d, b, 12)
                add_xor_rotate(a, b, d, 8)
                add_xor_rotate(c, d, b, 7)
    rows = [(before + after) & mask for before, after in zip(start, state, strict=True)]
    return [list(struct.unpack(f"<{blocks}Q", row.to_bytes(8 * blocks, "little"))) for row in rows]


def chacha_block(key: Words, counter: int, nonce: Nonce, rounds: int = 20) -> Words:
    """The 16 words of one ChaCha block; 8 key words, all words 32 bits."""
    return [row[0] for row in _blocks(key, [counter], nonce, rounds)]


def stream(key: Words, nonce: Nonce, count: int, rounds: int = 20) -> Words:
    """`count` words, lane-major: word w is word w div B of block w mod B, B = ceil(count / 16)."""
    rows = _blocks(key, range(-(-count // 16)), nonce, rounds)
    return [word for row in rows for word in row][:count]


def _derive(key: Words, counter: int, a: int, b: int, tag: bytes) -> Words:
    """A new key: first8 of the block with nonce (a, b, tag), always 20 rounds."""
    return chacha_block(key, counter, (a, b, _tag(tag)))[:8]


def _seed_key(seed: int) -> Words:
    if not 0 <= seed < 2**64:
        raise ValueError(f"Argument 'seed' must be in [0, 2^64), not {seed}.")
    return [seed % 2**32, seed >> 32, 0, 0, 0, 0, 0, 0]


def initial_chain(seed: int) -> Words:
    """S_0, 8 words."""
    return _derive(_seed_key(seed), 0, 0, 0, b"INIT")


def next_chain(chain: Words) -> Words:
    """S_{r+1} from S_r."""
    return _derive(chain, 0, 0, 0, b"NEXT")


def public_key(seed: int) -> Words:
    """R, the key of all public randomness, 8 words."""
    return _derive(_seed_key(seed), 0, 0, 0, b"RAND")


def public_words(public: Words, nonce: Nonce, count: int) -> Words:
    """`count` public words for the purpose that the nonce names; always 20 rounds."""
    return stream(public, nonce, count)


def _argsort(words: Sequence[int]) -> list[int]:
    return sorted(range(len(words)), key=words.__getitem__)  # stable


def select_group(
    public: Words, round: int, population: int, group_size: int, selection: str
) -> list[int]:
    """The round's ids in slot order; `selection` is random or rotate; everybody: ids ascending."""
    if group_size == population:
        return list(range(population))
    draw, start = round, 0
    if selection == "rotate":
        draw, turn = divmod(round, population // group_size)
        start = turn * group_size
    order = _argsort(public_words(public, (draw, ANY, _tag(b"SELE")), population))
    return order[start : start + group_size]


def vanished_slots(public: Words, round: int, n: int, fraction: str | Decimal) -> set[int]:
    """The floor(p n) slots that vanish after sharing; `fraction` p is an exact decimal."""
    order = _argsort(public_words(public, (round, ANY, _tag(b"DROP")), n))
    return set(order[: floor(Fraction(fraction) * n)])


def batch_order(
    public: Words, round: int, participant: int, rows: int, epochs: int
) -> list[list[int]]:
    """One permutation of the participant's rows per epoch."""
    words = public_words(public, (round, participant, _tag(b"BTCH")), rows * epochs)
    return [_argsort(words[e * rows : (e + 1) * rows]) for e in range(epochs)]


def rounding_noise(public: Words, round: int, participant: int, count: int) -> list[float]:
    """`count` multiples of 2^-24 in [0, 1), the u of stochastic rounding."""
    words = public_words(public, (round, participant, _tag(b"RNDG")), count)
    return [(word >> 8) * 2.0**-24 for word in words]


# Encoding (section 3)


def _float32(value: float) -> float:
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


def _to_words(values: Iterable[int], bits: int) -> Words:
    """Values mod 2^bits as message words: all low limbs, then (64 bits) all high limbs."""
    values = [value % 2**bits for value in values]
    return [value >> limb & 0xFFFFFFFF for limb in range(0, bits, 32) for value in values]


def _to_values(words: Words, bits: int) -> list[int]:
    """The inverse of `_to_words`, values in [0, 2^bits)."""
    if bits == 32:
        return words
    half = len(words) // 2
    return [low + (high << 32) for low, high in zip(words[:half], words[half:], strict=True)]


def _lift(value: int, modulus: int) -> int:
    """The representative of a residue that is nearest to zero."""
    return value - modulus if value > (modulus - 1) // 2 else value


def encode(
    update: Any, weight: int, settings: Settings, noise: Sequence[float] | None = None
) -> tuple[Words, int]:
    """One message (sections 3.1, 3.2) and how many of its coordinates were clipped.

    `update` f32[d]; `weight` m >= 0; `noise` u[d], for stochastic rounding only. D words (wide
    ring: 2 D); the last value is the weight word. ValueError if the update is not finite.
    """
    clip = _float32(settings.clip)
    quantised, clipped = [], 0
    for w, value in enumerate(np.asarray(update, np.float32).tolist()):
        if not isfinite(value):
            raise ValueError(f"Argument 'update' must be finite, not {value} at {w}.")
        clipped += abs(value) > clip
        scaled = max(-clip, min(clip, value if abs(value) >= TINY else 0.0))
        scaled *= 2**settings.fraction_bits  # exact
        if settings.rounding == "nearest":
            quantised.append(round(scaled))  # ties to even
        else:
            if noise is None:
                raise ValueError("Argument 'noise' is needed when rounding is 'stochastic'.")
            low = floor(scaled)
            quantised.append(low + (noise[w] < _float32(scaled - low)))
    return _to_words([weight * q for q in quantised] + [weight], settings.ring_bits), clipped


def decode(aggregate: Words, settings: Settings) -> list[float]:
    """The mean of d coordinates: signed lift / 2^f / W (section 3.4), correctly rounded."""
    values = _to_values(aggregate, settings.ring_bits)
    scale = values[-1] << settings.fraction_bits
    return [float(Fraction(_lift(value, 2**settings.ring_bits), scale)) for value in values[:-1]]


def _check(settings: Settings, n: int, weights: Sequence[int]) -> None:
    """Refuses what cannot work: `n` too small, clashing settings, no headroom (section 3.3)."""
    k, t, rule = settings.neighbours, settings.threshold, settings.dropout_rule
    largest = ceil(Fraction(_float32(settings.clip)) * 2**settings.fraction_bits)
    limit = 2**30 - 1 if rule == "shamir" else 2 ** (settings.ring_bits - 1) - 1
    needed = n * max(weights) * largest
    for works, name, bound in [
        (n >= 3, f"group size {n}", "at least 3"),
        (k >= n - 1 or (k >= 2 and k % 2 == 0), f"neighbours {k}", f"even or at least {n - 1}"),
        (settings.prg_rounds in (8, 12, 20), f"prg_rounds {settings.prg_rounds}", "8, 12 or 20"),
        (settings.ring_bits in (32, 64), f"ring_bits {settings.ring_bits}", "32 or 64"),
        (settings.rounding in ROUNDINGS, f"rounding {settings.rounding!r}", f"in {ROUNDINGS}"),
        (settings.shares in SHARES, f"shares {settings.shares!r}", f"in {SHARES}"),
        (rule in RULES, f"dropout_rule {rule!r}", f"in {RULES}"),
        (settings.engine in ENGINES, f"engine {settings.engine!r}", f"in {ENGINES}"),
        (settings.engine != "ideal" or rule == "retry", f"dropout_rule {rule!r}", "'retry': ideal"),
        (rule != "shamir" or settings.ring_bits == 32, "ring_bits 64", "32: shamir"),
        (rule != "shamir" or k >= n - 1, f"neighbours {k}", f"at least {n - 1}: shamir"),
        (rule != "shamir" or 2 <= t <= n, f"threshold {t}", f"in [2, {n}]"),
        (0 < largest < 2**31, f"clip * 2^fraction_bits {largest}", "in (0, 2^31)"),
        (needed <= limit, f"n * weight * clip * 2^fraction_bits {needed}", f"at most {limit}"),
    ]:
        if not works:
            raise ValueError(f"The setting {name} must be {bound}.")


# The sharing graph (section 5)


def neighbours_of(
    settings: Settings, public: Words, round: int, attempt: int, members: Sequence[int], n: int
) -> list[list[int]]:
    """Per slot its partners' slots, ascending; none for slots that are not `members` (slots).

    Complete if k >= members - 1, else the Harary ring over the members in the order of their words.
    """
    partners: list[list[int]] = [[] for _ in range(n)]
    if settings.neighbours >= len(members) - 1:
        for slot in members:
            partners[slot] = sorted(set(members) - {slot})
        return partners
    words = public_words(public, (round, attempt, _tag(b"GRPH")), n)
    ring = sorted(sorted(members), key=words.__getitem__)
    for place, slot in enumerate(ring):
        for distance in range(1, settings.neighbours // 2 + 1):
            ahead = ring[(place + distance) % len(ring)]
            partners[slot].append(ahead)
            partners[ahead].append(slot)
    return [sorted(row) for row in partners]


def _connected(partners: list[list[int]], slots: Sequence[int]) -> bool:
    """Whether the graph that `slots` induce is connected: breadth first from one of them."""
    seen = frontier = set(slots[:1])
    while frontier:
        frontier = {q for p in frontier for q in partners[p]} & set(slots) - seen
        seen = seen | frontier
    return len(seen) == len(slots)


# Shamir sharing over a prime field (section 5)


def shamir_shares(
    secret: Sequence[int], coefficients: list[Words], points: Sequence[int], prime: int
) -> list[Words]:
    """f(x) for every x in `points`, f(x) = secret + sum_l coefficients[l - 1] x^l, word by word."""
    if any(x % prime == 0 for x in points):
        raise ValueError(f"Argument 'points' must not be 0 mod {prime}, where the secret is.")
    shares = []
    for x in points:
        share = [0] * len(secret)
        for row in [*reversed(coefficients), secret]:  # Horner's rule
            share = [(s * x + c) % prime for s, c in zip(share, row, strict=True)]
        shares.append(share)
    return shares


def interpolate_at_zero(points: Sequence[int], shares: Sequence[Words], prime: int) -> Words:
    """f(0) by Lagrange from as many distinct points as f has coefficients, word by word."""
    if len({x % prime for x in points}) < len(points) or any(x % prime == 0 for x in points):
        raise ValueError(f"Argument 'points' must be distinct and not 0 mod {prime}: {points}.")
    secret = [0] * len(shares[0])
    for x, share in zip(points, shares, strict=True):
        factor = 1
        for other in points:
            if other != x:
                factor = factor * other * pow(other - x, -1, prime) % prime
        secret = [(s + factor * value) % prime for s, value in zip(secret, share, strict=True)]
    return secret


def _field_words(key: Words, count: int, rounds: int) -> Words:
    """Uniform residues mod 2^31 - 1 by rejection: where a word is p, the next nonce's is taken."""
    words = [PRIME] * count
    for retry in count_from():
        if PRIME not in words:
            break
        fresh = stream(key, (retry, 0, 0), count, rounds)
        words = [f & PRIME if w == PRIME else w for w, f in zip(words, fresh, strict=True)]
    return words


# The round (sections 5 and 6)


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
    _check(settings, n, weights)
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
        void = len(survivors) < settings.threshold
    else:
        needed = max(3, n - floor(Fraction(settings.max_dropout) * n))
        void = len(survivors) < needed or not _connected(partners, survivors)

    # Share, upload, aggregate.
    uploads: list[Words] = [[0] * size for _ in ids]
    aggregate = [0] * size
    if not void:
        messages = {slot: _to_values(encoded[slot], bits) for slot in dealers}
        if rule == "shamir":
            sent, summed = _shamir(settings, chain, ids, messages, survivors)
        elif settings.engine == "ideal":
            sent, summed = _ideal(settings, chain, attempt, ids, messages)
        else:
            sent, summed = _pairwise(settings, chain, attempt, ids, messages, partners, survivors)
        aggregate = _to_words(summed, bits)
        for slot in survivors:
            uploads[slot] = _to_words(sent[slot], bits)

    # The weight word must be a possible sum of the weights (section 3.4).
    weight_total = _to_values(aggregate, bits)[-1]
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


Values = dict[int, list[int]]  # by slot


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
        key = _derive(chain, attempt, ids[dealer], ids[holder], b"PAIR")
        count = len(messages[dealer]) * settings.ring_bits // 32
        return _to_values(stream(key, (0, 0, 0), count, settings.prg_rounds), settings.ring_bits)

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
        key = _derive(chain, attempt, ids[i], 0, b"IDEA")
        words = stream(key, (0, 0, 0), len(summed) * bits // 32, settings.prg_rounds)
        sent[i] = _to_values(words, bits)
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
        keys = [_derive(chain, 0, ids[i], c, b"SHAM") for c in range(1, settings.threshold)]
        rows = [_field_words(key, len(message), settings.prg_rounds) for key in keys]
        secret = [_lift(value, 2**32) for value in message]
        for j, share in zip(survivors, shamir_shares(secret, rows, points, PRIME), strict=True):
            held = sent.get(j, [0] * len(share))
            sent[j] = [(h + s) % PRIME for h, s in zip(held, share, strict=True)]
    t = settings.threshold
    total = interpolate_at_zero(points[:t], [sent[j] for j in survivors[:t]], PRIME)
    return sent, [_lift(value, PRIME) for value in total]


# Hashes (section 9)


def words_sha256(words: Words) -> str:
    """SHA-256 (hex) over the words, little-endian."""
    return hashlib.sha256(struct.pack(f"<{len(words)}I", *words)).hexdigest()


def run_digest(aggregate_digests: Sequence[str], parameters: Any) -> str:
    """`run_sha256`: over the rounds' digests (hex, in order), then the final parameters f32[d]."""
    final = np.asarray(parameters, np.float32).tolist()
    rounds = b"".join(map(bytes.fromhex, aggregate_digests))
    return hashlib.sha256(rounds + struct.pack(f"<{len(final)}f", *final)).hexdigest()
