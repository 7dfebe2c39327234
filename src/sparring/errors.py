"""What a user can cause and mend. Everything else that is raised is a defect of ours."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """One line that says what is wrong and what to do. The command line prints it and exits with 2."""


class Interrupted(Exception):  # noqa: N818  (an event, not an error: the state was saved)
    """The user or the system asked a training to stop; it saved its state first. Exit code 130."""


def nearest(word: str, known: Iterable[str]) -> str:
    """`' (did you mean …?)'` for the known word nearest to `word`, or an empty string where none is near."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


def missing_extra(package: str, extra: str, purpose: str) -> UserError:
    """The error for an optional library that is not installed."""
    return UserError(
        f"{purpose} needs the package {package!r}, which is not installed: pip install 'sparring[{extra}]'"
    )
