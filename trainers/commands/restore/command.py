"""The verb `restore`: image files of any size, depth and kind through a released or trained network."""

from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

import nystra
from datamodules.errors import DataError
from trainers.commands.restore.image_file import RestoredImage, out_of_memory_explained, restore_file
from trainers.commands.restore.targets import name_targets
from trainers.networks import load_network
from trainers.tiling.arrays import RestoreOptions


def restore_images(
    images: list[Path],
    *,
    pretrained: Path,
    output: Path,
    tile: int | None = 512,
    overlap: int = 48,
    device: str = "auto",
    precision: Literal["float32", "bf16"] = "float32",
    self_ensemble: bool = False,
    kernel: nystra.Kernel | None = None,
    window_size: int | None = None,
    suffix: str = "",
    overwrite: bool = False,
) -> list[RestoredImage]:
    """Restore images and folders of images with a pretrained network, in tiles, into another folder.

    Size and bit depth (8, 16 or float) are kept, so are grey, colour and alpha, and the structure of a folder below it.
    Alpha is copied (resized if the network enlarges). A grey image goes through a colour network as three equal
    channels, whose mean is taken; a colour image through a grey network channel by channel. JPEG becomes PNG.
    The network never sees more than a tile; the image itself is never on the device.

    Args:
        images: image files, and folders that are searched with their sub-folders.
        pretrained: checkpoint, as released or as trained here.
        output: folder for the results; made if it is missing.
        tile: largest side in pixels of what the network sees at once; less needs less memory. null: the whole image.
        overlap: pixels that neighbouring tiles share at least; they are blended there.
        device: auto (CUDA, else MPS, else CPU), cpu, cuda, cuda:1, …
        precision: float32, or bf16: faster and smaller, with autocast.
        self_ensemble: average over the eight flips and quarter turns; a little better, eight times slower.
        kernel: what replaces softmax in a window-attention network, such as LandmarkPooling or Nystrom; null: nothing.
        window_size: side of the windows that such a network attends in; null: as the checkpoint records, else as
            trained.
        suffix: put between the name and the extension of each result.
        overwrite: replace results that exist; otherwise they are kept and their images passed over.

    Returns:
        One entry per image restored in this run.

    Raises:
        DataError: if a path is missing or two results would have one name (nothing is restored then), or, after
            all others were restored, if some images could not be read or restored.
        ValueError: if the checkpoint, its channels, the device, the kernel or the tiles do not fit, or memory ran out.
    """
    targets = name_targets(images, output, suffix)
    waiting = {source: target for source, target in targets.items() if overwrite or not target.exists()}
    restored: list[RestoredImage] = []
    failures: list[str] = []
    if waiting:
        chosen = _choose_device(device)
        net = load_network(pretrained, **({} if window_size is None else {"window_size": window_size})).to(chosen)
        if kernel is not None:
            nystra.substitute(net, kernel)
        options = RestoreOptions(tile, overlap, torch.bfloat16 if precision == "bf16" else None, self_ensemble)
        with _progress_bars(len(waiting)) as (image_done, tile_done):
            for source, target in waiting.items():
                try:
                    with out_of_memory_explained(source, tile, chosen):
                        restored.append(restore_file(net, source, target, options, tile_done))
                except DataError as error:
                    failures.append(str(error))
                image_done()
    _print_table(targets, restored, skipped=targets.keys() - waiting.keys())
    if failures:
        raise DataError(
            f"images ({len(failures)} of {len(waiting)}) could not be restored"
            + (", the others were:\n" if len(failures) < len(waiting) else ":\n")
            + "\n".join(failures)
        )
    return restored


def _choose_device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"device ({name}) must be available on this machine, got: {reason}; use auto or cpu"
        ) from error
    return device


@contextmanager
def _progress_bars(num_images: int) -> Iterator[tuple[Callable[[], None], Callable[[int, int], None]]]:
    """Show one bar of images and one of the current image's tiles; give the functions that advance them."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        images = progress.add_task("images", total=num_images)
        tiles = progress.add_task("tiles", total=None)
        yield (
            lambda: progress.advance(images),
            lambda done, total: progress.update(tiles, completed=done, total=total),
        )


def _print_table(targets: dict[Path, Path], restored: list[RestoredImage], skipped: Set[Path]) -> None:
    table = Table("image", "size", "seconds", "tiles", "result")
    done = {image.source: image for image in restored}
    for source, target in targets.items():
        if source in done:
            image = done[source]
            size = f"{image.width}×{image.height}"
            table.add_row(str(source), size, f"{image.seconds:.1f}", str(image.num_tiles), str(target))
        elif source in skipped:
            table.add_row(str(source), "", "", "", f"{target} exists and was kept (--overwrite true replaces it)")
        else:
            table.add_row(str(source), "", "", "", "failed")
    for column in table.columns:
        column.overflow = "fold"
    # Names of files may hold square brackets, which are no markup.
    console = Console(markup=False, highlight=False, emoji=False)
    console.print(table)
    if restored:
        height, width = (max(sides) for sides in zip(*(image.tile_size for image in restored), strict=True))
        host = max(image.host_bytes for image in restored)
        console.print(
            f"Memory: at most {host / 2**20:.1f} MiB for image, blended band and result with its encoding, "
            f"plus what the network needs for {width}×{height} pixels."
        )
