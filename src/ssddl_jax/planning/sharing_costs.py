"""What sharing costs: PRG words, bytes and memory, by kind of shares. The records of
`config/rules.py` name these functions; `plan`, `memory` and `memory_limit` ask there.

Words are of one attempt by all parties (docs/protocol.md, section 8). Memory is in bytes, for the
model of `memory`; the least of it, in words, for `memory_limit`.
"""

from ssddl_jax.baselines import secagg_bytes
from ssddl_jax.baselines.traffic import to_bytes
from ssddl_jax.config.config import Config
from ssddl_jax.core.sharing.schedules.by_holder import HELD, PER_KEY
from ssddl_jax.planning.plan import WORD, Plan, Sent, Traffic

KEY = 32  # bytes of an opened pair key, and of an opened share of a secret
CHUNK = 1 << 19  # bytes of shares at a time, on a device
_PER_SHARE = 80  # its key, its sign, and a copy of both on the way


# Pads of pairs


def pair_words(config: Config, plan: Plan) -> int:
    """A pad is made by its holder, and by its dealer, who sends it if transport is explicit."""
    pairs = plan.size * plan.neighbours * plan.width
    ends = 2 if config.transport == "seeded" else 1
    return pairs * ends // 2 if config.paired else pairs * ends


def pair_traffic(config: Config, plan: Plan, sent: Sent) -> Traffic:
    """Uploads of every attempt, opened keys, and pads if they travel."""
    peers = 0
    if config.transport == "explicit":
        dealt = [m * min(plan.neighbours, m - 1) for m in sent.sharers]
        peers = sum(shares // 2 if config.paired else shares for shares in dealt)
    return _uploaded(plan, sent, peers)


def pair_memory(config: Config, plan: Plan) -> float:
    """Keys and signs of all pads; in the wide ring, rows."""
    row = 4.0 * plan.width
    shares = plan.size * plan.neighbours / (2 if config.paired else 1)
    kept = 9.0 * plan.size * row if config.ring_bits == 64 else 0.0
    if plan.scheme.traits.keys_in_batches:  # a step's masks and keys
        return min(HELD, 2 * (plan.size * row + PER_KEY * shares)) + kept + 8 * row
    return _PER_SHARE * shares + kept + 8 * row


def pair_least(config: Config, plan: Plan) -> int:
    """A key of 8 words and a sign for every pad; rows where they are kept side by side."""
    pairs = plan.size * plan.neighbours // (2 if config.paired else 1)
    return 9 * pairs + (2 * plan.size * plan.width if config.ring_bits == 64 else 0)


# Values of polynomials: Shamir's shares of the update itself


def field_words(config: Config, plan: Plan) -> int:
    """t - 1 coefficients of every word."""
    return plan.size * (plan.threshold - 1) * plan.width


def field_traffic(config: Config, plan: Plan, sent: Sent) -> Traffic:
    """Everybody who shares sends all others a share; then uploads."""
    return _uploaded(plan, sent, sum(m * (plan.size - 1) for m in sent.sharers))


def field_memory(config: Config, plan: Plan) -> float:
    """256 blocks of every upload at a time."""
    return 3.0 * CHUNK // 32 * plan.size + 8 * (4.0 * plan.width)


def field_least(config: Config, plan: Plan) -> int:
    """A key of 8 words for every coefficient."""
    return 8 * plan.size * (plan.threshold - 1)


# SecAgg's secrets


def secagg_words(config: Config, plan: Plan) -> int:
    """A mask is made at both its ends, a self-mask by its member and by the server."""
    return plan.size * (plan.neighbours + 2) * plan.width


def secagg_traffic(config: Config, plan: Plan, sent: Sent) -> Traffic:
    """Keys and shares of all who share; uploads of those who stay, and the shares they open."""
    levels = 2 * (plan.headroom.largest_sum // plan.size) + 1
    words, holders = plan.width // (config.ring_bits // 32), plan.neighbours + 1
    bits = secagg_bytes.secagg_bits(holders, words, levels, plan.size)
    up = to_bytes(bits.shared_up) * sent.members + to_bytes(bits.upload) * sent.alive
    down = WORD * plan.dimension * plan.size + to_bytes(bits.shared_down) * sent.members
    return Traffic(up + KEY * sent.opened, down)


def _uploaded(plan: Plan, sent: Sent, peers: int) -> Traffic:
    """The model down, whole messages up; `peers` of them go from member to member."""
    message = WORD * plan.width
    up = message * sent.alive * len(sent.sharers) + KEY * sent.opened
    between = peers * message
    return Traffic(up + between, WORD * plan.dimension * plan.size + between, between)
