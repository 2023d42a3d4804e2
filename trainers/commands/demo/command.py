"""The verb `demo`: what the package does, shown without a download, part by part, with one summary."""

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.console import Console, RenderableType

from datamodules.files.atomic import atomic_file
from trainers.commands.demo.finetuning import run_finetune_demo
from trainers.commands.demo.learned import run_learned_demo
from trainers.commands.demo.spectral import run_spectral_demo
from trainers.commands.demo.substitution import run_substitution_demo

PARTS: dict[str, Callable[..., RenderableType]] = {
    "learned": run_learned_demo,
    "spectral": run_spectral_demo,
    "substitution": run_substitution_demo,
    "finetune": run_finetune_demo,
}
"""Name → function of the part's folder and `steps`, which returns its part of the summary."""


def run_demo(parts: Sequence[str] = (), *, output: Path = Path("logs/demo"), steps: int | None = None) -> None:
    """Train small networks on bundled photographs and show what they do, part by part.

    Args:
        parts: learned (GLMHA beside its full-attention twin), spectral (the same two, spectra from RGB), substitution
            (a trained window-attention net under other kernels), finetune (that net under a costly kernel, before and
            after fine-tuning); none: all. They run in this order.
        output: folder; every part has its own in it, and `summary.txt` is of the parts that were run.
        steps: training steps of each network, >= 1; null: as many as the part needs to show something.

    Raises:
        ValueError: if `steps` is below 1 or a part is unknown.
    """
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        raise ValueError(f"parts ({', '.join(unknown)}) must be of {', '.join(PARTS)}")
    chosen = [part for part in PARTS if not parts or part in parts]
    options = {} if steps is None else {"steps": steps}
    console, record = Console(), Console(record=True, file=io.StringIO())
    summaries: dict[str, RenderableType] = {}
    for part in chosen:
        summaries[part] = PARTS[part](output / part, **options)
        show(record, {part: summaries[part]})
        # After every part: a later one may be interrupted.
        with atomic_file(output / "summary.txt") as file:
            file.write(record.export_text(clear=False).encode())
    show(console, summaries)
    console.print(f"this summary: {output / 'summary.txt'}\ntraining curves and images: tensorboard --logdir {output}")


def show(console: Console, summaries: Mapping[str, RenderableType]) -> None:
    """Print parts of the summary, each under its name."""
    for part, summary in summaries.items():
        console.rule(part)
        console.print(summary, highlight=False)
