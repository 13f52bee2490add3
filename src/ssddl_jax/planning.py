"""`ssddl plan`: the numbers of a run, without running it."""

from typing import Any

import jax
import numpy as np

from ssddl_jax.config import Config
from ssddl_jax.data import load_dataset, make_partition
from ssddl_jax.models import load_model
from ssddl_jax.plan import make_plan, share_words, traffic


def plan_report(config: Config) -> dict[str, Any]:
    """What `ssddl plan --json` prints. Raises `ConfigError` for what cannot work.

    The population may exceed the dataset: nothing is trained. The largest weight is then taken for
    an even split.
    """
    dataset = load_dataset(config.data)
    if config.weighting == "examples" and config.participants <= len(dataset.y_train):
        counts = make_partition(config.partition, dataset, config.participants, config.seed).counts
    else:
        counts = np.ones(1, np.int32)
    shape = tuple(dataset.x_train.shape[1:])
    model = load_model(config.model, shape, dataset.num_classes)
    plan = make_plan(config, model, shape, counts, jax.default_backend())
    moved = traffic(config, plan, members=plan.size, alive=plan.size, attempt=0)
    return {
        "participants": plan.participants,
        "group_size": plan.size,
        "parameters": plan.dimension,
        "neighbours": plan.neighbours,
        "threshold": plan.threshold,
        "max_colluders": plan.max_colluders,
        "least_alive": plan.least_alive,
        "fraction_bits": plan.encoding.fraction_bits,
        "headroom_bits": plan.headroom.bits,
        "largest_sum": plan.headroom.largest_sum,
        "capacity": plan.headroom.capacity,
        "error_bound": plan.headroom.error_bound,
        "bytes_up_per_participant": moved.up / plan.size,
        "bytes_down_per_participant": moved.down / plan.size,
        "share_words": share_words(config, plan),
        "message_words": plan.width,
    }
