"""The hot loops: PRG blocks, each evaluated once, and the sums that consume them.

XLA's CPU compiler evaluates an expression anew for each array that it writes, so a block of 16
words written as 16 arrays costs 16 blocks. Only inside one variadic `lax.reduce` is it shared. Two
forms follow from that:

- `written`: the 16 words of every block as 16 arrays. The reduce runs over an axis of two, whose
  second element is masked to zero; nothing but the mask depends on it, so the block is hoisted out
  and stored once, vectorised over blocks.
- `sum_together`: sums over keys, with nothing written but the sums; vectorised over keys.

What enters either form must be broadcast to the full shape first: a change of indexing between the
block and the reduce makes XLA split the loop and evaluate again. Compilers of accelerators share
the expression by themselves; they have a schedule of their own (`key_sums`).

A PRG in its rolled form (`chacha.rolled`, for small groups) writes its words to memory itself: one
array with the 16 lanes in front instead of 16 arrays, so that what follows is done once, too.
"""

import functools
from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, UInt32

from ssddl_jax.core.arithmetic.chacha import PRG
from ssddl_jax.core.arithmetic.field import MERSENNE31, P
from ssddl_jax.core.arithmetic.field import from_halves as from_field_halves
from ssddl_jax.core.arithmetic.reductions import sum_together
from ssddl_jax.core.arithmetic.rings import MOST, Ring, from_halves

LANES = 16  # keys summed together are padded to a multiple: the vector width of uint32 words


def written(
    prg: PRG,
    keys: Sequence[Array],
    factor: UInt32[Array, " *P"],
    first: UInt32[Array, ""],
    count: int,
    nonce_word: int = 0,
) -> list[Array]:
    """factor * word for blocks first..first+count-1 of every key, in parts: 16 arrays u32
    [*P, count], or, of a PRG that writes to memory, one [16, *P, count] (see `lanes_of`).

    `keys`: 8 arrays u32 [*P]; `factor` is any word, such as 0, 1 or -1 mod 2^32.
    """
    shape = (*factor.shape, count)
    lead = tuple(range(factor.ndim))

    def words(shape: tuple[int, ...], once: Array, first: Array) -> list[Array]:
        counter = lax.broadcasted_iota(jnp.uint32, shape, factor.ndim) + first
        blocks = _parts(prg, shape, keys, lead, counter, nonce_word)
        return [word * _over(once, word) for word in blocks]

    def plain() -> list[Array]:
        return words(shape, lax.broadcast_in_dim(factor, shape, lead), first)

    def shared() -> list[Array]:
        twice = (*shape, 2)
        once = jnp.uint32(1) - lax.broadcasted_iota(jnp.uint32, twice, len(shape))
        once = once * lax.broadcast_in_dim(factor, twice, lead)
        return list(sum_together(words(twice, once, _kept_loop(first, keys)), (len(shape),)))

    if prg.in_memory:
        return plain()
    return lax.platform_dependent(cpu=shared, default=plain)


def lanes_of(parts: Sequence[Array]) -> UInt32[Array, " lanes *shape"]:
    """Parts as one array with its lanes in front: 16 for all that is added of a word."""
    return jnp.stack(parts) if len(parts) >= 16 else jnp.concatenate(parts)


def _parts(
    prg: PRG,
    shape: tuple[int, ...],
    keys: Sequence[Array],
    lead: tuple[int, ...],
    counter: Array,
    nonce_word: int,
) -> list[Array]:
    """Blocks of keys whose axes are `lead` of the shape, under nonce (nonce_word, 0, 0)."""
    if not prg.in_memory:
        columns = [lax.broadcast_in_dim(key, shape, lead) for key in keys]
        nonce = [jnp.full(shape, word, jnp.uint32) for word in (nonce_word, 0, 0)]
        return list(prg.block(columns, counter, nonce))
    thin = tuple(size if axis in lead else 1 for axis, size in enumerate(shape))
    columns = [lax.broadcast_in_dim(key, thin, lead) for key in keys]
    nonce = [jnp.full((1,) * len(shape), word, jnp.uint32) for word in (nonce_word, 0, 0)]
    return [prg.block(columns, counter, nonce)]


def _over(values: Array, word: Array) -> Array:
    """Values [*shape] for a part: the same for each lane that it holds."""
    return values if values.ndim == word.ndim else values[None]


def _kept_loop(first: Array, keys: Sequence[Array]) -> Array:
    """The same word, through a sort that depends on the keys, so that a loop over keys stays one.

    From jax 0.12 on, XLA's CPU compiler turns loops without sorts, calls and the like into one
    function, in which it no longer knows that 16 outputs do not overlap, and LLVM does not
    vectorise: 8 times slower.
    """
    order = jnp.stack([key.reshape(-1)[0] for key in keys[:2]])
    return lax.sort((order, jnp.stack([first, first])), num_keys=1)[1][0]


def _blocks(
    prg: PRG, keys: UInt32[Array, "K 8"], count: int, first: Array | int = 0, nonce_word: int = 0
) -> list[Array]:
    """Blocks first..first+count-1 in parts [count, K] or [16, count, K], to be summed over K."""
    shape = (count, keys.shape[0])
    counter = lax.broadcasted_iota(jnp.uint32, shape, 0) + jnp.asarray(first, jnp.uint32)
    return _parts(prg, shape, list(keys.T), (1,), counter, nonce_word)


def _padded(keys: UInt32[Array, "K ..."]) -> UInt32[Array, "K ..."]:
    """Zeros up to a multiple of the vector width; at other sizes LLVM falls back to scalars."""
    return jnp.pad(keys, [(0, -keys.shape[0] % LANES), *((0, 0) for _ in keys.shape[1:])])


def key_sums(
    prg: PRG,
    ring: Ring,
    width: int,
    keys: UInt32[Array, "K 8"],
    counted: Bool[Array, " K"],
) -> UInt32[Array, " W"]:
    """Ring sum of the counted keys' words; K <= 2^16."""
    blocks = _blocks(prg, _padded(keys), -(-width // 16))
    one = _across(counted.astype(jnp.uint32), blocks[0])
    return _settled(ring, _key_sums(_halves(ring, [word * one for word in blocks])), width)


def drawn_sums(
    prg: PRG,
    ring: Ring,
    width: int,
    keys: UInt32[Array, "K 8"],
    counted: Bool[Array, " K"],
    factors: UInt32[Array, " K"],
) -> tuple[UInt32[Array, " W"], UInt32[Array, " W"]]:
    """Ring sum of the counted keys' words, and sum of factor * word, word by word; K <= 2^16."""
    blocks = _blocks(prg, _padded(keys), -(-width // 16))
    one, weight = (_across(x, blocks[0]) for x in (counted.astype(jnp.uint32), factors))
    halves = _halves(ring, [word * one for word in blocks])
    sums = _key_sums([*halves, *(word * weight for word in blocks)])
    split = len(halves)
    return _settled(ring, sums[:split], width), _message(sums[split:], width)


def _across(values: UInt32[Array, " K"], part: Array) -> Array:
    """A value for every key, over blocks and lanes."""
    return lax.broadcast_in_dim(_padded(values), part.shape, (part.ndim - 1,))


def _key_sums(parts: list[Array]) -> list[Array]:
    return list(sum_together(parts, (parts[0].ndim - 1,)))


def _halves(ring: Ring, words: list[Array]) -> list[Array]:
    """What is summed of words so that no carry is lost: in the wide ring, their halves."""
    if ring.limbs == 1:
        return words
    assert words[0].shape[-1] <= MOST
    low = [word & jnp.uint32(0xFFFF) for word in words]
    return [*low, *(word >> jnp.uint32(16) for word in words)]


def _settled(ring: Ring, sums: Sequence[Array], width: int) -> UInt32[Array, " W"]:
    """The message that sums of `_halves` stand for."""
    if ring.limbs == 1:
        return _message(sums, width)
    half = len(sums) // 2
    return from_halves(_message(sums[:half], width), _message(sums[half:], width))


def _message(parts: Sequence[Array], width: int) -> UInt32[Array, " W"]:
    """A message from its 16 lanes: lane after lane, cut to the width."""
    return lanes_of(parts).reshape(-1)[:width]


def coefficient_sums(
    prg: PRG,
    keys: UInt32[Array, "n 8"],
    members: Bool[Array, " n"],
    first: Array,
    count: int,
    few: Callable[..., Array] | None = None,
) -> UInt32[Array, " 16 count"]:
    """Sum over the members of uniform field elements, blocks first..first+count-1.

    An element is a word's low 31 bits; where these equal p, the word of nonce (1, 0, 0), then of
    (2, 0, 0), stands in: rejection, never a remainder. `few` does it for at most 2^16 members.
    """
    few = few or _coefficient_sums
    if keys.shape[0] <= MOST:
        return few(prg, keys, members, first, count)
    spare = -keys.shape[0] % MOST
    groups = jnp.pad(keys, ((0, spare), (0, 0))).reshape(-1, MOST, 8)
    present = jnp.pad(members, (0, spare)).reshape(-1, MOST)

    def plus(total: Array, group: tuple[Array, Array]) -> tuple[Array, None]:
        return MERSENNE31.add(total, few(prg, *group, first, count)), None

    total, _ = lax.scan(plus, jnp.zeros((16, count), jnp.uint32), (groups, present))
    return total


def _coefficient_sums(
    prg: PRG, keys: UInt32[Array, "n 8"], members: Bool[Array, " n"], first: Array, count: int
) -> UInt32[Array, " 16 count"]:
    """Of at most 2^16 members. p is 0 in the field, so a rejected word adds nothing by itself, and
    the stand-ins are added in the rare chunk that has one.
    """
    keys = _padded(keys)
    keep = jnp.where(_padded(members.astype(jnp.uint32)) == 1, jnp.uint32(P), jnp.uint32(0))

    blocks = _blocks(prg, keys, count, first)
    words = [word & _across(keep, word) for word in blocks]
    rejected = functools.reduce(jnp.logical_or, [word == jnp.uint32(P) for word in words])
    low, high, counted = _half_sums(words, [rejected.astype(jnp.uint32)])
    total = from_field_halves(low, high)

    def stand_ins() -> UInt32[Array, " 16 count"]:
        one = (keep > 0).astype(jnp.uint32)
        columns = [keys[:, i] for i in range(8)]
        tries = []
        for nonce in range(3):  # a PRG in each loop: two in one would not compile
            drawn = written(prg, columns, one, first, count, nonce)
            drawn = [jnp.swapaxes(word, -1, -2) & jnp.uint32(P) for word in drawn]
            tries.append(lax.optimization_barrier(drawn))
        instead = [
            jnp.where(a == jnp.uint32(P), jnp.where(b == jnp.uint32(P), c, b), jnp.zeros_like(a))
            for a, b, c in zip(*tries, strict=True)
        ]
        low, high, _ = _half_sums(instead, [])
        return MERSENNE31.add(total, from_field_halves(low, high))

    return lax.cond(jnp.any(counted[0] > 0), stand_ins, lambda: total)


def _half_sums(
    words: list[Array], others: list[Array]
) -> tuple[UInt32[Array, " 16 count"], UInt32[Array, " 16 count"], list[Array]]:
    """Sums over the keys of the words' lower and upper halves, and of other operands."""
    low = [word & jnp.uint32(0xFFFF) for word in words]
    high = [word >> jnp.uint32(16) for word in words]
    sums, parts = _key_sums([*low, *high, *others]), len(words)
    return lanes_of(sums[:parts]), lanes_of(sums[parts : 2 * parts]), sums[2 * parts :]
