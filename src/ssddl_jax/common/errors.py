"""One-line errors: for a request that is impossible or malformed, and a run that ended early."""

from ssddl_jax.common.text import printable


class ConfigError(ValueError):
    """A configuration that cannot run. Its one line gives the field, its value and what would work.

    `value` is None if no value is at fault, such as when one is missing. Raised before anything is
    compiled or written; the command line turns it into exit status 2.
    """

    def __init__(self, field: str, value: object, remedy: str) -> None:
        self.field = field
        self.value = value
        self.remedy = one_line(remedy, 900)
        given = "" if value is None else f" = {one_line(value, 200)}"
        super().__init__(f"{one_line(field, 100)}{given}: {self.remedy}")


def written(value: object) -> str:
    """A value as Python writes it, however large."""
    try:
        return repr(value)
    except ValueError:  # see `one_line`
        return "a number of thousands of digits"


def one_line(value: object, most: int) -> str:
    """A value's text for an error: on one line, with the middle of a long text left out."""
    try:
        text = " ".join(printable(value).split())
    except ValueError:  # Python writes no whole number of more than 4,300 digits
        return "a number of thousands of digits"
    return text if len(text) <= most else f"{text[: most // 2]} ... {text[-most // 2 :]}"


class DataError(ValueError):
    """A dataset or partition that is not available; one line with the cause and what would work."""


class RunError(RuntimeError):
    """A run that ended early, for example on a full disk; its one line says how to continue."""
