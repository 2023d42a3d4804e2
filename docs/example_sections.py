"""Docstring sections called "Example" are shown as code, as griffe does with "Examples"."""

import re
from typing import Any

import griffe


class ExampleSections(griffe.Extension):
    """Names the section in the plural, the only form that griffe's parser of Google's style knows."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rename the section of a loaded docstring."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
