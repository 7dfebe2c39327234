"""What a check finds: one record for each image and reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# In the order in which a report lists them: what breaks a training first, suggestions last.
KINDS = (
    "unreadable",
    "bomb",
    "no_partner",
    "class_numbers",
    "map_values",
    "mask_values",
    "partner_size",
    "leak",
    "blank",
    "exact_duplicate",
    "label_conflict",
    "near_duplicate",
    "label_issue",
    "outlier",
    "odd_size",
    "odd_mode",
)


@dataclass(frozen=True)
class Finding:
    """One thing about one image.

    kind: one of KINDS.
    name, index: the image, as its source names and numbers it; index −1: what is about no image or about a file that
        is left out.
    reason: one line for a person.
    remove: whether cleaning leaves the image out, with a copy in the quarantine; the others are for a person to judge.
    related: the name of the image that is kept instead, where there is one.
    suggestion: the label that fits better, where there is one.
    """

    kind: str
    name: str
    index: int
    reason: str
    remove: bool
    related: str | None = None
    suggestion: str | None = None

    @property
    def order(self) -> int:
        """Where a report lists it."""
        return KINDS.index(self.kind)

    def plain(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        return {
            "kind": self.kind,
            "name": self.name,
            "index": self.index,
            "reason": self.reason,
            "remove": self.remove,
            "related": self.related,
            "suggestion": self.suggestion,
        }
