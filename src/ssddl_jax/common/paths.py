"""Paths and text files that a user names: read, or refused in one line. Text is UTF-8 everywhere.

In a locale that is not UTF-8, Python writes the bytes of a file's name that it cannot read as
surrogates. `user_path` gives a path as the system takes it, `shown` as it is written and printed.
"""

import os
from pathlib import Path

from ssddl_jax.common.errors import ConfigError


def user_path(field: str, path: str | bytes | os.PathLike[str]) -> str:
    """A path as the user means it, in this locale: `~` is the home folder. Raises `ConfigError`."""
    text = os.fsdecode(path)
    if not text:
        raise ConfigError(field, "''", "is empty; name a file or a folder, or leave it out")
    try:
        content = text.encode("utf-8", "surrogateescape")
        content.decode("utf-8")
    except UnicodeError:
        remedy = "is no UTF-8 text, and could not be recorded; give the file another name"
        raise ConfigError(field, text, remedy) from None
    found = os.path.expanduser(os.fsdecode(content))
    if found.startswith("~"):
        who = text.split(os.sep)[0]
        raise ConfigError(field, text, f"{who} is nobody's home folder; ./{who} is a name here")
    return found


def read_text(field: str, path: str | Path, most: int) -> str:
    """A text file of at most so many bytes, as UTF-8, without its byte-order mark. Raises
    `ConfigError` naming `field`.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(most + 1)
    except (OSError, ValueError) as error:  # ValueError: a path with a zero byte
        why = getattr(error, "strerror", None) or error
        where = "" if os.path.isabs(path) else f" (looked in {Path.cwd()})"
        raise ConfigError(field, path, f"cannot be read: {why}{where}") from error
    if len(content) > most:  # or endless, as /dev/zero is
        raise ConfigError(field, path, f"is larger than {most >> 20} MiB")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        what = "a TOML file" if field == "config" else "text"
        raise ConfigError(field, path, f"is not {what}: {error}; save it as UTF-8") from error


def check_path(field: str, path: str | Path) -> None:
    """Refuses a path at which nothing can be: too long, with a zero byte, or by a broken link."""
    try:
        for part in (Path(path), *Path(path).parents):
            if part.is_symlink() and not part.exists():
                raise ConfigError(field, path, f"{part} is a link to nowhere; remove the link")
            if len(os.fsencode(part.name)) > 255:
                raise ConfigError(field, path, "has a name of more than 255 bytes; shorten it")
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    except ConfigError:
        raise
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigError(field, path, f"can be no file or folder: {why}") from error
