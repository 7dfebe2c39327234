"""Playing a game to the end.

The verb and the room share a name: `sparring.train("dcgan")` is `sparring.api.train`. Python lets a package shadow a
function of its parent as soon as anything in it is imported, so the package itself can be called.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any


class _Verb(ModuleType):
    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """See `sparring.api.train`."""
        # By name, not by an import statement: nothing in this room leans on the floor above.
        return importlib.import_module("sparring.api").train(*arguments, **options)


sys.modules[__name__].__class__ = _Verb
