"""The bytes that SecAgg and SecAgg+ send, and their PRG words, match the source's figures."""

import pytest

from secagg_cases import Case
from ssddl_jax.baselines.secagg_bytes import expansion, secagg_bits, word_bits
from ssddl_jax.core.sharing.secagg import words_made


@pytest.mark.parametrize(("n", "words", "factor"), [(2**10, 2**20, "1.73"), (2**14, 2**24, "1.98")])
def test_expansion_is_the_source_s(n, words, factor):
    bits = secagg_bits(n, words, 2**16)
    assert f"{expansion(bits, words, 16):.2f}" == factor
    assert bits.up + bits.down - bits.upload == 256 * (7 * n - 4)
    assert bits.upload == words * (n * (2**16 - 1)).bit_length()


def test_sparse_graph_moves_fewer_secrets_and_as_many_word_bits():
    whole, sparse = secagg_bits(1000, 50, 2**16), secagg_bits(61, 50, 2**16, members=1000)
    assert whole.upload == sparse.upload
    assert sparse.up + sparse.down - sparse.upload == 256 * (7 * 61 - 4)
    assert sparse.peers == 256 * 2 * 60


def test_words_made_counts_every_block_that_is_evaluated():
    """Pairs and self-masks at the members; at the server self-masks again, and (both signs) pair
    masks with the vanished; here without padding where tiles are full.
    """
    case = Case(64, 3, k=16)
    scheme = case.scheme
    blocks = scheme.num_blocks
    assert words_made(scheme) >= 16 * blocks * (64 * 16 // 2 + 2 * 64 + 2 * 64 * 16)
    fewer = scheme._replace(vanishing=4)
    saved = words_made(scheme) - words_made(fewer)
    assert saved == 16 * blocks * 2 * 60 * 16


@pytest.mark.parametrize("levels", [2, 3, 17, 2**16])
def test_a_word_has_room_for_every_sum(levels):
    """R = n (levels - 1) + 1 sums fit into the bits, and not into one bit less."""
    for members in range(1, 40):
        sums = {own * members for own in (0, levels - 1)}
        assert max(sums) < 2 ** word_bits(members, levels)
        assert max(sums) >= 2 ** (word_bits(members, levels) - 1)
