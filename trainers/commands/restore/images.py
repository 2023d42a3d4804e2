"""Images of the verb `restore`: restored one after another, told of in a table or, by many processes, in one line."""

from collections.abc import Callable
from itertools import chain, islice
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from datamodules.errors import DataError
from trainers.commands.restore.image_file import FileOptions, RestoredImage, out_of_memory_explained, restore_file
from trainers.commands.restore.shares import Share, Tally, begin, summarise
from trainers.commands.restore.targets import MOST_LISTED, ImageTargets, check_name, identity, require_all
from trainers.errors import printable
from trainers.tiling.arrays import RestoreOptions

Row = tuple[str, str, str, str, str]


def restore_each(
    net: nn.Module,
    targets: ImageTargets,
    options: RestoreOptions,
    files: FileOptions,
    device: torch.device,
    *,
    output: Path,
    share: Share,
    overwrite: bool,
    image_done: Callable[[], None],
    tile_done: Callable[[int, int], None],
) -> list[RestoredImage]:
    """Restore images one after another; those that have a result are passed over.

    Args:
        net: on its device, in eval mode.
        targets: images with their results.
        options: how they are restored.
        files: how results are written.
        device: of the network, for messages.
        output: folder of the results.
        share: of this process, which `targets` have been chosen by.
        overwrite: replace results that exist.
        image_done: called after each image.
        tile_done: called after each tile with the numbers of finished and of all tiles of the image.

    Returns:
        The first `MOST_LISTED` images restored in this run.

    Raises:
        DataError: after all others were restored, if some could not be.
        ValueError: if the network does not fit, or nothing can be written any more.
    """
    begin(output, share)
    tally = Tally()
    restored: list[RestoredImage] = []
    rows: list[Row] = []
    written: set[object] = set()
    remaining = iter(targets)
    current: tuple[Path, Path] | None = None
    finished = False
    try:
        for source, target in remaining:
            current = source, target
            alike = targets.shares_name(target)
            try:
                if alike and identity(target) in written:
                    raise DataError(f"result ({target}) must not replace another one's; the file system knows no case")
                if check_name(target) and not overwrite:
                    tally.kept += 1
                    row = _row(source, f"{printable(str(target))} exists and was kept (--overwrite true replaces it)")
                else:
                    with out_of_memory_explained(source, options.tile, device):
                        image = restore_file(net, source, target, options, files, tile_done)
                    if alike:
                        written.add(identity(target))
                    tally.restored += 1
                    restored += [image] if len(restored) < MOST_LISTED else []
                    row = _restored_row(image)
            except DataError as error:
                tally.failed += 1
                tally.messages += [str(error)] if len(tally.messages) < MOST_LISTED else []
                row = _row(source, "failed")
            rows += [row] if len(rows) < MOST_LISTED else []
            current = None
            image_done()
        finished = True
    finally:
        left = chain([] if current is None else [current], remaining)
        rows += [_row(source, "not restored") for source, _ in islice(left, MOST_LISTED - len(rows))]
        if share.count == 1:
            _tell(rows, restored, tally, total=len(targets))
        elif finished and (whole := summarise(output, share, tally)) is not None:
            _console().print(f"images: {whole.told()}, by {share.count} processes")
    require_all("images", tally.messages, tally.failed, tally.restored + tally.failed)
    return restored


def _row(source: Path, result: str) -> Row:
    return printable(str(source)), "", "", "", result


def _restored_row(image: RestoredImage) -> Row:
    size = f"{image.width}×{image.height}"
    source, target = (printable(str(path)) for path in (image.source, image.target))
    return source, size, f"{image.seconds:.1f}", str(image.num_tiles), target


def _console() -> Console:
    # Names of files may hold square brackets, which are no markup.
    return Console(markup=False, highlight=False, emoji=False)


def _tell(rows: list[Row], restored: list[RestoredImage], tally: Tally, *, total: int) -> None:
    console = _console()
    table = Table("image", "size", "seconds", "tiles", "result")
    for row in rows:
        table.add_row(*row)
    for column in table.columns:
        column.overflow = "fold"
    console.print(table)
    if total > MOST_LISTED:
        console.print(f"images: {tally.told()}; the first {MOST_LISTED} are listed")
    for image in restored:
        if image.lost:
            names = printable(f"{image.target} does not hold what {image.source} does")
            console.print(f"{names}: {', '.join(image.lost)}")
    if restored:
        height, width = (max(sides) for sides in zip(*(image.tile_size for image in restored), strict=True))
        host = max(image.host_bytes for image in restored)
        console.print(
            f"Memory: at most {host / 2**20:.1f} MiB for image, blended band and result with its encoding, "
            f"plus what the network needs for {width}×{height} pixels."
        )
