"""Packed words: bit for bit what Python integers give, and no more bits than a sum needs."""

import functools
from math import ceil, log2

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import secagg_cases
from secagg_cases import Case
from ssddl_jax import reference
from ssddl_jax.packing import lift, pack, packed_words, unpack
from ssddl_jax.reference.secagg import secagg as in_integers
from ssddl_jax.rivals.secagg_bytes import secagg_bits


@functools.partial(jax.jit, static_argnums=1)
def there_and_back(rows, bits):
    """The packed rows, and what comes out of them."""
    packed = pack(rows, bits)
    return packed, unpack(packed, bits, rows.shape[-1])


def drawn(shape, salt=0):
    return np.random.default_rng([21, salt]).integers(0, 2**32, shape, dtype=np.uint32)


def packed_by_hand(words, bits):
    """One integer with word i at bit i b, cut into words."""
    whole = sum((int(word) % 2**bits) << i * bits for i, word in enumerate(words))
    size = -(-len(words) * bits // 32)
    return [whole >> 32 * j & 0xFFFFFFFF for j in range(size)]


BITS, WIDTHS = (1, 2, 7, 8, 16, 17, 31, 32), (1, 31, 32, 33, 100)


@pytest.mark.parametrize(
    ("width", "bits"),
    # Every number of bits at one width, every width at one number of bits, and two more.
    [(w, b) for w in WIDTHS for b in BITS if w == 33 or b == 7 or (w, b) in ((1, 16), (100, 32))],
)
def test_packed_row_is_one_integer(bits, width):
    rows = drawn((2, width), width)
    packed, again = map(np.asarray, there_and_back(rows, bits))
    assert packed.shape == (2, packed_words(width, bits))
    assert packed.tolist() == [packed_by_hand(row, bits) for row in rows]
    assert again.tolist() == (rows.astype(object) % 2**bits).tolist()


@pytest.mark.parametrize("bits", range(1, 33))
def test_lift_is_the_signed_word(bits):
    ends = [-(2 ** (bits - 1)), -1, 0, 2 ** (bits - 1) - 1]
    words = np.array([end % 2**bits for end in ends], np.uint32)
    high = drawn(len(ends), bits) // 2 ** (bits - 1) // 2 * 2 ** (bits - 1) * 2  # to be ignored
    lifted = np.asarray(lift(jnp.asarray(words | high.astype(np.uint32)), bits))
    assert lifted.tolist() == [end % 2**32 for end in ends]


def test_what_cannot_be_is_refused():
    for bits in (0, 33):
        with pytest.raises(ValueError, match=f"'bits' .* not {bits}"):
            pack(jnp.zeros(4, jnp.uint32), bits)
    with pytest.raises(ValueError, match="'packed' must have 3 words"):
        unpack(jnp.zeros(4, jnp.uint32), 24, 4)


@pytest.mark.parametrize("largest", [1, 1000, 2**20])
def test_packed_uploads_add_up_to_the_exact_sum(largest):
    """A round of SecAgg whose uploads travel packed to ceil(log2 R) bits: added and unmasked mod
    2^b, the sum is exact; with one bit less it is not. As many bits as the counter says.
    """
    case, alive = Case(6, 4), [0, 1, 2, 4, 5]
    values = np.random.default_rng([22, largest]).integers(
        -largest, largest + 1, (6, secagg_cases.DIMENSION + 1)
    )
    values[:, 0], values[:, 1] = largest, -largest  # the extreme sums, too
    rows = (values % 2**32).astype(np.uint32)
    played = in_integers(
        case.settings,
        secagg_cases.chain(),
        secagg_cases.ids_of(6),
        dict(enumerate(rows.tolist())),
        secagg_cases.partners_of(case, range(6)),
        alive,
    )
    levels, width = 2 * largest + 1, rows.shape[1]
    bits = ceil(log2(6 * (levels - 1) + 1))
    uploads = np.array([[word % 2**32 for word in played.sent[u]] for u in alive], np.uint32)
    sent, _ = there_and_back(uploads, bits)
    assert sent.shape[1] == -(-secagg_bits(6, width, levels).upload // 32)

    total = np.array([word % 2**32 for word in played.summed], np.uint32)
    masks = uploads.sum(axis=0, dtype=np.uint32) - total  # what the server takes away
    exact = values[alive].sum(axis=0) % 2**32

    def added(bits):
        _, words = there_and_back(uploads, bits)
        words = np.asarray(words).sum(axis=0, dtype=np.uint32)
        return np.asarray(lift(jnp.asarray(words - masks), bits)).tolist()

    assert added(bits) == exact.tolist()
    assert added(bits - 1) != exact.tolist()


def test_packing_of_a_field_element_keeps_it():
    """31 bits hold an element of F_p."""
    ends = np.array([0, 1, reference.PRIME - 1], np.uint32)
    assert np.asarray(there_and_back(ends, 31)[1]).tolist() == ends.tolist()
