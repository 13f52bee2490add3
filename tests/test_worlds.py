"""The game: no classifier distinguishes two worlds with the same sum, views look uniform and
independent where they must, and planted faults are detected. Each case computes its views once.
"""

import jax.numpy as jnp
import numpy as np
import pytest

import planted_faults as planted
from planted_faults import HEALTHY, VIEWS, views_of
from ssddl_jax.privacy.distinguisher import auc, distinguish
from ssddl_jax.privacy.uniformity import uniformity

pytestmark = [pytest.mark.slow, pytest.mark.optimised]

MARGIN = 0.02
CAUGHT = 0.9
REJECTED = 1e-6


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_views_do_not_tell_the_world(name):
    """AUC within 0.5 +- 0.02 on 20,000 held-out views: the margin is 4.9 standard errors."""
    views = views_of(name)
    found = distinguish(views.world0, views.world1)
    assert found.held_out == VIEWS >= 10_000
    assert abs(found.auc - 0.5) < MARGIN, found


@pytest.mark.parametrize("name", ["reused-pads", "edge-without-mask"])
def test_planted_faults_tell_the_world(name):
    views = views_of(name)
    found = distinguish(views.world0, views.world1)
    assert found.auc > CAUGHT, found


def told_by_seeds(name, count):
    """AUC of the update that trying all seeds finds, projected on what differs between worlds;
    and the fraction of world 0's views in which it is found exactly.
    """

    def signed(words):
        return np.asarray(words).astype(np.uint8).view(np.int8).astype(np.int64)

    views, messages = views_of(name), planted.small_bytes()
    first, second = (signed(words[:2]) for words in messages)
    found = [signed(planted.found_by_seeds(w[:count])) for w in views[:2]]
    scores = np.sum(np.concatenate(found) * (second - first)[None], axis=(1, 2))
    exact = (found[0] == first[None]).all(axis=(1, 2)).mean()
    return *auc(scores, np.repeat([False, True], count)), exact


def test_small_seeds_are_found_by_trying_them():
    """65,536 seeds give the updates themselves; where masks have whole keys, nothing."""
    area, _, exact = told_by_seeds("small-seeds", 500)
    assert area > CAUGHT
    assert exact == 1
    area, error, exact = told_by_seeds("byte-residuals", 2500)
    assert abs(area - 0.5) < 4 * error
    assert exact == 0


def test_residuals_are_sums_over_the_honest_edge():
    """What is left of two honest uploads adds up to their messages; without the edge's mask it is
    the messages.
    """
    messages, _ = planted.worlds(planted.scheme_of(5))
    masked, bare = (views_of(name).world0 for name in ("residuals", "edge-without-mask"))
    assert np.array_equal(masked.sum(1, dtype=jnp.uint32), bare.sum(1, dtype=jnp.uint32))
    assert np.array_equal(bare, np.broadcast_to(messages[:2], bare.shape))
    assert np.mean(np.asarray(masked) == np.asarray(bare)) < 1e-5


def seen(name):
    """A case's views as rows: the rounds of a view side by side, members with free words only."""
    views = views_of(name)
    rows = np.asarray(views.world0)
    rows = rows.reshape(rows.shape[0], -1, rows.shape[-1])
    return rows[:, views.free], views.modulus


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_views_are_uniform(name):
    found = uniformity(*seen(name))
    assert found.combined > REJECTED, found


@pytest.mark.parametrize(
    "name", ["reused-pads", "edge-without-mask", "float-shares", "top-never-occurs"]
)
def test_planted_faults_are_rejected(name):
    """All but small seeds, which a search of the seeds finds, above."""
    found = uniformity(*seen(name))
    assert found.combined < REJECTED, found
