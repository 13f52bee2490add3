"""Which sharing a dropout rule has under an engine: the scheme's builder, and the words it makes.

A scheme of your own is a builder passed to `build_simulation`.
"""

from collections.abc import Callable

from ssddl_jax.common.lazily import resolve
from ssddl_jax.config.rules import Rule
from ssddl_jax.core.arithmetic.chacha import rolled
from ssddl_jax.core.sharing import ideal
from ssddl_jax.core.sharing.base import Scheme, Sharing

_FEW_WORDS = 1 << 15  # of a round: made by a rolled PRG in well under a millisecond


def sharing_of(engine: str, rule: Rule) -> Callable[[Scheme], Sharing]:
    """The builder; engine reference has that of engine pairwise, whose sums it makes again."""
    if engine == "ideal":
        return ideal.ideal
    builder: Callable[[Scheme], Sharing] = resolve(rule.sharing)
    return builder


def words_made(engine: str, rule: Rule, scheme: Scheme) -> int:
    """16 x the PRG blocks that one round's sharing really evaluates, padding of tiles included.

    A share made once for both its ends counts once. Keys are not counted.
    """
    if engine == "ideal":
        return ideal.words_made(scheme)
    words: int = resolve(rule.words_made)(scheme)
    return words


def suited(engine: str, rule: Rule, scheme: Scheme) -> Scheme:
    """The scheme with its PRG in the form for its size: the same words, and for a small round most
    of the seconds are the compiler's. The accelerators' kernels compile fast, whatever the size.
    """
    if not scheme.traits.small_rounds_rolled:
        return scheme
    small = scheme._replace(prg=rolled(scheme.prg))
    return small if words_made(engine, rule, small) <= _FEW_WORDS else scheme
