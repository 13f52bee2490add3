"""Finds the sharing scheme of a dropout rule under an engine, and counts the words it computes.

To use your own scheme, pass its builder to `build_simulation`.
"""

from collections.abc import Callable

from ssddl_jax.common.lazily import resolve
from ssddl_jax.config.rules import Rule
from ssddl_jax.core.arithmetic.chacha import rolled
from ssddl_jax.core.sharing import ideal
from ssddl_jax.core.sharing.base import Scheme, Sharing

_FEW_WORDS = 1 << 15  # in a round: a rolled PRG computes them in well under a millisecond


def sharing_of(engine: str, rule: Rule) -> Callable[[Scheme], Sharing]:
    """The scheme's builder. Engine reference uses that of engine pairwise, and checks its sums."""
    if engine == "ideal":
        return ideal.ideal
    builder: Callable[[Scheme], Sharing] = resolve(rule.sharing)
    return builder


def words_made(engine: str, rule: Rule, scheme: Scheme) -> int:
    """PRG words that a round's sharing evaluates, 16 for each block, tile padding included.

    A share that is computed once for both ends counts once. Keys are not counted.
    """
    if engine == "ideal":
        return ideal.words_made(scheme)
    words: int = resolve(rule.words_made)(scheme)
    return words


def suited(engine: str, rule: Rule, scheme: Scheme) -> Scheme:
    """The scheme with its PRG in the better form for its size. Both forms give the same words.

    A small round spends most of its time compiling, so it gets the rolled form, which compiles
    fast. The accelerators' kernels compile fast at any size.
    """
    if not scheme.traits.small_rounds_rolled:
        return scheme
    small = scheme._replace(prg=rolled(scheme.prg))
    return small if words_made(engine, rule, small) <= _FEW_WORDS else scheme
