"""ChaCha and all random words (docs/protocol.md, section 4), in Python integers."""

import struct
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from itertools import count as count_from
from math import floor

PRIME = 2**31 - 1
ANY = 0xFFFFFFFF  # in a nonce, in place of one participant's id
Words = list[int]
Nonce = tuple[int, int, int]


def tag(name: bytes) -> int:
    """Four ASCII bytes as a nonce word, little-endian."""
    return int.from_bytes(name, "little")


def _spread(words: Sequence[int]) -> int:
    """Packs words into 64-bit lanes of one integer, so one operation acts on every block."""
    return int.from_bytes(struct.pack(f"<{len(words)}Q", *words), "little")


def blocks_of(key: Words, counters: Sequence[int], nonce: Nonce, rounds: int) -> list[Words]:
    """ChaCha blocks (RFC 8439) of all counters at once: row l holds word l of every block."""
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
    """The 16 words of one ChaCha block. The key has 8 words; all words have 32 bits."""
    return [row[0] for row in blocks_of(key, [counter], nonce, rounds)]


def stream(key: Words, nonce: Nonce, count: int, rounds: int = 20) -> Words:
    """`count` words, lane-major: word w is word w div B of block w mod B, B = ceil(count / 16)."""
    rows = blocks_of(key, range(-(-count // 16)), nonce, rounds)
    return [word for row in rows for word in row][:count]


def derive_key(key: Words, counter: int, a: int, b: int, name: bytes) -> Words:
    """A derived key: words 0..7 of the block with nonce (a, b, tag(name)); always 20 rounds."""
    return chacha_block(key, counter, (a, b, tag(name)))[:8]


def seed_key(seed: int) -> Words:
    """The seed as a key: its two halves, then zeros. Raises `ValueError` outside [0, 2^64)."""
    if not 0 <= seed < 2**64:
        raise ValueError(f"Argument 'seed' must be in [0, 2^64), not {seed}.")
    return [seed % 2**32, seed >> 32, 0, 0, 0, 0, 0, 0]


def initial_chain(seed: int) -> Words:
    """S_0, 8 words."""
    return derive_key(seed_key(seed), 0, 0, 0, b"INIT")


def next_chain(chain: Words) -> Words:
    """S_{r+1} from S_r."""
    return derive_key(chain, 0, 0, 0, b"NEXT")


def public_key(seed: int) -> Words:
    """R, the key of all public randomness, 8 words."""
    return derive_key(seed_key(seed), 0, 0, 0, b"RAND")


def public_words(public: Words, nonce: Nonce, count: int) -> Words:
    """`count` public words; the nonce names their purpose. Always 20 rounds."""
    return stream(public, nonce, count)


def _argsort(words: Sequence[int]) -> list[int]:
    return sorted(range(len(words)), key=words.__getitem__)  # stable


def select_group(
    public: Words, round: int, population: int, group_size: int, selection: str
) -> list[int]:
    """The group's ids in slot order; `selection` is random or rotate. Ascending for n = N."""
    if group_size == population:
        return list(range(population))
    draw, start = round, 0
    if selection == "rotate":
        draw, turn = divmod(round, population // group_size)
        start = turn * group_size
    order = _argsort(public_words(public, (draw, ANY, tag(b"SELE")), population))
    return order[start : start + group_size]


def vanished_slots(public: Words, round: int, n: int, fraction: str | Decimal) -> set[int]:
    """The floor(p n) slots that vanish after sharing. `fraction` p is an exact decimal."""
    order = _argsort(public_words(public, (round, ANY, tag(b"DROP")), n))
    return set(order[: floor(Fraction(fraction) * n)])


def batch_order(
    public: Words, round: int, participant: int, rows: int, epochs: int
) -> list[list[int]]:
    """A permutation of the participant's rows for each epoch."""
    words = public_words(public, (round, participant, tag(b"BTCH")), rows * epochs)
    return [_argsort(words[e * rows : (e + 1) * rows]) for e in range(epochs)]


def rounding_noise(public: Words, round: int, participant: int, count: int) -> list[float]:
    """Noise for stochastic rounding: `count` multiples of 2^-24 in [0, 1)."""
    words = public_words(public, (round, participant, tag(b"RNDG")), count)
    return [(word >> 8) * 2.0**-24 for word in words]


def field_words(key: Words, count: int, rounds: int) -> Words:
    """Uniform residues mod p = 2^31 - 1. A word equal to p is replaced by the next nonce's word."""
    words = [PRIME] * count
    for retry in count_from():
        if PRIME not in words:
            break
        fresh = stream(key, (retry, 0, 0), count, rounds)
        words = [f & PRIME if w == PRIME else w for w, f in zip(words, fresh, strict=True)]
    return words
