"""Clips of the verb `restore`: found, restored one after another, told of in a table."""

from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from datamodules.errors import DataError
from trainers.commands.restore.clip_file import ClipOptions, RestoredClip, restore_clip_file
from trainers.commands.restore.clip_targets import check_clip_name
from trainers.commands.restore.image_file import out_of_memory_explained
from trainers.commands.restore.targets import require_all
from trainers.errors import printable

_MIB = 2**20


def restore_clips(
    net: nn.Module,
    targets: dict[Path, Path],
    options: ClipOptions,
    device: torch.device,
    *,
    overwrite: bool,
    clip_done: Callable[[], None],
    tile_done: Callable[[int, int], None],
) -> list[RestoredClip]:
    """Restore clips one after another; those that have a result are passed over.

    Args:
        net: on its device, in eval mode.
        targets: the result of each clip.
        options: how they are restored.
        device: of the network, for messages.
        overwrite: replace results that exist.
        clip_done: called after each clip.
        tile_done: called after each tile with the numbers of finished and of all tiles of the clip.

    Returns:
        The clips restored in this run.

    Raises:
        DataError: after all others were restored, if some could not be.
        ValueError: if the network does not fit, or nothing can be written any more.
    """
    restored: dict[Path, RestoredClip] = {}
    kept: list[Path] = []
    failures: dict[Path, str] = {}
    try:
        for source, target in targets.items():
            try:
                if check_clip_name(target) and not overwrite:
                    kept.append(source)
                    continue
                with out_of_memory_explained(source, options.space.tile, device):
                    restored[source] = restore_clip_file(net, source, target, options, tile_done)
            except DataError as error:
                failures[source] = str(error)
            clip_done()
    finally:
        _print_table(targets, restored, kept, failures)
    require_all("clips", list(failures.values()), len(failures), len(targets) - len(kept))
    return list(restored.values())


def _print_table(
    targets: dict[Path, Path], restored: dict[Path, RestoredClip], kept: list[Path], failures: dict[Path, str]
) -> None:
    table = Table("clip", "size", "frames", "seconds", "tiles", "result")
    for source, target in targets.items():
        name, result = printable(str(source)), printable(str(target))
        if source in restored:
            clip = restored[source]
            frames = f"{clip.frames}, {clip.kept} of a former run" if clip.kept else str(clip.frames)
            size = f"{clip.width}×{clip.height}"
            table.add_row(name, size, frames, f"{clip.seconds:.1f}", str(clip.num_tiles), result)
        elif source in kept:
            table.add_row(name, "", "", "", "", f"{result} exists and was kept (--overwrite true replaces it)")
        else:
            table.add_row(name, "", "", "", "", "failed" if source in failures else "not restored")
    for column in table.columns:
        column.overflow = "fold"
    # Names of files may hold square brackets, which are no markup.
    console = Console(markup=False, highlight=False, emoji=False)
    console.print(table)
    if restored:
        frames, height, width = (
            max(sides) for sides in zip(*(clip.tile_size for clip in restored.values()), strict=True)
        )
        host = max(clip.host_bytes for clip in restored.values())
        console.print(
            f"Memory: at most {host / _MIB:.1f} MiB for the frames of a tile, as read and as restored, plus what the "
            f"network needs for {frames} frames of {width}×{height} pixels."
        )
