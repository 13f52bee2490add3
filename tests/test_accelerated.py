"""The accelerators' schedule, run on a CPU, gives the oracle's uploads, sums and void rounds. Its
kernels, interpreted, agree with another ChaCha20.
"""

import dataclasses
import functools
import importlib.util
import operator
import struct
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

import harness
import layers
import secagg_cases
import ssddl_jax as sd
from harness import built, check_round, setting_of
from layers import CELLS, played, program
from ssddl_jax import reference
from ssddl_jax.core.arithmetic import key_sums, randomness
from ssddl_jax.core.arithmetic.chacha import (
    CHACHA8,
    CHACHA20,
    PRG,
    PRGS,
    looped,
)
from ssddl_jax.core.arithmetic.field import P
from ssddl_jax.core.arithmetic.key_sums import TERMS, WEIGHTED, WEIGHTED_TWICE
from ssddl_jax.core.arithmetic.rings import MOST
from ssddl_jax.core.devices import make_mesh
from ssddl_jax.core.exchange import rows_apart
from ssddl_jax.core.sharing.ideal import words_made
from ssddl_jax.core.sharing.schedules import by_holder, choice
from ssddl_jax.core.sharing.schedules.choice import SCHEDULES, schedule_of
from ssddl_jax.core.tiling import Before, scan_tiles, tile_count
from ssddl_jax.planning.plan import schedule_on, tile_size
from test_field import planted
from test_rounds import CASES, SPARSE


@pytest.fixture(autouse=True, scope="module")
def _dropped():
    """What was compiled for these tests is dropped after them."""
    yield
    program.cache_clear()


# Against the oracle


def quick(values, *which):
    """All of them, but only some in `make test`."""
    names = [getattr(value, "name", str(value)) for value in values]
    return [
        pytest.param(value, id=name, marks=() if i in which else pytest.mark.slow)
        for i, (value, name) in enumerate(zip(values, names, strict=True))
    ]


@pytest.mark.parametrize("layer", quick(CELLS, 1, 2, 4, 5))
def test_layer_equals_the_oracle(layer):
    """Everybody, some vanished, some not finite, and too few left."""
    long = layer._replace(schedule="gpu")
    patterns = [((), ()), ((1,), ()), ((0, 2), (3,)), ((), (2,)), (range(layer.n - 1), ())]
    voids = [layers.check(long, "unrolled", played(long, *one)) for one in patterns]
    assert voids == [False, False, False, False, True]


@pytest.mark.parametrize("layer", quick(CELLS[2:4], 0))
def test_many_devices_and_small_batches(layer, monkeypatch):
    """Holders in batches of three, shared out among four devices."""
    monkeypatch.setattr(by_holder, "_HELD", 3 * by_holder._holder_bytes(layer.scheme))
    long = layer._replace(schedule="tpu", devices=4)
    assert by_holder.batch_of(long.scheme) == 3
    assert not layers.check(long, "unrolled", played(long, (1,), ()))


@pytest.mark.parametrize("layer", quick(CELLS[5:], 0))
def test_drawn_uploads_on_many_devices(layer):
    """Every device draws its own members' uploads."""
    long = layer._replace(schedule="tpu", devices=4)
    assert words_made(long.scheme) // (16 * long.scheme.num_blocks) < layer.n + 4
    assert not layers.check(long, "unrolled", played(long, (1,), ()))


@pytest.mark.parametrize("devices", [1, 2, 8])
def test_keys_are_shared_out_evenly(devices):
    """However many fit a step, no device makes words that another makes."""
    scheme = CELLS[0].scheme._replace(schedule="tpu", mesh=make_mesh(devices))
    for items in (1, 64, 1000, 70_000, 1_000_000):
        at_once = schedule_of(scheme).keys_at_once(scheme, items)
        tiles = tile_count(items, at_once, devices)
        assert at_once <= MOST
        assert items <= tiles * at_once < items + tiles


@pytest.mark.slow
@pytest.mark.parametrize("bits", [32, 64])
def test_secagg_equals_the_oracle(bits):
    case = secagg_cases.Case(9, 3, k=4, bits=bits, prg="chacha8", schedule="gpu")
    everybody = set(range(case.n))
    for alive in (everybody, everybody - {2}):
        assert not secagg_cases.check(case, everybody, alive, bits == 64).void


@pytest.mark.parametrize("case", quick(CASES, CASES.index(SPARSE)))
def test_round_equals_the_oracle(case):
    """Whole rounds on two devices, at the tile width of the CPU's."""
    config, broken = setting_of(case)
    made = built(dataclasses.replace(config, schedule="gpu", devices=2), broken=broken)
    assert made.simulation.recipe.scheme.schedule == "gpu"
    state = made.state
    for expected in harness.oracle_rounds(made, config.rounds):
        state, _ = check_round(made, state, expected)


# Kernels


def summed(prg, terms, keys, weights, first, count, **more):
    """`key_sums`, compiled."""
    made = jax.jit(
        lambda keys, weights: key_sums.key_sums(
            *(prg, terms, keys, weights, first, count), platform="cpu", **more
        )
    )
    return np.asarray(made(keys, weights))


def another_chacha20(keys, weights, first, count):
    """By the library `cryptography`: u32 [rows, terms, 16, count]."""
    rows, number = keys.shape[:2]
    total = np.zeros((rows, weights.shape[0], count, 16), np.uint32)
    for row in range(rows):
        for j in range(number):
            nonce = struct.pack(
                "<IIII", first, *(keys[row, j, 8:] if keys.shape[2] > 8 else [0] * 3)
            )
            key = keys[row, j, :8].astype("<u4").tobytes()
            stream = Cipher(ChaCha20(key, nonce), None).encryptor().update(bytes(64 * count))
            words = np.frombuffer(stream, "<u4").reshape(count, 16)
            for term, weight in enumerate(weights[:, row, j]):
                total[row, term] += words * weight
    return np.swapaxes(total, 2, 3)


def drawn(rows, number, weights, words=8):
    rng = np.random.default_rng([7, rows, number])
    keys = rng.integers(0, 2**32, (rows, number, words), dtype=np.uint32)
    return keys, rng.integers(0, 2**32, (weights, rows, number), dtype=np.uint32)


# Unrolled, ChaCha20 takes XLA's CPU compiler half a minute in a kernel; the GPU's loops by itself.
LOOPED = looped(CHACHA20, 1)


@pytest.mark.parametrize("form", ["plain", "gpu", "tpu"])
@pytest.mark.parametrize(
    ("size", "words"),
    [
        ((1, 1, 0, 1), 8),
        ((2, 1, 7, 130), 11),
        pytest.param((3, 5, 2**31 + 7, 2500), 8, marks=pytest.mark.slow),
    ],
    ids=["one", "nonces", "many"],
)
def test_sums_are_those_of_another_chacha20(form, size, words):
    """One block of one key, and many: over the edges of a kernel's blocks; keys with nonces."""
    rows, number, first, count = size
    keys, weights = drawn(rows, number, 2, words)
    prg = LOOPED if form == "tpu" else CHACHA20
    made = summed(prg, WEIGHTED_TWICE, keys, weights, first, count, form=form)
    np.testing.assert_array_equal(made, another_chacha20(keys, weights, first, count))


@pytest.mark.parametrize("name", PRGS)
def test_every_prg_loops_over_all_its_rounds(name):
    keys, weights = drawn(1, 2, 1)
    plain, kernel = (
        summed(PRGS[name], WEIGHTED, keys, weights, 3, 5, form=each) for each in ("plain", "gpu")
    )
    np.testing.assert_array_equal(plain, kernel)


def test_steps_that_leave_rounds_over_are_refused():
    word = jnp.zeros((1,), jnp.uint32)
    with pytest.raises(ValueError, match="8 rounds are not whole steps of 3"):
        looped(CHACHA8, 3).block([word] * 8, word, [word] * 3)


@pytest.mark.slow
def test_the_unrolled_form_in_a_kernel():
    """As a TPU runs it."""
    keys, weights = drawn(1, 2, 2)
    made = summed(CHACHA20, WEIGHTED_TWICE, keys, weights, 3, 5, form="tpu")
    np.testing.assert_array_equal(made, another_chacha20(keys, weights, 3, 5))


@pytest.mark.parametrize("form", ["plain", "gpu", "tpu"])
def test_noise_of_an_accelerator_is_the_oracles(form, monkeypatch):
    """Words of a kernel whose rows have nonces; 37 of them are no whole number of blocks."""
    kernel, ids = key_sums.key_sums, np.array([3, 2**31 - 1, 0])

    def here(prg, *given, platform):
        assert platform == "gpu"
        return kernel(LOOPED if form == "tpu" else prg, *given, platform="cpu", form=form)

    monkeypatch.setattr(key_sums, "key_sums", here)
    noise = jax.jit(partial(randomness.rounding_noise, count=37, platform="gpu"))(
        randomness.public_key(9), jnp.uint32(2), ids
    )
    public = reference.public_key(9)
    for row, participant in zip(noise, ids.tolist(), strict=True):
        assert row.tolist() == reference.rounding_noise(public, 2, participant, 37)


def short(key, counter, nonce):
    """A PRG that is cheap to compile: 16 words that depend on everything."""
    mixed = functools.reduce(operator.xor, [*key, counter, *nonce])
    return [mixed * jnp.uint32(2 * i + 1) + jnp.uint32(i) for i in range(16)]


@pytest.mark.parametrize("form", ["gpu", pytest.param("tpu", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", quick(list(TERMS), 1))
def test_kernels_sum_what_the_plain_form_does(form, name, monkeypatch):
    """Every kind of term, keys in several steps, blocks beyond a whole number of a kernel's."""
    monkeypatch.setattr(key_sums, "KEYS", 3)
    prg, terms = PRG("short", 20, short), TERMS[name]
    keys, weights = drawn(2, 7, terms.weights)
    plain, kernel = (
        summed(prg, terms, keys, weights, 5, 2100, form=each) for each in ("plain", form)
    )
    assert plain.shape == (2, terms.number, 16, 2100)
    np.testing.assert_array_equal(plain, kernel)


def test_a_platform_runs_its_own_kernel_and_a_prg_of_ones_own_the_plain_form(monkeypatch):
    asked = []
    for form in key_sums.KERNELS:
        monkeypatch.setitem(
            key_sums.KERNELS, form, lambda *given, form=form: asked.append((form, given[-1]))
        )
    keys, weights = drawn(1, 1, 1)
    for platform in ("gpu", "tpu"):
        key_sums.key_sums(CHACHA8, WEIGHTED, keys, weights, 0, 1, platform=platform)
    assert asked == [("gpu", False), ("tpu", False)]  # not interpreted
    own = PRG("chacha20", 20, short)
    made = key_sums.key_sums(own, WEIGHTED, keys, weights, 0, 1, platform="gpu")
    assert made.shape == (1, 1, 16, 1)
    assert len(asked) == 2


def test_without_triton_a_gpu_runs_the_plain_form(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax.experimental.pallas.triton", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: sys.modules.get(name, 1))
    assert [key_sums._form_of(CHACHA8, platform) for platform in ("gpu", "tpu")] == ["plain", "tpu"]


@pytest.mark.parametrize("name", TERMS)
def test_kernels_lower_for_a_tpu(name):
    """By the TPU's own lowering, which needs no TPU; `make test-tpu` compiles whole rounds."""
    terms = TERMS[name]
    keys, weights = drawn(2, 3, terms.weights)

    def call(keys, weights):
        return key_sums.key_sums(CHACHA8, terms, keys, weights, 0, 200, platform="tpu")

    text = jax.export.export(jax.jit(call), platforms=["tpu"])(keys, weights).mlir_module()
    assert "tpu_custom_call" in text
    assert key_sums.kernel_name(CHACHA8, terms) in text


@pytest.mark.parametrize("together", [7, 40])
def test_rejected_words_give_way_in_the_long_schedule_too(together, monkeypatch):
    """Words equal to p, and their first stand-ins, in some blocks: as the CPU's schedule has it."""
    monkeypatch.setattr(choice, "_REPLACED", 13 * together)

    def word(key, counter, nonce):
        first = jnp.where(counter % 3 == 0, jnp.uint32(2**32 - 1), counter + key)
        second = jnp.where(counter % 6 == 0, jnp.uint32(P), jnp.uint32(1000) + counter)
        return jnp.where(nonce == 0, first, jnp.where(nonce == 1, second, jnp.uint32(77)))

    scheme = CELLS[4].scheme._replace(prg=planted(word))
    keys, _ = drawn(1, 40, 1)
    members = np.arange(40) % 7 != 2
    cpu, long = (
        jax.jit(partial(SCHEDULES[name].coefficients, scheme, first=jnp.uint32(0), count=13))(
            keys=keys[0], members=members
        )
        for name in ("cpu", "gpu")
    )
    np.testing.assert_array_equal(cpu, long)
    assert set(np.asarray(long)[:, 0].tolist()) == {77 * int(members.sum())}


# Choices


@pytest.mark.parametrize(("least", "tiles"), [(0, 4), (30, 2), (1000, 1)])
def test_batches_are_drawn_for_as_many_tiles_as_fit(least, tiles):
    """By the arrays of a tile, here 16 elements, or by what it takes to draw them."""
    seen = []

    def prepare(shared, starts):
        seen.append(len(starts))
        return jnp.zeros((len(starts), 16), jnp.uint32)

    def body(shared, carry, item):
        return carry + item[0], item[0]

    before = Before(prepare, lambda *_: jnp.int32(0), 99, together=64, least=least)
    total, rows = scan_tiles(
        make_mesh(1), body, rows_apart(), None, None, jnp.arange(8, dtype=jnp.int32), before
    )
    assert rows.tolist() == list(range(8))
    assert int(total) == 28
    assert {*seen} - {8} == {tiles}  # 8: for the shapes


def test_a_tile_is_a_number_of_the_platform_the_model_and_the_group():
    """Never of the memory that is free: bits must not depend on it."""
    config = sd.Config(participants=10**6, group_size="all", engine="ideal")
    widths = {
        (name, d): tile_size(config, name, d)
        for name in ("cpu", "gpu", "tpu")
        for d in (7_850, 50_890, 10**7, 10**9)
    }
    assert widths == {
        **{("cpu", d): 4 for d in (7_850, 50_890, 10**7, 10**9)},
        ("gpu", 7_850): 4096,
        ("gpu", 50_890): 4096,
        ("gpu", 10**7): 16,
        ("gpu", 10**9): 1,
        ("tpu", 7_850): 512,
        ("tpu", 50_890): 512,
        ("tpu", 10**7): 2,
        ("tpu", 10**9): 1,
    }
    assert tile_size(sd.Config(group_size=25), "gpu", 50_890) == 25
    assert tile_size(sd.Config(tile_size=7), "gpu", 50_890) == 7


def test_the_platform_chooses_its_schedule_unless_it_is_told():
    names = {name: schedule_on(sd.Config(), name) for name in ("cpu", "gpu", "tpu", "other")}
    assert names == {"cpu": "cpu", "gpu": "gpu", "tpu": "tpu", "other": "cpu"}
    assert schedule_on(sd.Config(schedule="tpu"), "cpu") == "tpu"


@pytest.mark.parametrize(
    ("precision", "said"),
    [
        ("float32", "HIGHEST"),
        pytest.param("tensorfloat32", "HIGH", marks=pytest.mark.slow),
        pytest.param("bfloat16", None, marks=pytest.mark.slow),
    ],
)
def test_products_have_the_precision_of_the_config(make_tiny_data, precision, said):
    """Whatever JAX's default is."""
    config = sd.Config(participants=8, group_size=6, model="linear", precision=precision)
    data = make_tiny_data(8)
    simulation = sd.build_simulation(config, None, data)
    state = jax.eval_shape(simulation.init)
    with jax.default_matmul_precision("tensorfloat32"):
        text = jax.jit(simulation.step).lower(state, data).as_text()
    products = [line for line in text.splitlines() if "stablehlo.dot_general" in line]
    assert products
    for line in products:
        if said:
            assert f"precision = [{said}, {said}]" in line
        else:
            assert "HIGH" not in line


def test_every_prg_of_the_package_has_a_kernel():
    assert all(key_sums._form_of(prg, "gpu") == "gpu" for prg in PRGS.values())
