"""Words in, exit status out."""

from typing import TYPE_CHECKING, Any

from trainers.cli.main import main

if TYPE_CHECKING:
    from trainers.recipes.lightning_cli import fit

__all__ = ["fit", "main"]


def __getattr__(name: str) -> Any:
    # Lightning is imported for a training only, not for every verb.
    if name == "fit":
        from trainers.recipes.lightning_cli import fit

        return fit
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
