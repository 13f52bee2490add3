"""DSSGD's Laplace noise: the oracle's, Laplace's distribution, and a visit's epsilon."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from rival_cases import D, config_of, playing
from ssddl_jax.reference import rivals as oracle
from ssddl_jax.rivals import dssgd as selective


def laplace_config(**fields):
    fields = {"dssgd_rule": "random", "dssgd_tau": 0.5, "dssgd_epsilon": 1.0, **fields}
    return config_of("dssgd", **fields)


def test_noise_is_the_oracles():
    config = laplace_config(dssgd_gamma=0.25, dssgd_epsilon=3.0)
    state = playing(config_of("snt")).state
    chain = np.asarray(state.chain).tolist()
    for participant in (0, 7):
        got = selective.noises(config, state, jnp.uint32(participant), D, 4)
        unit = np.array(oracle.laplace_noises(chain, participant, D))
        # A coordinate moves by 2 gamma = 1/2; epsilon 3 is 4/3, 4/3 and 1/3; 4 are released.
        for noise, drawn, scale in zip(
            got, (unit[0], unit[1 : 1 + D], unit[1 + D :]), (3 / 8, 3.0, 6.0), strict=True
        ):
            np.testing.assert_allclose(noise, scale * drawn, rtol=2e-5, atol=1e-6)


def test_laplace_distribution():
    words = np.random.default_rng(1).integers(0, 2**32, 200_000, dtype=np.uint32)
    ends = np.array([0, 2**32 - 1, 2**31 - 1, 2**31], np.uint32)
    assert np.isfinite(np.asarray(selective.laplace(ends))).all()
    drawn = np.sort(np.asarray(selective.laplace(words)))
    levels = (np.arange(len(drawn)) + 0.5) / len(drawn)
    exact = np.where(drawn < 0, np.exp(drawn) / 2, 1 - np.exp(-drawn) / 2)
    assert np.abs(exact - levels).max() < 2.5 / np.sqrt(len(drawn))  # Kolmogorov, below 1e-5


def test_without_bound_on_epsilon_there_is_no_noise():
    noisy = playing(laplace_config(dssgd_epsilon=1e30, dssgd_theta_u=0.3))
    clear = playing(laplace_config(dssgd_epsilon=0.0, dssgd_theta_u=0.3))
    states = [noisy.state, clear.state]
    for _ in range(2):
        states = [made.step(state)[0] for made, state in zip((noisy, clear), states, strict=True)]
    np.testing.assert_array_equal(states[0].params, states[1].params)
    np.testing.assert_array_equal(states[0].server.counts, states[1].server.counts)


def worst_ratio(config):
    """The largest log ratio of chances, less four standard errors, of anything that an upload can
    look like, over two changes as far apart as a participant's data can put them; d = 1.
    """
    state = playing(config_of("snt")).state
    draws = jnp.arange(2**14, dtype=jnp.uint32)  # noise of so many participants

    @jax.jit
    def seen(change):
        upload = jax.vmap(lambda i: selective.select(config, state, change[None], i))(draws)
        return upload.values[:, 0], upload.chosen[:, 0]

    counts = []
    for change in (1.0, 0.0, -1.0):
        values, picked = map(np.asarray, seen(jnp.float32(change)))
        looks = np.where(picked, 1 + np.digitize(values, [-0.99, -0.3, 0.3, 0.99]), 0)
        counts.append(np.bincount(looks, minlength=6).astype(float))
    worst = -np.inf
    for a, b in itertools.permutations(counts, 2):
        often = (a > 50) & (b > 50)
        slack = 4 * np.sqrt(1 / a[often] + 1 / b[often])
        worst = max(worst, float(np.max(np.log(a[often] / b[often]) - slack)))
    return worst


def test_a_visits_epsilon_is_kept():
    assert worst_ratio(laplace_config(dssgd_epsilon=1.0)) <= 1.0
    assert worst_ratio(laplace_config(dssgd_epsilon=30.0)) > 1.0  # the control: it can be seen
