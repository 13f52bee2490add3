"""Whether a study fits this machine: a lower bound, to refuse what cannot work before it is played.

It counts what grows with the group, the batch or the participants, and must be held at once.
"""

from math import isqrt

from ssddl_jax.common.errors import ConfigError
from ssddl_jax.config.config import Config
from ssddl_jax.core.devices import available_bytes
from ssddl_jax.planning.plan import WORD, Plan

_PIXELS = 28 * 28
_MODELS = 2  # that the rounds are played with; each keeps everybody's examples


def check_memory(config: Config, plan: Plan, rounds: int) -> None:
    """Refuses a study whose views, rounds and examples exceed the machine's memory.

    `plan`: of the study's rounds, of which it plays at least `rounds`. Raises `ConfigError` naming
    what costs most, and what fits.
    """
    message, batch = WORD * plan.width, config.batch_size
    pad = 2 * message  # made in parts, then joined: both are held
    ends = 1 if config.paired else 2
    views = pad * ends * plan.size * (plan.size - 1) // 2  # of the server and all others but two
    sums = message * rounds
    rows = 3 * message * config.participants  # update, encoded, upload: of everybody's first round
    image = _MODELS * WORD * _PIXELS * config.participants
    limit = int(available_bytes())
    free = limit - (views + sums + rows + image * batch)
    if free >= 0:
        return
    costs = {"group_size": views, "participants": sums + rows, "batch": image * batch}
    field = max(costs, key=lambda name: costs[name])
    room = max(0, free + costs[field])
    most = {
        "group_size": isqrt(2 * room // (ends * pad)),
        "participants": 0,
        "batch": room // image,
    }[field]
    value = {"group_size": plan.size, "participants": plan.participants, "batch": batch}[field]
    enough = most >= (3 if field == "group_size" else 1)
    total = sum(costs.values())
    problem = f"a study would take at least {_gib(total)}, and this machine has {_gib(limit)}"
    raise ConfigError(field, value, f"{problem}; {f'{most:,} fits' if enough else 'use fewer'}")


def _gib(count: int) -> str:
    return f"{count / 2**30:,.1f} GiB"
