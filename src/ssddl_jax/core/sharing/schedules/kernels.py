"""The CPU's hot loops: PRG blocks, each evaluated once, and the sums that consume them.

XLA's CPU compiler evaluates an expression again for each array that it writes, so a block of 16
words written as 16 arrays costs 16 blocks. Only one variadic `lax.reduce` shares the expression.
Hence two forms:

- `written` returns the 16 words of every block as 16 arrays. The reduce runs over an axis of two,
  whose second element is masked to zero. Only the mask depends on that axis, so the block is
  hoisted out and stored once, vectorised over blocks.
- `sum_together` sums over keys and writes only the sums, vectorised over keys.

Inputs of either form must first be broadcast to the full shape. A change of indexing between the
block and the reduce makes XLA split the loop and evaluate the block again. The accelerators'
compilers share the expression by themselves; their schedule has another kernel (`key_sums`).

A PRG in its rolled form (`chacha.rolled`, for small groups) writes its words to memory itself, as
one array with the 16 lanes in front instead of 16 arrays, so later steps run once as well.
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

LANES = 16  # the vector width of uint32 words; keys are padded to a multiple


def written(
    prg: PRG,
    keys: Sequence[Array],
    factor: UInt32[Array, " *P"],
    first: UInt32[Array, ""],
    count: int,
    nonce_word: int = 0,
) -> list[Array]:
    """factor * word for blocks first..first+count-1 of every key.

    `keys` are 8 arrays u32 [*P]. `factor` is any word, such as 0, 1 or -1 mod 2^32. Returns 16
    arrays u32 [*P, count], or one array [16, *P, count] if the PRG writes its words to memory;
    `lanes_of` joins either.
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
    """Joins parts into one array with the lanes in front: 16 for each piece of a word."""
    return jnp.stack(parts) if len(parts) >= 16 else jnp.concatenate(parts)


def _parts(
    prg: PRG,
    shape: tuple[int, ...],
    keys: Sequence[Array],
    lead: tuple[int, ...],
    counter: Array,
    nonce_word: int,
) -> list[Array]:
    """Blocks of `shape` under nonce (nonce_word, 0, 0); the keys have the axes `lead` of it."""
    if not prg.in_memory:
        columns = [lax.broadcast_in_dim(key, shape, lead) for key in keys]
        nonce = [jnp.full(shape, word, jnp.uint32) for word in (nonce_word, 0, 0)]
        return list(prg.block(columns, counter, nonce))
    thin = tuple(size if axis in lead else 1 for axis, size in enumerate(shape))
    columns = [lax.broadcast_in_dim(key, thin, lead) for key in keys]
    nonce = [jnp.full((1,) * len(shape), word, jnp.uint32) for word in (nonce_word, 0, 0)]
    return [prg.block(columns, counter, nonce)]


def _over(values: Array, word: Array) -> Array:
    """Values [*shape] to multiply a part with, alike in each of its lanes."""
    return values if values.ndim == word.ndim else values[None]


def _kept_loop(first: Array, keys: Sequence[Array]) -> Array:
    """`first`, passed through a sort that depends on the keys, so that a loop over keys stays one.

    From jax 0.12 on, XLA's CPU compiler turns a loop without sorts, calls and the like into one
    function. There it no longer knows that the 16 outputs do not overlap, so LLVM does not
    vectorise, and the loop is 8 times slower.
    """
    order = jnp.stack([key.reshape(-1)[0] for key in keys[:2]])
    return lax.sort((order, jnp.stack([first, first])), num_keys=1)[1][0]


def _blocks(
    prg: PRG, keys: UInt32[Array, "K 8"], count: int, first: Array | int = 0, nonce_word: int = 0
) -> list[Array]:
    """Blocks first..first+count-1 as parts [count, K] or [16, count, K], for sums over K."""
    shape = (count, keys.shape[0])
    counter = lax.broadcasted_iota(jnp.uint32, shape, 0) + jnp.asarray(first, jnp.uint32)
    return _parts(prg, shape, list(keys.T), (1,), counter, nonce_word)


def _padded(keys: UInt32[Array, "K ..."]) -> UInt32[Array, "K ..."]:
    """Pads with zeros to a multiple of the vector width; at other sizes LLVM uses scalars."""
    return jnp.pad(keys, [(0, -keys.shape[0] % LANES), *((0, 0) for _ in keys.shape[1:])])


def key_sums(
    prg: PRG,
    ring: Ring,
    width: int,
    keys: UInt32[Array, "K 8"],
    weights: UInt32[Array, " K"],
) -> UInt32[Array, " W"]:
    """Ring sum of weight * word over K <= 2^16 keys; in the wide ring, weights are 0 or 1."""
    blocks = _weighted(prg, keys, weights, 0, -(-width // 16))
    return _settled(ring, _key_sums(_halves(ring, blocks)), width)


def key_lanes(
    prg: PRG, keys: UInt32[Array, "K 8"], weights: UInt32[Array, " K"], first: Array, count: int
) -> UInt32[Array, "16 count"]:
    """The same sums in Z_2^32, for blocks first..first+count-1 and by lanes."""
    return lanes_of(_key_sums(_weighted(prg, keys, weights, first, count))).reshape(16, count)


def _weighted(prg: PRG, keys: Array, weights: Array, first: Array | int, count: int) -> list[Array]:
    blocks = _blocks(prg, _padded(keys), count, first)
    weight = _across(weights, blocks[0])
    return [word * weight for word in blocks]


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
    split = len(sums) * ring.limbs // (ring.limbs + 1)
    return _settled(ring, sums[:split], width), _message(sums[split:], width)


def _across(values: UInt32[Array, " K"], part: Array) -> Array:
    """Broadcasts a value for every key over blocks and lanes."""
    return lax.broadcast_in_dim(_padded(values), part.shape, (part.ndim - 1,))


def _key_sums(parts: list[Array]) -> list[Array]:
    return list(sum_together(parts, (parts[0].ndim - 1,)))


def _halves(ring: Ring, words: list[Array]) -> list[Array]:
    """What to sum so that no carry is lost: words, or their halves in the wide ring."""
    if ring.limbs == 1:
        return words
    assert words[0].shape[-1] <= MOST
    low = [word & jnp.uint32(0xFFFF) for word in words]
    return [*low, *(word >> jnp.uint32(16) for word in words)]


def _settled(ring: Ring, sums: Sequence[Array], width: int) -> UInt32[Array, " W"]:
    """The message, from the sums of `_halves`."""
    if ring.limbs == 1:
        return _message(sums, width)
    half = len(sums) // 2
    return from_halves(_message(sums[:half], width), _message(sums[half:], width))


def _message(parts: Sequence[Array], width: int) -> UInt32[Array, " W"]:
    """A message from its 16 lanes: the lanes in order, cut to the width."""
    return lanes_of(parts).reshape(-1)[:width]


def coefficient_sums(
    prg: PRG,
    keys: UInt32[Array, "n 8"],
    members: Bool[Array, " n"],
    first: Array,
    count: int,
    few: Callable[..., Array] | None = None,
) -> UInt32[Array, " 16 count"]:
    """Sum over the members of uniform field elements, for blocks first..first+count-1.

    An element is the low 31 bits of a word. If they equal p, they are replaced by the word of nonce
    (1, 0, 0), then of (2, 0, 0): rejection sampling, never a remainder. `few` sums at most 2^16
    members.
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
    """The same for at most 2^16 members.

    p is 0 in the field, so a rejected word adds nothing. Replacements are added only in the rare
    chunk that has a rejected word.
    """
    keys = _padded(keys)
    keep = jnp.where(_padded(members.astype(jnp.uint32)) == 1, jnp.uint32(P), jnp.uint32(0))

    blocks = _blocks(prg, keys, count, first)
    words = [word & _across(keep, word) for word in blocks]
    rejected = functools.reduce(jnp.logical_or, [word == jnp.uint32(P) for word in words])
    low, high, counted = _half_sums(words, [rejected.astype(jnp.uint32)])
    total = from_field_halves(low, high)

    def replacements() -> UInt32[Array, " 16 count"]:
        one = (keep > 0).astype(jnp.uint32)
        columns = [keys[:, i] for i in range(8)]
        tries = []
        for nonce in range(3):  # one PRG evaluation per loop: two in one loop do not compile
            drawn = written(prg, columns, one, first, count, nonce)
            drawn = [jnp.swapaxes(word, -1, -2) & jnp.uint32(P) for word in drawn]
            tries.append(lax.optimization_barrier(drawn))
        instead = [
            jnp.where(a == jnp.uint32(P), jnp.where(b == jnp.uint32(P), c, b), jnp.zeros_like(a))
            for a, b, c in zip(*tries, strict=True)
        ]
        low, high, _ = _half_sums(instead, [])
        return MERSENNE31.add(total, from_field_halves(low, high))

    return lax.cond(jnp.any(counted[0] > 0), replacements, lambda: total)


def _half_sums(
    words: list[Array], others: list[Array]
) -> tuple[UInt32[Array, " 16 count"], UInt32[Array, " 16 count"], list[Array]]:
    """Sums over the keys: of the words' lower and upper halves, and of other operands."""
    low = [word & jnp.uint32(0xFFFF) for word in words]
    high = [word >> jnp.uint32(16) for word in words]
    sums, parts = _key_sums([*low, *high, *others]), len(words)
    return lanes_of(sums[:parts]), lanes_of(sums[parts : 2 * parts]), sums[2 * parts :]
