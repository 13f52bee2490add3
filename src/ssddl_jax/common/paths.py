"""Paths and text files that a user names: read, or refused in one line. Text is always UTF-8.

In a locale that is not UTF-8, Python represents the bytes of a file name that it cannot decode as
surrogates. `user_path` gives a path as the system expects it, `shown` as it is printed.
"""

import os
import stat
from pathlib import Path

from ssddl_jax.common.errors import ConfigError


def user_path(field: str, path: str | bytes | os.PathLike[str]) -> str:
    """The path that the user means, in this locale; expands `~`. Raises `ConfigError`."""
    text = os.fsdecode(path)
    if not text:
        raise ConfigError(field, "''", "is empty; name a file or a folder, or omit it")
    try:
        content = text.encode("utf-8", "surrogateescape")
        content.decode("utf-8")
    except UnicodeError:
        remedy = "is not UTF-8, so it could not be recorded; rename the file"
        raise ConfigError(field, text, remedy) from None
    found = os.path.expanduser(os.fsdecode(content))
    if found.startswith("~"):
        who = text.split(os.sep)[0]
        raise ConfigError(field, text, f"no user has the home folder {who}; for a file: ./{who}")
    return found


def read_text(field: str, path: str | Path, most: int) -> str:
    """The content of a UTF-8 file of at most `most` bytes, without its byte-order mark. It must be
    a regular file: inputs are read several times. Raises `ConfigError` naming `field`.
    """
    try:
        mode = os.stat(path).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            remedy = "is a pipe or a device, which cannot be read twice; save it as a file first"
            raise ConfigError(field, path, remedy)
        with Path(path).open("rb") as file:
            content = file.read(most + 1)
    except ConfigError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a path with a zero byte
        why = getattr(error, "strerror", None) or error
        where = "" if os.path.isabs(path) else f" (looked in {Path.cwd()})"
        raise ConfigError(field, path, f"cannot be read: {why}{where}") from error
    if len(content) > most:
        raise ConfigError(field, path, f"is larger than {most >> 20} MiB")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        what = "a TOML file" if field == "config" else "text"
        raise ConfigError(field, path, f"is not {what}: {error}; save it as UTF-8") from error


def check_path(field: str, path: str | Path) -> None:
    """Refuses a path that cannot exist: too long, with a zero byte, or through a broken link."""
    try:
        for part in (Path(path), *Path(path).parents):
            if part.is_symlink() and not part.exists():
                raise ConfigError(field, path, f"{part} is a broken link; remove it")
            if len(os.fsencode(part.name)) > 255:
                raise ConfigError(field, path, "has a name of more than 255 bytes; shorten it")
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    except ConfigError:
        raise
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigError(field, path, f"cannot be a file or folder: {why}") from error
