"""How a command ends: what went wrong is one line and an exit code."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from typing import NoReturn

import typer

from sparring.errors import Interrupted, UserError
from sparring.terminal import speaks, tell

# What the system refuses because of the path that the user gave, or for want of room.
MENDABLE = {
    errno.EACCES, errno.EPERM, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EROFS, errno.ENOSPC,
    errno.EDQUOT,
}  # fmt: skip


def obey(app: typer.Typer) -> None:
    """Obey the command line; what goes wrong becomes one line and an exit code."""
    # `module:Class` may lie beside the user. Last, so that nothing there can take a library's place.
    sys.path.append("")
    try:
        # Commands return nothing; what comes back is the exit code that Typer made of a Ctrl-C.
        if code := app(standalone_mode=False):
            _end("interrupted", code)
    except UserError as error:
        _end(f"error: {error}", 2)
    except Interrupted as interruption:
        _end(str(interruption), 130)
    except KeyboardInterrupt:
        _end("interrupted", 130)
    except BrokenPipeError:
        # Whoever read our output has gone (`sparring recipes | head`): nothing is left to say.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _end("", 141)
    except OSError as error:
        if error.errno not in MENDABLE:
            raise
        _end(f"error: {error.filename}: {error.strerror}", 2)
    except Exception as error:
        _usage_error(error)


def _usage_error(error: Exception) -> NoReturn:
    """Misuse of the command line is one line as well; anything else is a defect and shows its traceback."""
    if isinstance(error, typer.Exit):
        sys.exit(error.exit_code)
    if isinstance(error, typer.Abort):
        _end("interrupted", 130)
    show: Callable[[], str] | None = getattr(error, "format_message", None)
    if show is not None:
        text = " ".join(show().split())  # empty where a command without arguments has shown its help
        _end(f"error: {text}" if text else "", 2)
    raise error


def _end(message: str, code: int) -> NoReturn:
    if message and speaks():  # what is wrong for one process is so for its helpers
        tell(message)
    sys.stdout.flush()
    # Not sys.exit: a worker of a multi-process run must not wait here for processes that have already gone.
    sys.exit(code)
