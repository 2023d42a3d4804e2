"""The verb `demo`: the package at work without a download, part by part, each with its table when it ends."""

import io
import shlex
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console, RenderableType

from datamodules.files.atomic import atomic_file
from trainers.commands.demo.finetuning import run_finetune_demo
from trainers.commands.demo.learned import run_learned_demo
from trainers.commands.demo.spectral import run_spectral_demo
from trainers.commands.demo.substitution import run_substitution_demo
from trainers.commands.demo.video import run_video_demo
from trainers.monitoring.remaining import duration

PARTS: dict[str, Callable[..., RenderableType]] = {
    "learned": run_learned_demo,
    "spectral": run_spectral_demo,
    "substitution": run_substitution_demo,
    "finetune": run_finetune_demo,
    "video": run_video_demo,
}
"""Name → function of the part's folder and `steps`, which returns its part of the summary."""


def run_demo(parts: Sequence[str] = (), *, output: Path = Path("logs/demo"), steps: int | None = None) -> None:
    """Train small networks on bundled photographs and print a table of each part's results when it ends.

    Args:
        parts: learned (GLMHA beside its full-attention twin), spectral (the same two, spectra from RGB), substitution
            (a trained window-attention net under other kernels), finetune (that net under a costly kernel, before and
            after fine-tuning), video (a recurrent net of clips, in larger windows); none: all. They run in this order.
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
    # Brackets in names of folders are no markup.
    console = Console(markup=False, emoji=False)
    record = Console(markup=False, emoji=False, record=True, file=io.StringIO())
    began = time.monotonic()
    for number, part in enumerate(chosen, start=1):
        console.rule(f"part {number} of {len(chosen)}: {part}")
        part_began = time.monotonic()
        summary = PARTS[part](output / part, **options)
        for target in (console, record):
            target.rule(part)
            target.print(summary, highlight=False)
        console.print(f"part {number} of {len(chosen)}, {part}, took {duration(time.monotonic() - part_began)}")
        # Written after every part, because a later one may be interrupted.
        with atomic_file(output / "summary.txt") as file:
            file.write(record.export_text(clear=False).encode())
    console.rule()
    console.print(
        f"the demonstration took {duration(time.monotonic() - began)}\nall tables: {output / 'summary.txt'}\n"
        f"training curves and images: {shlex.join(['tensorboard', '--logdir', str(output)])}",
        soft_wrap=True,
    )
