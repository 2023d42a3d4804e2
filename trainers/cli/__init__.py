"""The command `lowrank`: arguments in, exit status out."""

from typing import TYPE_CHECKING, Any

from trainers.cli.main import main

if TYPE_CHECKING:
    from trainers.recipes.lightning_cli import fit

__all__ = ["fit", "main"]


def __getattr__(name: str) -> Any:
    # Imported on use: Lightning takes seconds.
    if name == "fit":
        from trainers.recipes.lightning_cli import fit

        return fit
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
