"""An extension of griffe, which reads the packages for mkdocstrings: it links the errors that a function raises.

Griffe looks for a name in the module of the function, but an error is often raised by a function of another module.
"""

from typing import Any

import griffe

from docs.site.api_pages import find_errors
from stale_runtime import errors


class RaisedErrors(griffe.Extension):
    """Makes every error of this project known in each of its modules."""

    def on_module(self, *, mod: griffe.Module, **_: Any) -> None:
        """Add the errors that a module does not import."""
        for name in find_errors():
            if name not in mod.members:
                mod.set_member(name, griffe.Alias(name, f"{errors.__name__}.{name}", parent=mod))
