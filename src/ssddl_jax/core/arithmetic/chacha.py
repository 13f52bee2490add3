"""ChaCha (RFC 8439) on uint32 arrays: the source of every share and every public random word.

A pseudorandom generator is a `PRG`: a name, a number of rounds, and `block`, which maps eight key
words, a counter and three nonce words (arrays of one shape) to the sixteen words of a block,
elementwise. There are three forms:

- unrolled, `block`: for kernels that evaluate millions of blocks inside one fusion;
- `looped(prg, together)`: the same with a loop over the rounds, for a kernel of our own, where the
  state stays in registers. Elsewhere XLA would write it to memory in every step;
- four quarter rounds at a time, in a loop, which compiles fast: `blocks` for keys and public words,
  computed once a round, and `rolled(prg)` for the shares of small groups.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import UInt32

_CONSTANTS = (0x61707865, 0x3320646E, 0x79622D32, 0x6B206574)  # "expand 32-byte k"
_TO_DIAGONALS = (0, 1, 2, 3, 5, 6, 7, 4, 10, 11, 8, 9, 15, 12, 13, 14)  # row i is rotated by i
_TO_COLUMNS = (0, 1, 2, 3, 7, 4, 5, 6, 10, 11, 8, 9, 13, 14, 15, 12)
MOST_WORDS = 16 << 32  # for one key and nonce: the counter is one word


class PRG(NamedTuple):
    """A pseudorandom generator of 16-word blocks with 256-bit keys. Write one to plug it in.

    `block(key, counter, nonce)` takes 8 arrays, 1 array and 3 arrays of uint32 that broadcast
    together, and returns 16 arrays of uint32. It must work elementwise, be traceable by JAX, and
    give the same words on every backend.
    """

    name: str
    rounds: int
    block: Callable[[Sequence[Array], Array, Sequence[Array]], Any]
    in_memory: bool = False  # `block` returns one array [16, ...], written to memory


Rotate = Callable[[Array, int], Array]


def _rotations(like: Array) -> Rotate:
    """rotate(x, left) for arrays of this shape. Each shift is traced once, so it is built once."""
    shifts = {bits: lax.full_like(like, bits) for bits in (7, 8, 12, 16, 20, 24, 25)}

    def rotate(x: Array, left: int) -> Array:
        high = lax.shift_left(x, shifts[left])
        return lax.bitwise_or(high, lax.shift_right_logical(x, shifts[32 - left]))

    return rotate


def _quarter_round(
    rotate: Rotate, a: Array, b: Array, c: Array, d: Array
) -> tuple[Array, Array, Array, Array]:
    for of_d, of_b in ((16, 12), (8, 7)):
        a = lax.add(a, b)
        d = rotate(lax.bitwise_xor(d, a), of_d)
        c = lax.add(c, d)
        b = rotate(lax.bitwise_xor(b, c), of_b)
    return a, b, c, d


@jax.jit  # traced and lowered once for all rounds of a block
def _double_round(*state: Array) -> tuple[Array, ...]:
    x, rotate = list(state), _rotations(state[0])
    for i in range(4):  # columns
        x[i], x[4 + i], x[8 + i], x[12 + i] = _quarter_round(
            rotate, x[i], x[4 + i], x[8 + i], x[12 + i]
        )
    for i in range(4):  # diagonals
        b, c, d = 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4
        x[i], x[b], x[c], x[d] = _quarter_round(rotate, x[i], x[b], x[c], x[d])
    return tuple(x)


def block(
    key: Sequence[Array],
    counter: Array,
    nonce: Sequence[Array],
    *,
    rounds: int = 20,
    together: int | None = None,
) -> tuple[Array, ...]:
    """The ChaCha block function of RFC 8439, section 2.3, with `rounds` rounds.

    Takes 8 key words, a counter and 3 nonce words: uint32 arrays that broadcast together. Returns
    16 uint32 arrays of the common shape. The rounds are unrolled, or a loop whose step is
    `together` double rounds, a divisor of `rounds` / 2.
    """
    shape = jnp.broadcast_shapes(*(jnp.shape(word) for word in (*key, counter, *nonce)))
    constants = [jnp.full(shape, c, jnp.uint32) for c in _CONSTANTS]
    start = [*constants, *(jnp.broadcast_to(w, shape) for w in (*key, counter, *nonce))]
    together = together or rounds // 2

    def step(_: Any, x: tuple[Array, ...]) -> tuple[Array, ...]:
        for _ in range(together):
            x = _double_round(*x)
        return x

    steps = rounds // 2 // together
    if steps * together * 2 != rounds:
        raise ValueError(f"{rounds} rounds are not whole steps of {together} double rounds")
    x = step(0, tuple(start)) if steps == 1 else lax.fori_loop(0, steps, step, tuple(start))
    return tuple(lax.add(a, b) for a, b in zip(x, start, strict=True))


def rolled_block(
    key: Sequence[Array], counter: Array, nonce: Sequence[Array], *, rounds: int = 20
) -> UInt32[Array, " 16 *shape"]:
    """The same words as `block`, in one array, by a loop over the rounds.

    It compiles in a fifth of the time and runs 10 to 20 times as long, because every round writes
    its state to memory.
    """
    shape = jnp.broadcast_shapes(*(jnp.shape(word) for word in (*key, counter, *nonce)))
    constants = jnp.array(_CONSTANTS, jnp.uint32).reshape(4, *(1 for _ in shape))
    pieces = (constants, jnp.stack(key), counter[None], jnp.stack(nonce))
    start = [jnp.broadcast_to(piece, (len(piece), *shape)) for piece in pieces]
    return _rolled(jnp.concatenate(start), rounds)


def _rolled(start: UInt32[Array, " 16 *shape"], rounds: int) -> UInt32[Array, " 16 *shape"]:
    """ChaCha from its start state, by a loop over the rounds.

    A round does four quarter rounds side by side, then rotates the rows: columns become diagonals,
    or the reverse.
    """
    turns = jnp.array(_TO_DIAGONALS + _TO_COLUMNS, jnp.int32).reshape(2, 16)

    def one_round(rows: Array, turn: Array) -> tuple[Array, None]:
        quarters = [rows[4 * i : 4 * i + 4] for i in range(4)]
        rows = jnp.concatenate(_quarter_round(_rotations(quarters[0]), *quarters))
        return rows[turn], None

    rows, _ = lax.scan(one_round, start, jnp.tile(turns, (rounds // 2, 1)))
    return rows + start


CHACHA20 = PRG("chacha20", 20, partial(block, rounds=20))
CHACHA12 = PRG("chacha12", 12, partial(block, rounds=12))
CHACHA8 = PRG("chacha8", 8, partial(block, rounds=8))
PRGS = {prg.name: prg for prg in (CHACHA20, CHACHA12, CHACHA8)}


def looped(prg: PRG, together: int) -> PRG:
    """The same generator, with a loop over its rounds that keeps its state in a kernel's registers.

    A user's PRG is returned unchanged.
    """
    if prg != PRGS.get(prg.name):
        return prg
    return prg._replace(block=partial(block, rounds=prg.rounds, together=together))


def rolled(prg: PRG) -> PRG:
    """The same generator in the form that compiles fast. A user's PRG is returned unchanged."""
    if prg != PRGS.get(prg.name):
        return prg
    return prg._replace(block=partial(rolled_block, rounds=prg.rounds), in_memory=True)


def blocks(
    key: UInt32[Array, "*shape 8"],
    counter: UInt32[Array, " *shape"],
    nonce: UInt32[Array, "*shape 3"],
) -> UInt32[Array, " 16 *shape"]:
    """ChaCha20 blocks in the rolled form, for keys and public words.

    It is used where compile time matters. The batch axes of the arguments broadcast together.
    """
    shape = jnp.broadcast_shapes(key.shape[:-1], counter.shape, nonce.shape[:-1])
    key = jnp.moveaxis(jnp.broadcast_to(key, (*shape, 8)), -1, 0)
    nonce = jnp.moveaxis(jnp.broadcast_to(nonce, (*shape, 3)), -1, 0)
    counter = jnp.broadcast_to(counter, shape)[None]
    constants = jnp.array(_CONSTANTS, jnp.uint32).reshape(4, *(1 for _ in shape))
    first = jnp.broadcast_to(constants, (4, *shape))
    return _rolled(jnp.concatenate([first, key, counter, nonce]), 20)


def first8(
    key: UInt32[Array, "*shape 8"],
    counter: UInt32[Array, " *shape"],
    nonce: UInt32[Array, "*shape 3"],
) -> UInt32[Array, "*shape 8"]:
    """Words 0..7 of ChaCha20 blocks: how keys are derived (docs/protocol.md, section 4)."""
    return jnp.moveaxis(blocks(key, counter, nonce)[:8], 0, -1)


def words(
    key: UInt32[Array, "8"], nonce: UInt32[Array, "3"], count: int
) -> UInt32[Array, " count"]:
    """`count` ChaCha20 words in lane-major order: word w is lane w div B of block w mod B."""
    num_blocks = -(-count // 16)
    counters = jnp.arange(num_blocks, dtype=jnp.uint32)
    return blocks(key[None], counters, nonce[None]).reshape(-1)[:count]


def tag(text: str) -> jax.Array:
    """Four ASCII bytes as one word, little-endian."""
    return jnp.uint32(int.from_bytes(text.encode("ascii"), "little"))
