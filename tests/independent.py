"""The protocol's formulas on `cryptography`'s ChaCha20 and NumPy: no word of this is the package's.

Everything is recomputed from what a transcript shows: S_r, ids, partners, encoded updates. Values
are u32 arrays; the wide ring's messages are all low limbs, then all high limbs.
"""

import hashlib

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

ANY = 0xFFFFFFFF
PRIME = 2**31 - 1


def tag(text):
    return int.from_bytes(text.encode("ascii"), "little")


def blocks(key, counter, nonce, count):
    """u32 [count, 16]: ChaCha20 blocks counter..counter+count-1."""
    start = np.array([counter, *nonce], "<u4").tobytes()
    cipher = Cipher(algorithms.ChaCha20(np.asarray(key, "<u4").tobytes(), start), mode=None)
    return np.frombuffer(cipher.encryptor().update(bytes(64 * count)), "<u4").reshape(count, 16)


def words(key, count, nonce=(0, 0, 0)):
    """u32 [count], lane-major: word w is lane w div B of block w mod B."""
    return blocks(key, 0, nonce, -(-count // 16)).T.reshape(-1)[:count].copy()


def derive(key, counter, first, second, purpose):
    """first8 of the block with nonce (first, second, purpose)."""
    return blocks(key, counter, (int(first), int(second), tag(purpose)), 1)[0, :8]


def seed_key(seed):
    return [seed % 2**32, seed >> 32, 0, 0, 0, 0, 0, 0]


def chain_of(seed, round_):
    """S_r."""
    state = derive(seed_key(seed), 0, 0, 0, "INIT")
    for _ in range(round_):
        state = derive(state, 0, 0, 0, "NEXT")
    return state


def public_of(seed):
    """R."""
    return derive(seed_key(seed), 0, 0, 0, "RAND")


def values_of(message, bits):
    """Object array of Python integers in [0, 2^bits)."""
    whole = [int(word) for word in message]
    if bits == 32:
        return np.array(whole, object)
    half = len(whole) // 2
    pairs = zip(whole[:half], whole[half:], strict=True)
    return np.array([low + (high << 32) for low, high in pairs], object)


def words_of(values, bits):
    """u32 message words of Python integers."""
    values = [int(value) % 2**bits for value in values]
    limbs = [[value >> shift & ANY for value in values] for shift in range(0, bits, 32)]
    return np.array([word for limb in limbs for word in limb], np.uint32)


def encode(update, weight, clip, fraction_bits, bits=32):
    """A message, nearest rounding: float64 holds every value exactly, rint goes to even."""
    scaled = np.clip(update.astype(np.float64), -float(clip), float(clip)) * 2.0**fraction_bits
    quantised = np.rint(scaled).astype(np.int64).tolist()
    return words_of([weight * q for q in quantised] + [weight], bits)


def share(chain, attempt, dealer, holder, count):
    """s_{dealer -> holder}."""
    return words(derive(chain, attempt, dealer, holder, "PAIR"), count)


def upload(chain, attempt, me, partners, encoded, shares, bits=32):
    """a_i = x_i + sum_j (s_{j->i} - s_{i->j}), or with one share a pair, lower id to higher."""
    total = values_of(encoded, bits)
    for other in partners:
        if shares == "directed" or other < me:
            held = share(chain, attempt, other, me, len(encoded))
            total = total + values_of(held, bits)
        if shares == "directed" or other > me:
            dealt = share(chain, attempt, me, other, len(encoded))
            total = total - values_of(dealt, bits)
    return words_of(total, bits)


def field_words(key, count):
    """Uniform residues mod 2^31 - 1: 31 bits, and again under the next nonce where they are p."""
    found = words(key, count) & np.uint32(PRIME)
    for retry in (1, 2, 3):
        again = words(key, count, (retry, 0, 0)) & np.uint32(PRIME)
        found = np.where(found == PRIME, again, found)
    return found


def digest_of(uploads, alive):
    """Sum over the alive slots of (2 s + 1) a_s, 32-bit words as sent."""
    total = np.zeros(uploads.shape[1], np.uint64)
    for slot in np.flatnonzero(alive):
        total += np.uint64(2 * slot + 1) * uploads[slot].astype(np.uint64)
    return (total % np.uint64(2**32)).astype(np.uint32)


def sha256(array):
    array = np.asarray(array)
    return hashlib.sha256(array.astype(array.dtype.newbyteorder("<")).tobytes()).hexdigest()


def ring_partners(public, round_, attempt, members, neighbours, size):
    """Per slot the partners' slots of the Harary ring over `members` (slots); complete if it is."""
    partners = [[] for _ in range(size)]
    if neighbours >= len(members) - 1:
        return [sorted(set(members) - {s}) if s in members else [] for s in range(size)]
    drawn = words(public, size, (round_, attempt, tag("GRPH")))
    ring = sorted(sorted(members), key=lambda slot: int(drawn[slot]))
    for place, slot in enumerate(ring):
        for distance in range(1, neighbours // 2 + 1):
            partners[slot].append(ring[(place + distance) % len(ring)])
            partners[slot].append(ring[(place - distance) % len(ring)])
    return [sorted(row) for row in partners]


def ulps(a, b, magnitude):
    """|a - b| in units of float32's last place at that magnitude."""
    apart = np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64))
    return apart / np.spacing(np.abs(np.asarray(magnitude, np.float32))).astype(np.float64)


def in_one_piece(partners, left):
    """Whether those that are left reach each other by links among them."""
    left = set(left)
    reached, ways = set(), sorted(left)[:1]
    while ways:
        here = ways.pop()
        reached.add(here)
        ways += set(partners[here]) & left - reached
    return reached == left
