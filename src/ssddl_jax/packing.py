"""Words on the wire: only as many bits of each as a sum can need.

A sum that takes R values is known from its residue mod 2^b, b = ceil(log2 R). Masks mod 2^32 are
masks mod 2^b: the low b bits of a 32-bit upload are the upload of a ring of 2^b, so they are sent,
added and unmasked with nothing lost (SecAgg's counting of bits, Bonawitz et al. 2017). 32-bit ring;
word i of a message stands at bits i b .. (i + 1) b - 1 of the packed row, lowest bit first.
"""

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import UInt32

_WORD = 32


def packed_words(width: int, bits: int) -> int:
    """ceil(W b / 32), the words of a packed row."""
    return -(-width * bits // _WORD)


def pack(words: UInt32[Array, "*lead W"], bits: int) -> UInt32[Array, "*lead P"]:
    """The low `bits`, 1..32, of every word, without gaps: P = ceil(W b / 32)."""
    _check(bits)
    *lead, width = words.shape
    rows = jnp.pad(words & _low(bits), [*((0, 0) for _ in lead), (0, -width % _WORD)])
    rows = rows.reshape(*lead, -1, _WORD)
    # 32 words fill `bits` words exactly, whatever `bits` is.
    filled = [jnp.zeros(rows.shape[:-1], jnp.uint32) for _ in range(bits)]
    for i in range(_WORD):
        at, shift = divmod(i * bits, _WORD)
        filled[at] |= rows[..., i] << jnp.uint32(shift)
        if shift + bits > _WORD:
            filled[at + 1] |= rows[..., i] >> jnp.uint32(_WORD - shift)
    return jnp.stack(filled, axis=-1).reshape(*lead, -1)[..., : packed_words(width, bits)]


def unpack(packed: UInt32[Array, "*lead P"], bits: int, width: int) -> UInt32[Array, "*lead W"]:
    """W words below 2^bits from a packed row."""
    _check(bits)
    *lead, size = packed.shape
    if size != packed_words(width, bits):
        expected = packed_words(width, bits)
        raise ValueError(f"Argument 'packed' must have {expected} words in a row, not {size}.")
    rows = jnp.pad(packed, [*((0, 0) for _ in lead), (0, -size % bits)])
    rows = rows.reshape(*lead, -1, bits)
    words = []
    for i in range(_WORD):
        at, shift = divmod(i * bits, _WORD)
        word = rows[..., at] >> jnp.uint32(shift)
        if shift + bits > _WORD:
            word |= rows[..., at + 1] << jnp.uint32(_WORD - shift)
        words.append(word & _low(bits))
    return jnp.stack(words, axis=-1).reshape(*lead, -1)[..., :width]


def lift(words: UInt32[Array, " *shape"], bits: int) -> UInt32[Array, " *shape"]:
    """The 32-bit word of the signed number that the low `bits` of a word stand for: what a sum of
    the 32-bit ring is, if it lies in -2^(b-1) .. 2^(b-1) - 1.
    """
    _check(bits)
    free = jnp.uint32(_WORD - bits)
    signed = lax.bitcast_convert_type(words << free, jnp.int32)
    return lax.bitcast_convert_type(signed >> free.astype(jnp.int32), jnp.uint32)


def _low(bits: int) -> Array:
    return jnp.uint32((1 << bits) - 1)


def _check(bits: int) -> None:
    if not 1 <= bits <= _WORD:
        raise ValueError(f"Argument 'bits' must be in [1, {_WORD}], not {bits}.")
