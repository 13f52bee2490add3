"""Network time, computed from bytes, bandwidth and latency; never measured."""

from math import inf
from typing import Any, NamedTuple

from ssddl_jax.common.errors import ConfigError
from ssddl_jax.common.lazily import resolve
from ssddl_jax.config.protocols import protocol_of


class Network(NamedTuple):
    """A member's link to the server. Megabits are 10^6 bits; `latency_ms` is one way."""

    name: str
    up_mbit: float
    down_mbit: float
    latency_ms: float

    def seconds(self, up: float, down: float, messages: float) -> float:
        """Seconds of a member's round: `up` and `down` bytes in `messages` sequential messages.

        Assumes that the server's link is fast enough for all members at once.
        """
        transfer = 8e-6 * (up / self.up_mbit + down / self.down_mbit)
        return transfer + messages * self.latency_ms / 1e3


# Our own round figures for three classes of links; nobody measured them.
NETWORKS = (
    Network("mobile", 10, 40, 50),
    Network("home", 20, 100, 20),
    Network("data centre", 10_000, 10_000, 0.5),
)


def user_network(text: str) -> Network:
    """UP,DOWN,LATENCY in Mbit/s, Mbit/s and ms (one way). Raises `ConfigError`."""
    remedy = "must be UP,DOWN,LATENCY in Mbit/s, Mbit/s, ms, such as 20,100,15"
    try:
        up, down, latency = (float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError("network", text, remedy) from None
    if not (0 < up < inf and 0 < down < inf and 0 <= latency < inf):
        raise ConfigError("network", text, f"{remedy}; both rates above 0, latency 0 or more")
    return Network("yours", up, down, latency)


def messages(config: Any, *, lost: bool, void: bool = False) -> int:
    """Sequential messages of a member's round: the model down, the update up, and what the protocol
    adds. `lost`: somebody vanished after sharing; `void`: the round had no result.
    """
    found = protocol_of(config).messages
    return found if isinstance(found, int) else int(resolve(found)(config, lost, void))


def of_sharing(config: Any, lost: bool, void: bool) -> int:
    """Sequential messages of a member's round of a secure sum, by dropout rule and transport."""
    if void and not lost:
        return 1  # too few can share: only the model
    rule = config.rule_in_force
    shares = rule.exchanges or int(config.transport == "explicit")  # to all partners at once
    attempt = shares + 1  # and the upload
    if not void and (rule.opens == "secrets" or (lost and rule.opens)):
        return 1 + attempt + 2  # the list of the vanished; the opened secrets
    if not void and lost and rule.retries:
        return 1 + attempt + 1 + attempt  # the list of survivors, and the second attempt
    return 1 + attempt
