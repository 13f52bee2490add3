"""ChaCha (RFC 8439) on uint32 arrays: the source of every share and every public random word.

A pseudorandom generator is a `PRG`: a name, its rounds, and `block`, which maps eight key words, a
counter and three nonce words (arrays of one shape) to the sixteen words of a block, elementwise.
Two forms are here: `block`, unrolled, for kernels that evaluate millions of blocks inside one
fusion, and `blocks`, rolled into a loop, for places that run once and must compile fast.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import UInt32

_CONSTANTS = (0x61707865, 0x3320646E, 0x79622D32, 0x6B206574)  # "expand 32-byte k"
MOST_WORDS = 16 << 32  # of one key and nonce: the counter is one word


class PRG(NamedTuple):
    """A block generator with 256-bit keys; implement it to plug in another.

    `block(key, counter, nonce)`: 8 arrays, 1 array, 3 arrays of uint32 that broadcast together ->
    16 arrays of uint32, elementwise, traceable by jax, the same words on every backend.
    """

    name: str
    rounds: int
    block: Callable[[Sequence[Array], Array, Sequence[Array]], tuple[Array, ...]]


def _rotate(x: Array, bits: int) -> Array:
    return (x << jnp.uint32(bits)) | (x >> jnp.uint32(32 - bits))


def _quarter_round(a: Array, b: Array, c: Array, d: Array) -> tuple[Array, Array, Array, Array]:
    a = a + b
    d = _rotate(d ^ a, 16)
    c = c + d
    b = _rotate(b ^ c, 12)
    a = a + b
    d = _rotate(d ^ a, 8)
    c = c + d
    b = _rotate(b ^ c, 7)
    return a, b, c, d


def block(
    key: Sequence[Array], counter: Array, nonce: Sequence[Array], *, rounds: int = 20
) -> tuple[Array, ...]:
    """The ChaCha block function, unrolled; RFC 8439 section 2.3 with `rounds` rounds.

    Args: 8 key words, a counter and 3 nonce words, uint32 arrays that broadcast together.
    Returns 16 uint32 arrays of the common shape.
    """
    shape = jnp.broadcast_shapes(*(jnp.shape(word) for word in (*key, counter, *nonce)))
    constants = [jnp.full(shape, c, jnp.uint32) for c in _CONSTANTS]
    start = [*constants, *(jnp.broadcast_to(w, shape) for w in (*key, counter, *nonce))]
    x = list(start)
    for _ in range(rounds // 2):
        for i in range(4):  # columns
            x[i], x[4 + i], x[8 + i], x[12 + i] = _quarter_round(
                x[i], x[4 + i], x[8 + i], x[12 + i]
            )
        for i in range(4):  # diagonals
            b, c, d = 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4
            x[i], x[b], x[c], x[d] = _quarter_round(x[i], x[b], x[c], x[d])
    return tuple(a + b for a, b in zip(x, start, strict=True))


CHACHA20 = PRG("chacha20", 20, partial(block, rounds=20))
CHACHA12 = PRG("chacha12", 12, partial(block, rounds=12))
CHACHA8 = PRG("chacha8", 8, partial(block, rounds=8))
PRGS = {prg.name: prg for prg in (CHACHA20, CHACHA12, CHACHA8)}


def blocks(
    key: UInt32[Array, "*shape 8"],
    counter: UInt32[Array, " *shape"],
    nonce: UInt32[Array, "*shape 3"],
) -> UInt32[Array, " 16 *shape"]:
    """ChaCha20 blocks, rolled: for key derivation and public words, where compile time counts.

    The leading axis of the arguments' batch `shape` is free; axes of size 1 broadcast. The four
    rows of the state are arrays [4, *shape], so that a quarter round is done for four columns at
    once, and one loop body serves all rounds.
    """
    shape = jnp.broadcast_shapes(key.shape[:-1], counter.shape, nonce.shape[:-1])
    key = jnp.moveaxis(jnp.broadcast_to(key, (*shape, 8)), -1, 0)
    nonce = jnp.moveaxis(jnp.broadcast_to(nonce, (*shape, 3)), -1, 0)
    counter = jnp.broadcast_to(counter, shape)[None]
    constants = jnp.array(_CONSTANTS, jnp.uint32).reshape(4, *(1 for _ in shape))
    first = jnp.broadcast_to(constants, (4, *shape))
    start = (first, key[:4], key[4:], jnp.concatenate([counter, nonce]))

    def one_round(index: Array, rows: tuple[Array, ...]) -> tuple[Array, ...]:
        """A quarter round on four columns; then rows turn, to diagonals or back to columns."""
        a, b, c, d = _quarter_round(*rows)
        left = index % 2 == 0
        b = jnp.where(left, jnp.roll(b, -1, 0), jnp.roll(b, 1, 0))
        d = jnp.where(left, jnp.roll(d, 1, 0), jnp.roll(d, -1, 0))
        return a, b, jnp.roll(c, 2, 0), d

    rows = lax.fori_loop(0, 20, one_round, start)
    return jnp.concatenate([a + b for a, b in zip(rows, start, strict=True)])


def first8(
    key: UInt32[Array, "*shape 8"],
    counter: UInt32[Array, " *shape"],
    nonce: UInt32[Array, "*shape 3"],
) -> UInt32[Array, "*shape 8"]:
    """Words 0..7 of ChaCha20 blocks: how every key is derived (protocol section 4)."""
    return jnp.moveaxis(blocks(key, counter, nonce)[:8], 0, -1)


def words(
    key: UInt32[Array, "8"], nonce: UInt32[Array, "3"], count: int
) -> UInt32[Array, " count"]:
    """`count` ChaCha20 words in lane-major order: word w is lane w div B of block w mod B."""
    num_blocks = -(-count // 16)
    counters = jnp.arange(num_blocks, dtype=jnp.uint32)
    return blocks(key[None], counters, nonce[None]).reshape(-1)[:count]


def tag(text: str) -> jax.Array:
    """The word of four ASCII bytes, little-endian."""
    return jnp.uint32(int.from_bytes(text.encode("ascii"), "little"))
