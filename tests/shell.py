"""The command line inside this process: what it prints and how it ends. A defect's exception comes through."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from dataclasses import dataclass
from typing import Any
from unittest import mock

from sparring import cli

# Networks and batches so small that a training of a few steps is mostly its start.
TINY = {
    "model.generator.width": 4,
    "model.discriminator.width": 4,
    "train.batch_size": 8,
    "train.sample_count": 10,
    "data.limit": 60,
}


@dataclass
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one JSON object on standard output; fails on anything beside it, and on NaN, which is not JSON."""

        def refuse(word: str) -> None:
            raise AssertionError(f"{word} is not JSON")

        assert self.code == 0, self.err
        assert self.out.count("\n") == 1, self.out
        value = json.loads(self.out, parse_constant=refuse)
        assert isinstance(value, dict)
        return value

    @property
    def error(self) -> str:
        """The one line that tells the user what to mend; fails where there is more, or something on standard output."""
        assert self.code == 2, (self.code, self.err)
        assert self.out == ""
        (line,) = self.err.splitlines()
        assert line.startswith("error: ")
        return line


def sparring(*words: object) -> Ended:
    """Run `sparring WORDS…` in this process."""
    out, err = io.StringIO(), io.StringIO()
    code: Any = 0
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch.object(sys, "argv", ["sparring", *map(str, words)]),
    ):
        try:
            cli.main()
        except SystemExit as end:
            code = end.code
    return Ended(code, out.getvalue(), err.getvalue())


def sets(keys: dict[str, Any]) -> list[str]:
    """`--set KEY=VALUE` for each key."""
    return [word for key, value in keys.items() for word in ("--set", f"{key}={value}")]
