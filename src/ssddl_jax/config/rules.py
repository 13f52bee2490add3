"""Dropout rules: what happens in a round whose members vanish after sharing. One record each.

All other code asks the record for its properties and never compares a rule's name. Your own rule is
one more record, plus the functions that it names if its shares are of a new kind.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

_COSTS = "ssddl_jax.planning.sharing_costs"
_WORK = "ssddl_jax.measure.compare.work"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A dropout rule. The defaults describe pads between pairs, summed in the ring.

    Functions outside this room are named as "module:attribute" (`common/lazily.py`).
    """

    name: str
    choice: str = ""  # what follows a dropout, for --help; "": a rule that only a protocol sets

    # The round
    retries: bool = False  # if members vanish, the others share again in attempt 1
    # (n, survivors if as many vanish as max_dropout allows) -> survivors without which a round is
    # void; at least three, at least t, and on a sparse graph at least the second, in any case
    least: Callable[[int, int], int] = lambda size, fewest: fewest
    holds_sharers: bool = False  # the sum holds all who shared, not only the survivors
    opens: Literal["", "keys", "secrets"] = ""  # to the server: pair keys with the vanished, or
    # t shares of one secret of every member, vanished or not
    needs_threshold: bool = False  # t shares open a secret; void below t survivors

    # The shares
    field: bool = False  # values of polynomials over F_p, for all members; else pads in the ring
    complete: bool = False  # everybody shares with everybody
    paired: bool = False  # a pair has one pad, whatever the config says
    exchanges: int = 0  # sequential messages with shares before the upload, in every round
    ideal: bool = False  # whether engine ideal can draw the uploads

    # Code
    sharing: str = "ssddl_jax.core.sharing.pairwise:pairwise"  # Scheme -> Sharing
    words_made: str = "ssddl_jax.core.sharing.pairwise:pair_words_made"  # Scheme -> words
    views: str = "ssddl_jax.privacy.shares:PairShares"  # its shares, recomputed for a view

    # Costs: functions of (config, plan), and of the further arguments shown
    share_words: str = f"{_COSTS}:pair_words"  # PRG words of one attempt by all parties
    traffic: str = f"{_COSTS}:pair_traffic"  # (..., Sent) -> Traffic
    memory: str = f"{_COSTS}:pair_memory"  # bytes that a round's sharing takes
    least_memory: str = f"{_COSTS}:pair_least"  # fewest words that it can hold
    work: str = f"{_WORK}:pair_work"  # (..., Scheme, Mean) -> a member's Cost, the server's

    # Texts
    tolerance: str  # for `plan`
    late: str = ""  # what the server learns from a late upload
    late_covered: bool = False  # whether the claim covers a late upload
    vanished: str = ""  # what happens to members that vanish, for the report
    explained: str = ""  # the same, for `explain`
    made_of: str = ""  # what its shares are, for the report
    uploads: str = "uniform words, except for their sum"  # what the server sees of them

    @property
    def attempts(self) -> int:
        """Most attempts of a round."""
        return 2 if self.retries else 1


RETRY = Rule(
    name="retry",
    choice="share again",
    retries=True,
    ideal=True,
    tolerance="If members vanish after sharing, the others share again under fresh keys. A late "
    "upload breaks privacy: the server's two sums then differ by exactly that member's update.",
    late="The update of a member whose upload arrives after its attempt was abandoned: the sums of "
    "the two attempts differ by exactly that update (with several late uploads, by their sum).",
    vanished="they are left out, and the others shared again.",
    explained="the attempt is void; survivors share again, with fresh keys.",
)
REVEAL = Rule(
    name="reveal",
    choice="open pads",
    opens="keys",
    tolerance="If members vanish after sharing, the others open the pair keys that they share with "
    "them. A late upload breaks privacy: the opened keys unmask it.",
    late="The update of a member whose upload arrives after the others opened the pair keys that "
    "they shared with it: the opened pads unmask it.",
    vanished="the others opened the pair keys that they shared with them.",
    explained="survivors open the keys that they share with it, to cancel those masks.",
)
SHAMIR = Rule(
    name="shamir",
    choice="t-of-n shares",
    least=lambda size, fewest: 0,
    holds_sharers=True,
    needs_threshold=True,
    field=True,
    complete=True,
    exchanges=1,
    sharing="ssddl_jax.core.sharing.shamir:shamir",
    words_made="ssddl_jax.core.sharing.shamir:words_made",
    views="ssddl_jax.privacy.shares:FieldShares",
    share_words=f"{_COSTS}:field_words",
    traffic=f"{_COSTS}:field_traffic",
    memory=f"{_COSTS}:field_memory",
    least_memory=f"{_COSTS}:field_least",
    work=f"{_WORK}:field_work",
    tolerance="A member that vanishes after sharing stays in the sum: the others hold its shares. "
    "The server learns nothing new from a late upload, unless the round was void: then the upload "
    "can be the t-th point, and opens that round's sum.",
    late="Nothing more, unless the round was void: a late upload is one more point of a polynomial "
    "that the server already knows. In a void round it can be the t-th point, and then it opens "
    "that round's sum, and nothing else.",
    late_covered=True,
    vanished="their updates are in the sum.",
    explained="any t uploads give the sum, its own update included.",
    made_of="Shares are Shamir's, t-of-n over 2^31 - 1.",
    uploads="points of a random polynomial: any t give the others, and the sum",
)
SECAGG = Rule(  # of protocols secagg and secagg+
    name="secagg",
    least=lambda size, fewest: 0,
    opens="secrets",
    needs_threshold=True,
    paired=True,
    exchanges=4,  # keys up, the others' down; shares up, the others' down
    sharing="ssddl_jax.core.sharing.secagg:secagg",
    words_made="ssddl_jax.core.sharing.secagg:words_made",
    views="ssddl_jax.privacy.secrets:SecretShares",
    share_words=f"{_COSTS}:secagg_words",
    traffic=f"{_COSTS}:secagg_traffic",
    work=f"{_WORK}:secagg_work",
    tolerance="If members vanish after sharing, the others open shares of their mask keys, and "
    "shares of the self-mask seeds of those who stayed, never both for one member. A late upload "
    "stays hidden under its self-mask.",
    late_covered=True,
)
RULES = {rule.name: rule for rule in (RETRY, REVEAL, SHAMIR, SECAGG)}
CHOICES = tuple(name for name, rule in RULES.items() if rule.choice)  # of `dropout_rule`
_WORDS = [RULES[name].choice for name in CHOICES]
CHOICE_WORDS = f"{', '.join(_WORDS[:-1])}, or {_WORDS[-1]}"
THRESHOLDS = " and ".join(name for name, rule in RULES.items() if rule.needs_threshold)
