"""The verb `restore`: image files of any size, depth and kind through a released or trained network."""

import functools
import time
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

import nystra
from datamodules.errors import DataError
from datamodules.images import IMAGE_SUFFIXES, list_images, read_image, to_array, to_tensor, write_image
from trainers.networks import in_unit_range, load_network, takes
from trainers.tiling import TilePlan, plan_tiles, restore_bands

# A restored image is not compressed with losses again.
_KEPT_SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".webp")


@dataclass(frozen=True)
class RestoredImage:
    """What became of one image.

    Attributes:
        source: the image.
        target: its restored version.
        height: of the source, in pixels.
        width: of the source, in pixels.
        num_tiles: tiles that were restored one after the other.
        tile_size: height and width of each, in pixels.
        host_bytes: bound on the memory held beside the network's own: image, band being blended, result, and three
            copies of the result that its encoder makes.
        seconds: from reading the source to having written the target.
    """

    source: Path
    target: Path
    height: int
    width: int
    num_tiles: int
    tile_size: tuple[int, int]
    host_bytes: int
    seconds: float


@dataclass(frozen=True)
class _Options:
    tile: int | None
    overlap: int
    autocast: torch.dtype | None
    self_ensemble: bool


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
    targets = _plan_targets(images, output, suffix)
    waiting = {source: target for source, target in targets.items() if overwrite or not target.exists()}
    restored: list[RestoredImage] = []
    failures: list[str] = []
    if waiting:
        chosen = _choose_device(device)
        net = load_network(pretrained, **({} if window_size is None else {"window_size": window_size})).to(chosen)
        if kernel is not None:
            nystra.substitute(net, kernel)
        options = _Options(tile, overlap, torch.bfloat16 if precision == "bf16" else None, self_ensemble)
        with _progress_bars(len(waiting)) as (image_done, tile_done):
            for source, target in waiting.items():
                try:
                    with _out_of_memory_explained(source, tile, chosen):
                        restored.append(_restore_file(net, source, target, options, tile_done))
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


def _plan_targets(images: list[Path], output: Path, suffix: str) -> dict[Path, Path]:
    """Find the images and name their results, before anything is read or loaded."""
    if output.exists() and not output.is_dir():
        raise DataError(f"output ({output}) must be a folder, got a file; give a folder for the results")
    targets: dict[Path, Path] = {}
    for path in images:
        if path.is_dir():
            sources = [(source, source.relative_to(path)) for source in _search(path)]
        elif path.exists():
            sources = [(path, Path(path.name))]
        else:
            raise DataError(f"images ({path}) must be an existing image or folder, got nothing there; check the path")
        for source, relative in sources:
            extension = relative.suffix if relative.suffix.lower() in _KEPT_SUFFIXES else ".png"
            targets[source] = output / relative.with_name(f"{relative.stem}{suffix}{extension}")

    owners: dict[Path, Path] = {}
    for source, target in targets.items():
        if target.resolve() == source.resolve():
            raise DataError(f"output ({output}) must not replace the image {source}; give another folder or a suffix")
        owner = owners.setdefault(target.resolve(), source)
        if owner.resolve() != source.resolve():
            raise DataError(
                f"images ({owner} and {source}) must have distinct results, got {target} twice; "
                "restore them into different folders"
            )
    # Results of a former run lie below the searched folder when `output` does: they are no images to restore.
    return {source: target for source, target in targets.items() if source.resolve() not in owners}


def _search(folder: Path) -> list[Path]:
    found = [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in IMAGE_SUFFIXES
        and not path.is_dir()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    return found or list_images(folder, "images")  # which says what is there instead


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


def input_channels(net: nn.Module) -> int:
    """Channels of the images that a network takes, 1 or 3.

    Raises:
        ValueError: if it takes something else than images.
    """
    taken = next((module.in_channels for module in net.modules() if isinstance(module, nn.Conv2d)), 0)
    if taken not in (1, 3):
        raise ValueError(
            f"pretrained must restore images of 1 or 3 channels, got a network that takes {taken}; "
            "evaluate it with its own data module: lowrank test"
        )
    return taken


class _Colours(nn.Module):
    """A network between its own channels and the image's.

    Args:
        net: network from one or three channels to as many.
        channels: of the image, 1 or 3.

    Raises:
        ValueError: if the network takes neither one nor three channels.
    """

    def __init__(self, net: nn.Module, channels: int) -> None:
        super().__init__()
        self.net = net
        self.channels = channels
        self.taken = input_channels(net)

    def forward(self, image: Tensor) -> Tensor:
        """Restore a tile, shape (1, channels, h, w), into as many channels."""
        if self.channels < self.taken:
            result = in_unit_range(self.net, image.expand(-1, self.taken, -1, -1)).mean(1, keepdim=True)
        elif self.channels > self.taken:
            result = in_unit_range(self.net, image.transpose(0, 1)).transpose(0, 1)
        else:
            result = in_unit_range(self.net, image)
        if result.shape[1] != self.channels:
            raise ValueError(
                f"pretrained must give as many channels as it takes ({self.taken}), got {result.shape[1]}; "
                "evaluate it with its own data module: lowrank test"
            )
        return result


def _restore_file(
    net: nn.Module, source: Path, target: Path, options: _Options, tile_done: Callable[[int, int], None]
) -> RestoredImage:
    started = time.perf_counter()
    array = read_image(source)
    height, width, channels = array.shape
    colours = array[..., :3]
    plan = plan_tiles(
        height,
        width,
        tile=options.tile,
        overlap=options.overlap,
        size_multiple=getattr(net, "size_multiple", 1),
        scale=getattr(net, "scale", 1),
        taken=functools.partial(takes, net),
    )

    def read(rows: Tensor, columns: Tensor) -> Tensor:
        return to_tensor(colours[rows.numpy()[:, None], columns.numpy()])[None]

    result = np.empty((plan.height, plan.width, channels), array.dtype)
    if channels == 4:
        result[..., 3:] = _resize(array[..., 3:], plan)
    top = 0
    for band in restore_bands(
        _Colours(net, colours.shape[2]),
        read,
        plan,
        self_ensemble=options.self_ensemble,
        autocast=options.autocast,
        progress=tile_done,
    ):
        if not band.isfinite().all():
            remedy = "choose another checkpoint" if options.autocast is None else "try --precision float32"
            raise DataError(f"image {source} must have a finite result, got NaN or Inf; {remedy}")
        bottom = top + band.shape[-2]
        result[top:bottom, :, :3] = to_array(band[0], array.dtype)
        top = bottom
    _write(target, result)
    return RestoredImage(
        source=source,
        target=target,
        height=height,
        width=width,
        num_tiles=plan.num_tiles,
        tile_size=plan.tile_size,
        host_bytes=array.nbytes + 4 * result.nbytes + 4 * colours.shape[2] * plan.band_pixels,
        seconds=time.perf_counter() - started,
    )


def _resize(alpha: NDArray, plan: TilePlan) -> NDArray:
    if plan.scale == 1:
        return alpha
    larger = F.interpolate(to_tensor(alpha)[None], (plan.height, plan.width), mode="bicubic", align_corners=False)
    return to_array(larger[0], alpha.dtype)


def _write(target: Path, array: NDArray) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_image(target, array)
    except OSError as error:
        # Not a DataError: every other image would fail alike, after the work on it.
        raise ValueError(
            f"output ({target}) must be writable, got: {error.strerror}; free space or give another folder"
        ) from error
    except ValueError as error:
        raise DataError(str(error)) from error


@contextmanager
def _out_of_memory_explained(source: Path, tile: int | None, device: torch.device) -> Iterator[None]:
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        text = str(error).lower()
        if not isinstance(error, MemoryError) and "out of memory" not in text and "allocate memory" not in text:
            raise
        smaller = 512 if tile is None else max(tile // 2, 1)
        raise ValueError(
            f"tile ({'the whole image' if tile is None else tile}) must be smaller: memory of {device} ran out on "
            f"{source}; give --tile {smaller}, or --precision bf16"
        ) from error


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
