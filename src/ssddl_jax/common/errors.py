"""Errors of one line: a request that is impossible or malformed, and a run that ended early."""

from ssddl_jax.common.text import printable


class ConfigError(ValueError):
    """A configuration that cannot be run; one line: the field, its value and what would work.

    `value` None: the fault is not in a value, as where one is missing. Raised before anything is
    compiled or written; the command line turns it into exit status 2.
    """

    def __init__(self, field: str, value: object, remedy: str) -> None:
        self.field = field
        self.value = value
        self.remedy = one_line(remedy, 900)
        told = "" if value is None else f" = {one_line(value, 200)}"
        super().__init__(f"{one_line(field, 100)}{told}: {self.remedy}")


def written(value: object) -> str:
    """A value as it is written in Python, however large."""
    try:
        return repr(value)
    except ValueError:  # see `one_line`
        return "a number of thousands of digits"


def one_line(value: object, most: int) -> str:
    """A value's text for an error: spaces for line breaks, and of a long one its two ends."""
    try:
        text = " ".join(printable(value).split())
    except ValueError:  # Python writes no whole number of more than 4,300 digits
        return "a number of thousands of digits"
    return text if len(text) <= most else f"{text[: most // 2]} ... {text[-most // 2 :]}"


class DataError(ValueError):
    """A dataset or a partition that cannot be had: one line saying what and what would work."""


class RunError(RuntimeError):
    """A run that ended early, as on a full disk; its one line says how to go on."""
