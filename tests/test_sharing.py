"""The sharing layer without training: every scheme, with both forms of its PRG, with rows kept or
summed. Each word equals the oracle's under many dropout patterns. Whole rounds are in
`test_rounds`, SecAgg in `test_secagg_shares`.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import harness
import layers
import ssddl_jax as sd
from harness import faults_of
from layers import CELLS, SECAGG, played, program
from ssddl_jax.config.rules import RULES
from ssddl_jax.core import exchange
from ssddl_jax.core.arithmetic.chacha import CHACHA8, CHACHA20, PRG, block, rolled
from ssddl_jax.core.arithmetic.encoding import Encoding
from ssddl_jax.core.devices import AXIS, make_mesh
from ssddl_jax.core.sharing.base import Attempt, Messages, Scheme
from ssddl_jax.core.sharing.ideal import ideal
from ssddl_jax.core.sharing.schedules.tiled import geometry_of
from ssddl_jax.core.sharing.secagg import self_sums
from ssddl_jax.core.sharing.unmasking import sum_shares
from ssddl_jax.simulation.schemes import sharing_of, suited, words_made


@pytest.fixture(autouse=True, scope="module")
def _dropped():
    """What was compiled for these tests is dropped after them."""
    yield
    program.cache_clear()


FORMS = ("unrolled", "rolled")


def cells(*which):
    return pytest.mark.parametrize("layer", which, ids=lambda layer: layer.name)


def patterns_of(layer):
    """(slots that vanish, slots whose updates are not finite): all sets of six, some of more."""
    slots = range(layer.n)
    if layer.n <= 6:
        sets = [set(s) for m in range(layer.n + 1) for s in itertools.combinations(slots, m)]
    else:
        rng = np.random.default_rng([13, layer.n])
        sizes = [0, 1, 2, 3, 5, 8, 12, layer.n - 3, layer.n - 2]
        sets = [set(rng.permutation(layer.n)[:size].tolist()) for size in sizes]
    return [(gone, ()) for gone in sets] + [(sets[1], (1, 4)), (sets[2], (0,)), ((), (2,))]


def unrolled(at):
    """Unrolled programs compile longer: three are quick."""
    return [pytest.mark.slow] if at % 3 else []


def both_forms():
    """Every cell, rolled and unrolled."""
    for at, layer in enumerate(CELLS):
        yield pytest.param(layer, "rolled", id=f"{layer.name}-rolled")
        yield pytest.param(layer, "unrolled", marks=unrolled(at), id=f"{layer.name}-unrolled")


@pytest.mark.parametrize(("layer", "form"), list(both_forms()))
def test_layer_equals_the_oracle(layer, form):
    """Uploads, aggregate, digest and void rounds."""
    voids = [layers.check(layer, form, played(layer, *one)) for one in patterns_of(layer)]
    assert 0 < sum(voids) < len(voids)
    assert geometry_of(layer.scheme).rolls == (layer.n == 20)


@cells(*(pytest.param(layer, marks=unrolled(at)) for at, layer in enumerate(CELLS)))
def test_rolled_words_are_the_unrolled_ones(layer):
    """Whatever size decides which of the two a round has: the same uploads, sums and counts."""
    large, small = (program(layer, form).call for form in FORMS)
    for gone, broken in (((), ()), ((1,), ()), ((0, 2), (3,))):
        one = played(layer, gone, broken)
        kept, streamed = small(*one[:2])
        harness.same_trees(large(*one[:2]), (kept, streamed))
        assert bool(kept.enough)
        np.testing.assert_array_equal(kept.aggregate, one.messages.total)
        if streamed is not None:
            harness.same_trees(streamed, kept._replace(each=None))
        masked = np.asarray(kept.each) != one.messages.each
        last = [int(np.flatnonzero(one.attempt.alive)[-1])] if layer.engine == "ideal" else []
        for slot in np.flatnonzero(one.attempt.alive):
            assert masked[slot].mean() > 0.9 or slot in last


@pytest.mark.parametrize(("layer", "form"), list(both_forms()))
def test_text_has_no_wide_type_and_no_callback(layer, form):
    made = program(layer, form)
    assert "ENTRY" in made.compiled
    assert "stablehlo" in made.lowered
    assert not faults_of(made.lowered, made.compiled)


# The form for the size


def of_width(layer, dimension):
    return layer.scheme._replace(dimension=dimension, mesh=make_mesh(1))


@cells(*CELLS, SECAGG)
def test_small_rounds_have_the_rolled_prg_and_others_the_unrolled(layer):
    """Up to 2^15 words, exactly; the form changes nothing else of a scheme."""

    def is_small(dimension):
        scheme = of_width(layer, dimension)
        engine, rule = layer.engine, RULES[layer.rule]
        made = suited(engine, rule, scheme)
        few = words_made(engine, rule, scheme._replace(prg=rolled(scheme.prg))) <= 2**15
        assert made.prg.in_memory == few
        assert made == (scheme._replace(prg=made.prg) if few else scheme)
        assert (made.prg.name, made.prg.rounds) == (scheme.prg.name, scheme.prg.rounds)
        return few

    assert is_small(1)
    assert not is_small(10**5)
    low, high = 1, 10**5
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if is_small(middle) else (low, middle)
    assert is_small(low)
    assert not is_small(high)


def test_a_prg_of_the_users_own_stays_as_it_is():
    own = PRG("chacha20", 20, lambda key, counter, nonce: block(key, counter, nonce, rounds=20))
    scheme = of_width(CELLS[0], 20)._replace(prg=own)
    assert suited("pairwise", RULES["retry"], scheme) == scheme
    assert suited("pairwise", RULES["retry"], scheme._replace(prg=CHACHA20)).prg.in_memory


@pytest.mark.parametrize("engine", ["pairwise", "ideal"])
def test_rounds_are_built_with_the_form_for_their_size(engine):
    """The point where whole rounds change over; nothing compiles."""
    forms = []
    for dimension in (20, 10**5):
        config = sd.Config(participants=5, group_size="all", engine=engine, devices=1)
        data, model = harness.table_data(5, dimension), harness.table_model(dimension)
        made = sd.build_simulation(config, model, data, train=harness.table_train)
        forms.append(made.recipe.scheme.prg.in_memory)
    assert forms == [True, False]


# Devices


@cells(*(layer for layer in CELLS if layer.rule == "shamir" or (layer.n, layer.bits) == (20, 32)))
def test_words_do_not_depend_on_devices(layer):
    """Blocks of the message are dealt to three devices."""
    if len(jax.devices()) < 3:
        pytest.skip("needs 3 devices")
    more = layer._replace(devices=3)
    for gone in ((), (2, 3)):
        assert not layers.check(more, "rolled", played(more, gone))


MANY_KEYS = 130  # a tile is of 64


def scheme_on(devices):
    return Scheme(
        size=MANY_KEYS,
        dimension=15,
        neighbours=MANY_KEYS - 1,
        threshold=2,
        least_alive=3,
        vanishing=0,
        shares="paired",
        encoding=Encoding(1.0, 20),
        prg=rolled(CHACHA8),
        mesh=make_mesh(devices),
    )


def drawn(*shape):
    return jnp.asarray(np.random.default_rng(len(shape)).integers(0, 2**32, shape, np.uint32))


def ideal_uploads(scheme):
    everybody, word = jnp.ones(scheme.size, bool), jnp.uint32(0)
    ids = jnp.arange(scheme.size, dtype=jnp.uint32)
    attempt = Attempt(drawn(8), drawn(8), word, word, ids, everybody, everybody)
    message = drawn(scheme.width)
    return ideal(scheme).share(attempt, Messages(message, message, None))


def few_ideal_uploads(scheme):
    """One tile holds all keys, so the devices divide the blocks: seven, by three."""
    return ideal_uploads(scheme._replace(size=10, dimension=100))


def self_masks(scheme):
    return self_sums(scheme, drawn(MANY_KEYS, 8), jnp.ones(MANY_KEYS, bool), drawn(MANY_KEYS))


def opened_pads(scheme):
    ends = jnp.arange(MANY_KEYS, dtype=jnp.int32)
    counted = jnp.ones(MANY_KEYS, bool)
    return sum_shares(scheme, drawn(MANY_KEYS, 8), lambda keys, i, j: keys[i], ends, ends, counted)


@pytest.mark.parametrize("made", [ideal_uploads, few_ideal_uploads, self_masks, opened_pads])
def test_sums_of_many_keys_do_not_depend_on_devices(made):
    one, three = (jax.jit(lambda d=devices: made(scheme_on(d)))() for devices in (1, 3))
    harness.same_trees(one, three)


@pytest.mark.parametrize("few", [0, 10**6])
@pytest.mark.parametrize("kind", [np.uint32, np.float32])
def test_rows_travel_with_a_sum_bit_by_bit(kind, few, monkeypatch):
    """Also words that are no numbers as floats; and rows of another type beside them."""
    monkeypatch.setattr(exchange, "_FEW", few)
    rng, devices = np.random.default_rng(2), 3
    sums = rng.integers(0, 2**20, (devices, 2, 5)).astype(kind)
    words = rng.integers(0, 2**32, (devices * 2, 3), dtype=np.uint32)
    words[0] = 0, 2**32 - 1, 0x7FC00001
    rows = (words, words.astype(np.float32), words[:, :1] + np.uint32(1))

    def both(sums, rows):
        return exchange.sum_and_gather(sums[0], rows)

    each = jax.sharding.PartitionSpec(AXIS)
    split = {"in_specs": (each, each), "out_specs": jax.sharding.PartitionSpec()}
    total, found = jax.jit(
        jax.shard_map(both, mesh=make_mesh(devices), check_vma=False, **split)
    )(sums, rows)  # fmt: skip
    harness.same_trees((total, found), (sums.sum(0, dtype=kind), rows))


def test_every_scheme_is_here():
    played = {(layer.engine, layer.rule) for layer in (*CELLS, SECAGG)}
    built = {(sharing_of(engine, RULES[rule]), RULES[rule].opens) for engine, rule in played}
    assert built >= {(sharing_of("pairwise", rule), rule.opens) for rule in RULES.values()}
    assert ("ideal", "retry") in played
