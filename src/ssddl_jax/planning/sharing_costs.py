"""The cost of sharing: PRG words, bytes and memory, by kind of shares.

The records of `config/rules.py` name these functions; `plan`, `memory` and `memory_limit` call them
through the records. Words are of one attempt by all parties (docs/protocol.md, section 8). Memory
is in bytes, for the model in `memory`; the least memory is in words, for `memory_limit`.
"""

from ssddl_jax.baselines import secagg_bytes
from ssddl_jax.baselines.traffic import to_bytes
from ssddl_jax.config.config import Config
from ssddl_jax.core.sharing.schedules.choice import schedule_of
from ssddl_jax.planning.plan import WORD, Plan, Sent, Traffic

KEY = 32  # bytes of an opened pair key, and of an opened share of a secret
CHUNK = 1 << 19  # bytes of shares at a time, on a device


# Pads of pairs


def pair_words(config: Config, plan: Plan) -> int:
    """Its holder and its dealer each make a pad; with transport explicit, only the dealer does."""
    pairs = plan.size * plan.neighbours * plan.width
    ends = 2 if config.transport == "seeded" else 1
    return pairs * ends // 2 if config.paired else pairs * ends


def pair_traffic(config: Config, plan: Plan, sent: Sent) -> Traffic:
    """Uploads of every attempt, opened keys, and the pads if transport is explicit."""
    peers = 0
    if config.transport == "explicit":
        dealt = [m * min(plan.neighbours, m - 1) for m in sent.sharers]
        peers = sum(shares // 2 if config.paired else shares for shares in dealt)
    return _uploaded(plan, sent, peers)


def pair_memory(config: Config, plan: Plan) -> float:
    """What the masks need at a time, plus rows if they are kept."""
    row = 4.0 * plan.width
    kept = 9.0 * plan.size * row if _keeps_rows(config, plan) else 0.0
    return schedule_of(plan.scheme).mask_bytes(plan.scheme) + kept + 8 * row


def pair_least(config: Config, plan: Plan) -> int:
    """Half of what the masks need at a time, without copies, plus rows if they are kept."""
    held = int(schedule_of(plan.scheme).mask_bytes(plan.scheme)) // (2 * WORD)
    return held + (2 * plan.size * plan.width if _keeps_rows(config, plan) else 0)


def _keeps_rows(config: Config, plan: Plan) -> bool:
    """Whether a round holds all messages; SecAgg always does in the wide ring."""
    if plan.scheme.opens == "secrets":
        return config.ring_bits == 64
    return schedule_of(plan.scheme).keeps_rows(plan.scheme)


# Values of polynomials: Shamir shares of the update itself


def field_words(config: Config, plan: Plan) -> int:
    """t - 1 coefficients for every word."""
    return plan.size * (plan.threshold - 1) * plan.width


def field_traffic(config: Config, plan: Plan, sent: Sent) -> Traffic:
    """Every sharer sends a share to each other member; then members upload."""
    return _uploaded(plan, sent, sum(m * (plan.size - 1) for m in sent.sharers))


def field_memory(config: Config, plan: Plan) -> float:
    """The blocks of every upload that the schedule holds at a time, and what is made of them."""
    scheme = plan.scheme
    blocks = schedule_of(scheme).coefficient_blocks(scheme)
    blocks = min(blocks, max(256, scheme.num_blocks))
    return 3.0 * 64 * blocks * plan.size + 8 * (4.0 * plan.width)


def field_least(config: Config, plan: Plan) -> int:
    """A key of 8 words for every coefficient."""
    return 8 * plan.size * (plan.threshold - 1)


# SecAgg's secrets


def secagg_words(config: Config, plan: Plan) -> int:
    """Both ends make a mask; the member and the server make a self-mask."""
    return plan.size * (plan.neighbours + 2) * plan.width


def secagg_traffic(config: Config, plan: Plan, sent: Sent) -> Traffic:
    """Keys and shares of all sharers, uploads of the survivors, and the shares that they open."""
    levels = 2 * (plan.headroom.largest_sum // plan.size) + 1
    words, holders = plan.width // (config.ring_bits // 32), plan.neighbours + 1
    bits = secagg_bytes.secagg_bits(holders, words, levels, plan.size)
    up = to_bytes(bits.shared_up) * sent.members + to_bytes(bits.upload) * sent.alive
    down = WORD * plan.dimension * plan.size + to_bytes(bits.shared_down) * sent.members
    return Traffic(up + KEY * sent.opened, down)


def _uploaded(plan: Plan, sent: Sent, peers: int) -> Traffic:
    """The model down and whole messages up; `peers` more messages go from member to member."""
    message = WORD * plan.width
    up = message * sent.alive * len(sent.sharers) + KEY * sent.opened
    between = peers * message
    return Traffic(up + between, WORD * plan.dimension * plan.size + between, between)
