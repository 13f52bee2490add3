"""DSSGD's discrete Laplace noise: its distribution, epsilon and delta per visit, an attack."""

import functools
import itertools
import math
from decimal import Decimal, localcontext
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ssddl_jax as sd
from rival_cases import BROKEN, D, config_of, group_of, playing
from ssddl_jax.baselines import dssgd as selective
from ssddl_jax.baselines import laplace
from ssddl_jax.reference import rivals as oracle
from ssddl_jax.reference.randomness import derive_key, public_words, stream, tag


def laplace_config(**fields):
    fields = {"dssgd_rule": "random", "dssgd_tau": 0.5, "dssgd_epsilon": 1.0, **fields}
    return config_of("dssgd", **fields)


def scales_of(config, steps, count):
    """A level moves by 2 steps, its magnitude by one; epsilon is 4/9, 4/9, 1/9."""
    part = Decimal(config.dssgd_epsilon) / 9
    c = 2 * count * steps
    return Decimal(steps) / (4 * part), Decimal(c) / (4 * part), Decimal(c) / part


@pytest.mark.parametrize("fields", [{}, {"dssgd_gamma": 0.25, "dssgd_epsilon": 30.0}])
def test_picks_and_values_are_the_oracles(fields):
    config = laplace_config(dssgd_theta_u=0.3, **fields)
    state = playing(config_of("snt")).state
    chain, public = (np.asarray(key).tolist() for key in (state.chain, state.public))
    count, steps = 6, laplace.laws(config, D).steps
    assert steps == 1024
    want = oracle.Private(steps, scales_of(config, steps, count))
    changes = np.random.default_rng(1).uniform(-1.5, 1.5, (3, D)).astype(np.float32)
    select, picks = jax.jit(functools.partial(selective.select, config)), []
    for participant, change in zip((0, 7, 2**20), changes, strict=True):
        got = select(state, change, jnp.uint32(participant))
        words = public_words(public, (0, participant, tag(b"DSSG")), D)
        picked, values = want.pick(
            derive_key(chain, 0, participant, 0, b"LAPL"),
            change,
            config.dssgd_gamma,
            config.dssgd_tau,
            [word >> 1 for word in words],
            count,
        )
        assert np.flatnonzero(got.chosen).tolist() == picked
        np.testing.assert_array_equal(np.asarray(got.values)[picked], np.float32(values))
        picks += values
    inside = [value for value in picks if 0 < abs(value) < config.dssgd_gamma]
    assert picks
    assert inside or config.dssgd_epsilon == 1.0


@pytest.mark.parametrize("scale", ["0.02", "0.3", "1.7"])
def test_distance_from_the_exact_law_is_bounded(scale):
    drawn = laplace.law(1, 1 / Decimal(scale))
    one_sided = [Fraction(1)]
    for threshold in drawn.thresholds:
        one = Fraction(threshold, 2**96)
        one_sided = [p * (1 - one) for p in one_sided] + [p * one for p in one_sided]
    size = len(one_sided)
    with localcontext() as context:
        context.prec = 80
        ratio = Fraction((-1 / Decimal(scale)).exp())
    apart = Fraction(0)
    for z in range(size):
        chance = sum(one_sided[g] * one_sided[g + z] for g in range(size - z))
        exact = (1 - ratio) / (1 + ratio) * ratio**z
        apart += abs(chance - exact) * (1 if z == 0 else 2)
    apart += 2 * ratio**size / (1 + ratio)  # what lies beyond
    assert 0 < apart / 2 <= Fraction(drawn.distance)
    assert drawn.distance < 1e-27


def test_a_digit_is_decided_by_all_its_limbs():
    words = [stream(list(range(8)), (0, limb, 0), 6)[0] for limb in range(3)]
    drawn = words[0] << 64 | words[1] << 32 | words[2]
    for threshold, one in ((drawn, 0), (drawn + 1, 1), (drawn + 2**32, 1), (drawn - 2**32, 0)):
        laws = laplace.Laws(1, laplace.Law((threshold,)), laplace.Law((0,)), laplace.Law((0,)))
        made = selective.noise(jnp.arange(8, dtype=jnp.uint32), laws, 1, 1)
        minus = stream(list(range(8)), (0, 0, 0), 6)[3] < threshold >> 64
        assert made.threshold.tolist() == [one - minus]


@pytest.mark.optimised
def test_moments_of_many_draws():
    law, scale = laplace.law(2000, Decimal(1)), 2000.0
    key, laws = jnp.arange(8, dtype=jnp.uint32), laplace.Laws(1, law, law, law)
    made = jax.jit(lambda key: selective.noise(key, laws, 200_000, 1))(key)
    drawn = np.asarray(made.comparisons).astype(float)
    ratio = math.exp(-1 / scale)
    levels = np.sort(np.abs(drawn))
    exact = 1 - 2 * ratio ** (levels + 1) / (1 + ratio)
    assert abs(drawn.mean()) < 4 * math.sqrt(2) * scale / math.sqrt(len(drawn))
    steps = (np.searchsorted(levels, levels, "right")) / len(drawn)
    assert np.abs(exact - steps).max() < 2.5 / math.sqrt(len(drawn))  # Kolmogorov, below 1e-5


def test_a_visits_epsilon_by_exact_chances():
    """One coordinate: the chance of each outcome, from the laws, for every pair of levels."""
    steps, epsilon = 4, 1.0
    spans = [float(s) for s in scales_of(laplace_config(), steps, 1)]

    def chances(scale):
        z = np.arange(-4000, 4001)
        return np.tanh(0.5 / scale) * np.exp(-np.abs(z) / scale)

    threshold, comparison, value = map(chances, spans)
    above = np.cumsum(comparison[::-1])[::-1]  # noise at least z, index z + 4000
    outcomes = {}
    for level in range(-steps, steps + 1):
        needed = np.clip(2 + np.arange(-4000, 4001) - abs(level) + 1, -4000, 4000)
        sent = float(np.sum(threshold * above[needed + 4000]))
        seen = np.roll(value, level)[4000 - steps : 4001 + steps].copy()
        seen[0] += value[: 4000 - steps - level].sum()
        seen[-1] += value[4001 + steps - level :].sum()
        outcomes[level] = np.append(sent * seen, 1 - sent)
    worst = max(
        float(np.max(np.log(a / b))) for a, b in itertools.permutations(outcomes.values(), 2)
    )
    assert 0.1 < worst <= epsilon


def worst_ratio(config):
    """The largest log ratio of chances, less four standard errors, of anything that an upload can
    look like, over two changes as far apart as a participant's data can put them; d = 1.
    """
    state = playing(config_of("snt")).state
    draws = jnp.arange(2**12, dtype=jnp.uint32)  # noise of so many participants

    @jax.jit
    def seen(state, change):
        upload = jax.vmap(lambda i: selective.select(config, state, change[None], i))(draws)
        return upload.values[:, 0], upload.chosen[:, 0]

    counts = []
    for change in (1.0, 0.0, -1.0):
        values, picked = map(np.asarray, seen(state, jnp.float32(change)))
        looks = np.where(picked, 1 + np.digitize(values, [-0.99, -0.3, 0.3, 0.99]), 0)
        counts.append(np.bincount(looks, minlength=6).astype(float))
    worst = -np.inf
    for a, b in itertools.permutations(counts, 2):
        often = (a > 50) & (b > 50)
        slack = 4 * np.sqrt(1 / a[often] + 1 / b[often])
        worst = max(worst, float(np.max(np.log(a[often] / b[often]) - slack)))
    return worst


@pytest.mark.optimised
@pytest.mark.slow
def test_a_visits_epsilon_is_kept():
    assert worst_ratio(laplace_config(dssgd_epsilon=1.0)) <= 1.0
    assert worst_ratio(laplace_config(dssgd_epsilon=30.0)) > 1.0  # the control: it can be seen


def nearest_grid_value(released, grid):
    """The attack: a released value less the nearest value that noise can have."""
    place = np.clip(np.searchsorted(grid, released), 1, len(grid) - 1)
    left, right = grid[place - 1], grid[place]
    return released - np.where(released - left < right - released, left, right)


@pytest.mark.optimised
def test_the_nearest_grid_value_says_nothing():
    """Old noise gives the change away; now the uploads of two changes are the same."""
    size, count, gamma, visits = 2_000, 200, 1.0, 200
    change = np.random.default_rng(5).uniform(-4e-4, 4e-4, size).astype(np.float32)

    # The control, noise in floating point: 2^23 values of scale 2 gamma c / (epsilon / 9).
    uniform = (np.random.default_rng(6).integers(0, 2**23, 2**17) + 0.5) / 2**23
    half = 18 * count * gamma * np.log(2 * (np.arange(2**22) + 0.5) / 2**23)
    grid = np.sort(np.concatenate([half, -half]))
    scale = 18 * count * gamma
    noise = scale * np.sign(uniform - 0.5) * -np.log(2 * np.minimum(uniform, 1 - uniform))
    true = np.resize(change, len(noise))
    inside = np.abs(true + noise) < gamma
    found = nearest_grid_value((true + noise)[inside], grid)
    assert np.mean(np.abs(found - true[inside]) < 1e-6) > 0.9

    config = laplace_config(dssgd_theta_u=0.1, dssgd_gamma=gamma, dssgd_tau=0.1)
    state, steps = playing(config_of("snt")).state, laplace.laws(config, size).steps
    ids = jnp.arange(visits, dtype=jnp.uint32)
    uploads = jax.jit(
        lambda state, change: jax.lax.map(
            lambda i: selective.select(config, state, change, i)[:2], ids
        )
    )
    values, chosen = map(np.asarray, uploads(state, change))
    released = values[chosen & (np.abs(values) < gamma)]
    found = nearest_grid_value(released, np.arange(-2 * steps, 2 * steps) * (gamma / steps))
    assert len(found) > 3
    assert not found.any()  # the same answer, whatever the change
    other, picked = map(np.asarray, uploads(state, -change))
    np.testing.assert_array_equal(other, values)
    np.testing.assert_array_equal(picked, chosen)
    large, _ = map(np.asarray, uploads(state, change + np.float32(0.5)))
    assert np.any(large != values)  # the control: a change of many levels shows in some


def test_what_is_not_finite_is_sent_as_no_change():
    config = laplace_config(dssgd_theta_u=0.3)
    made = playing(config)
    state, info = made.step(made.state)
    ids, vanished = group_of(config, 0)
    broken = [participant in BROKEN for participant in ids]
    assert any(broken)
    assert np.asarray(info.finite).tolist() == [not b for b in broken]
    assert np.asarray(info.members).all()
    assert np.asarray(info.alive).tolist() == [slot not in vanished for slot in range(len(ids))]
    assert np.isfinite(np.asarray(state.params)).all()
    nobody = playing(config, tuple(range(config.participants)))  # has a finite update
    state, info = nobody.step(nobody.state)
    assert not np.asarray(info.finite).any()
    assert np.asarray(state.server.counts).sum() > 0  # their noise is uploaded all the same


def test_levels_are_as_fine_as_the_noise_allows():
    def steps(epsilon):
        return laplace.laws(laplace_config(dssgd_epsilon=epsilon, dssgd_theta_u=1.0), 50_890).steps

    assert [steps(epsilon) for epsilon in (0.06, 1.0, 30.0)] == [1, 16, 512]
    with pytest.raises(sd.ConfigError, match=r"dssgd_epsilon.*0\.05.*at least 0\.058"):
        steps(0.05)


def test_delta_counts_every_draw():
    config = laplace_config(dssgd_theta_u=0.3)
    made = laplace.laws(config, D)
    draws = [(made.threshold, 1), (made.comparisons, D), (made.values, 6)]
    distance = sum(count * (len(law.thresholds) + 1) for law, count in draws) * 2.0**-96
    assert laplace.delta(config, D) == pytest.approx((1 + math.e) * distance)
    assert laplace.delta(laplace_config(dssgd_epsilon=30.0), 50_890) < 1e-8
