"""Reports of checks of rows, columns and sequences: lists by kind of finding, each of which can be said in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

NAMED = 12  # of many names, those that a line has


def some_of(names: Sequence[str]) -> str:
    """The first names, and how many others there are."""
    others = f", and {len(names) - NAMED} others" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + others


@dataclass(frozen=True)
class ListedReport:
    """What was found in a source. A subclass has a list for each kind in `reasons`, of what it counts or names.

    summary: what there is at all, plain JSON values. reasons: kind → what is wrong, in the order of the report.
    removed: kinds that a cleaned copy leaves out.
    """

    source: str
    summary: dict[str, Any]

    reasons: ClassVar[Mapping[str, str]] = {}
    removed: ClassVar[frozenset[str]] = frozenset()

    def name_of(self, kind: str, each: Any) -> str:
        """What users call an entry of a list."""
        return str(each)

    def plain(self) -> dict[str, Any]:
        """A JSON-ready dict: the lists, how many each holds, and a finding for each in words."""
        lists = {kind: getattr(self, kind) for kind in self.reasons}
        counts = {kind: len(found) for kind, found in lists.items() if found}
        findings = [
            {"kind": kind, "name": self.name_of(kind, each), "reason": self.reasons[kind], "remove": kind in self.removed}
            for kind, found in lists.items()
            for each in found
        ]  # fmt: skip
        return {"source": self.source, "summary": self.summary, "counts": counts, "findings": findings, **lists}
