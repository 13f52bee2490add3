"""Sums of PRG words over many keys in one long step: the accelerators' kernel, in three forms.

`key_sums` takes K keys for each of h rows. For every row it adds up the `Terms` of the keys' words.
Sums stay in registers while it goes through the keys, and only the sums are written: there are no
small tiles and no buffer of shares. All forms give the same words:

- `plain`: jnp only; a scan whose step takes one key of every row. Works on every platform.
- `gpu`: a Pallas kernel (via Triton); a program holds 128 blocks of one row, one per thread.
- `tpu`: a Pallas kernel (Mosaic); a program holds 2,048 blocks of one row, two registers wide.

The kernels need one of the package's PRGs. A user's PRG takes the form `plain`.
"""

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import UInt32

from ssddl_jax.core.arithmetic.chacha import PRG, PRGS, looped, rolled
from ssddl_jax.core.arithmetic.field import P

THREADS = 128  # blocks of a GPU program, one per thread
TOGETHER = 2  # double rounds of a step of its loop: unrolled, it compiles in ten times the time
SUBLANES, LANES = 16, 128  # blocks of a TPU program: two registers, so that steps interleave
KEYS = 512  # of a row that fit in a TPU's scalar memory


class Terms(NamedTuple):
    """What is summed: `of(word, weights)` returns `number` arrays of the word's shape.

    Each key has `weights` weight words, which broadcast against the word.
    """

    name: str
    weights: int
    number: int
    of: Callable[[Array, Sequence[Array]], Sequence[Array]]


def _low(word: Array) -> Array:
    return word & jnp.uint32(0xFFFF)


def _high(word: Array) -> Array:
    return word >> jnp.uint32(16)


def _signed_bytes(word: Array, sign: Sequence[Array]) -> list[Array]:
    shifted = [(word >> jnp.uint32(bits)) & jnp.uint32(0xFF) for bits in (8, 16, 24)]
    return [sign[0] * part for part in (word, *shifted)]


def _field_halves(word: Array, weights: Sequence[Array]) -> list[Array]:
    element = (word & jnp.uint32(P)) * weights[0]
    return [_low(element), _high(element), (element == jnp.uint32(P)).astype(jnp.uint32)]


WEIGHTED = Terms("weighted", 1, 1, lambda word, w: [w[0] * word])
WEIGHTED_TWICE = Terms("weighted_twice", 2, 2, lambda word, w: [w[0] * word, w[1] * word])
# For the wide ring, where sums of pieces determine the carries; words are signed or only added.
SIGNED_HALVES = Terms("signed_halves", 1, 2, lambda word, w: [w[0] * word, w[0] * _high(word)])
SIGNED_BYTES = Terms("signed_bytes", 1, 4, _signed_bytes)
HALVES = Terms("halves", 1, 2, lambda word, w: [w[0] * _low(word), w[0] * _high(word)])
DRAWN_HALVES = Terms("drawn_halves", 2, 3, lambda word, w: [*HALVES.of(word, w), w[1] * word])
# For field elements: their halves, and whether an element is p, which is 0 in the field.
FIELD_HALVES = Terms("field_halves", 1, 3, _field_halves)
TERMS = {
    terms.name: terms
    for terms in (
        *(WEIGHTED, WEIGHTED_TWICE, SIGNED_HALVES, SIGNED_BYTES),
        *(HALVES, DRAWN_HALVES, FIELD_HALVES),
    )
}


def _form_of(prg: PRG, platform: str) -> str:
    """The form to run on a platform. JAX is about to drop Triton."""
    can = platform != "gpu" or importlib.util.find_spec("jax.experimental.pallas.triton")
    return platform if can and platform in KERNELS and prg == PRGS.get(prg.name) else "plain"


def kernel_name(prg: PRG, terms: Terms) -> str:
    """The kernel's name in a compiled program."""
    return f"key_sums_{prg.name}_{terms.name}"


def key_sums(
    prg: PRG,
    terms: Terms,
    keys: UInt32[Array, "h K words"],
    weights: UInt32[Array, "m h K"],
    first: Array | int,
    count: int,
    *,
    platform: str,
    form: str | None = None,
) -> UInt32[Array, "h terms 16 count"]:
    """For each row, sums its keys' terms in blocks first..first+count-1, mod 2^32.

    A key may have 11 words: 8 and its nonce, which is otherwise 0.
    `platform` (cpu, gpu or tpu) is where it will run. `form` overrides the platform's own form;
    on a CPU a kernel is interpreted.
    """
    form = form or _form_of(prg, platform)
    first = jnp.asarray(first, jnp.uint32)
    if form == "plain":
        prg = rolled(prg) if platform == "cpu" else prg  # compiles in a twentieth of the time
        return _plain(prg, terms, keys, weights, first, count)
    kernel = KERNELS[form]
    return kernel(prg, terms, keys, weights, first, count, platform == "cpu")


def row_words(
    prg: PRG, keys: UInt32[Array, "h 11"], count: int, platform: str
) -> UInt32[Array, "h 16 count"]:
    """The words of one key with its nonce for each row: blocks 0..count-1, by lanes."""
    once = jnp.ones((1, len(keys), 1), jnp.uint32)
    return key_sums(prg, WEIGHTED, keys[:, None], once, 0, count, platform=platform)[:, 0]


def _plain(
    prg: PRG,
    terms: Terms,
    keys: UInt32[Array, "h K words"],
    weights: UInt32[Array, "m h K"],
    first: Array,
    count: int,
) -> UInt32[Array, "h terms 16 count"]:
    """A scan over the keys. The sums are 16 arrays [h, count] for each term, or one array
    [16, h, count] if the PRG writes its words to memory.
    """
    rows = keys.shape[0]
    counter = first + jnp.arange(count, dtype=jnp.uint32)[None]
    lead, parts = ((16,), 1) if prg.in_memory else ((), 16)

    def step(sums: list[list[Array]], item: tuple[Array, Array]) -> tuple[list[list[Array]], None]:
        key, given = item
        words = [key[:, i, None] for i in range(key.shape[1])]
        nonce = words[8:] or [jnp.zeros((1, 1), jnp.uint32)] * 3
        block: Any = prg.block(words[:8], counter, nonce)
        words = [block] if prg.in_memory else block
        own = [weight.reshape(*(1,) * len(lead), rows, 1) for weight in given]
        added = [terms.of(word, own) for word in words]
        return jax.tree.map(jnp.add, sums, [list(more) for more in added]), None

    zeros = jnp.zeros((*lead, rows, count), jnp.uint32)
    start = [[zeros] * terms.number for _ in range(parts)]
    sums, _ = lax.scan(step, start, (jnp.moveaxis(keys, 1, 0), jnp.moveaxis(weights, 2, 0)))
    if prg.in_memory:
        return jnp.moveaxis(jnp.stack(sums[0], axis=1), 2, 0).swapaxes(1, 2)
    return jnp.stack([jnp.stack(lane, axis=1) for lane in sums], axis=2)


def _in_registers(
    prg: PRG,
    terms: Terms,
    key_of: Callable[[Array], list[Array]],
    weights_of: Callable[[Array], list[Array]],
    keys: int,
    counter: Array,
) -> tuple[Array, ...]:
    """The sums of one program's blocks: 16 lanes for each term."""
    zeros = jnp.zeros(counter.shape, jnp.uint32)

    def add(j: Array, sums: tuple[Array, ...]) -> tuple[Array, ...]:
        key, weights = key_of(j), weights_of(j)
        words = prg.block(key[:8], counter, key[8:] or [zeros] * 3)
        added = [terms.of(word, weights) for word in words]
        by_term = [added[lane][term] for term in range(terms.number) for lane in range(16)]
        return tuple(s + a for s, a in zip(sums, by_term, strict=True))

    sums: tuple[Array, ...] = lax.fori_loop(0, keys, add, (zeros,) * (16 * terms.number))
    return sums


def _gpu(
    prg: PRG,
    terms: Terms,
    keys: UInt32[Array, "h K words"],
    weights: UInt32[Array, "m h K"],
    first: Array,
    count: int,
    interpret: bool,
) -> UInt32[Array, "h terms 16 count"]:
    """A Pallas kernel: grid (row, 128 blocks); keys and weights are read as scalars."""
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import triton

    rows, num_keys, key_words = keys.shape
    num_weights, groups, prg = len(weights), -(-count // THREADS), looped(prg, TOGETHER)

    def kernel(keys_ref: Any, weights_ref: Any, first_ref: Any, out_ref: Any) -> None:
        row, group = pl.program_id(0), pl.program_id(1)
        at = lax.broadcasted_iota(jnp.uint32, (THREADS,), 0)
        at = at + group.astype(jnp.uint32) * jnp.uint32(THREADS)
        sums = _in_registers(
            prg,
            terms,
            lambda j: [keys_ref[row, j, i] for i in range(key_words)],
            lambda j: [weights_ref[m, row, j] for m in range(num_weights)],
            num_keys,
            at + first_ref[0],
        )
        blocks, exist = pl.ds(group * THREADS, THREADS), at < jnp.uint32(count)
        for place, lanes in enumerate(sums):
            here = out_ref.at[row, jnp.int32(place // 16), jnp.int32(place % 16), blocks]
            triton.store(here, lanes, mask=exist)

    sums: Array = pl.pallas_call(
        kernel,
        grid=(rows, groups),
        out_shape=jax.ShapeDtypeStruct((rows, terms.number, 16, count), jnp.uint32),
        compiler_params=triton.CompilerParams(num_warps=THREADS // 32),
        interpret=interpret,
        name=kernel_name(prg, terms),
    )(keys, weights, first[None])
    return sums


def _tpu(
    prg: PRG,
    terms: Terms,
    keys: UInt32[Array, "h K words"],
    weights: UInt32[Array, "m h K"],
    first: Array,
    count: int,
    interpret: bool,
) -> UInt32[Array, "h terms 16 count"]:
    """A Pallas kernel: grid (row, blocks, keys). Keys and weights are scalars in SMEM, as many at
    a time as fit, and the next step of the grid continues the sums.
    """
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import tpu as pltpu

    rows, num_keys, key_words = keys.shape
    num_weights = len(weights)
    side = SUBLANES if count > LANES * SUBLANES // 2 else SUBLANES // 2
    groups = -(-count // (side * LANES))
    steps = -(-num_keys // KEYS)
    each = -(-num_keys // steps)
    spare = steps * each - num_keys  # keys of weight 0
    keys = jnp.pad(keys, ((0, 0), (0, spare), (0, 0))).reshape(rows * steps, each, key_words)
    weights = jnp.pad(jnp.moveaxis(weights, 0, 1), ((0, 0), (0, 0), (0, spare)))
    weights = jnp.swapaxes(weights.reshape(rows, num_weights, steps, each), 1, 2)
    weights = weights.reshape(rows * steps, num_weights, each)

    def kernel(keys_ref: Any, weights_ref: Any, first_ref: Any, out_ref: Any) -> None:
        group, step = pl.program_id(1), pl.program_id(2)
        shape = (side, LANES)
        at = lax.broadcasted_iota(jnp.uint32, shape, 0) * jnp.uint32(LANES)
        at = at + lax.broadcasted_iota(jnp.uint32, shape, 1)
        counter = at + (group.astype(jnp.uint32) * jnp.uint32(side * LANES) + first_ref[0])
        sums = _in_registers(
            prg,
            terms,
            lambda j: [keys_ref[0, j, i] for i in range(key_words)],
            lambda j: [weights_ref[0, m, j] for m in range(num_weights)],
            each,
            counter,
        )
        if steps > 1:

            @pl.when(step == 0)
            def _() -> None:
                out_ref[...] = jnp.zeros_like(out_ref)

        for place, lanes in enumerate(sums):
            term, lane = place // 16, place % 16
            out_ref[0, term, lane] = lanes if steps == 1 else out_ref[0, term, lane] + lanes

    sums: Array = pl.pallas_call(
        kernel,
        grid=(rows, groups, steps),
        in_specs=[
            pl.BlockSpec(
                (1, each, key_words), lambda i, g, s: (i * steps + s, 0, 0), memory_space=pltpu.SMEM
            ),
            pl.BlockSpec(
                (1, num_weights, each),
                lambda i, g, s: (i * steps + s, 0, 0),
                memory_space=pltpu.SMEM,
            ),
            pl.BlockSpec(memory_space=pltpu.SMEM),
        ],
        out_specs=pl.BlockSpec((1, terms.number, 16, side, LANES), lambda i, g, s: (i, 0, 0, g, 0)),
        out_shape=jax.ShapeDtypeStruct((rows, terms.number, 16, groups * side, LANES), jnp.uint32),
        interpret=interpret,
        name=kernel_name(prg, terms),
    )(keys, weights, first[None])
    return sums.reshape(rows, terms.number, 16, -1)[..., :count]


KERNELS: dict[str, Callable[..., Array]] = {"gpu": _gpu, "tpu": _tpu}
