"""One clip restored into a film or a folder of frames: in bounded memory, and gone on with after a stop."""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from datamodules.clips.film_writer import FilmOptions, choose_encoder, write_film
from datamodules.clips.films import Film, is_film
from datamodules.clips.frames import Clip, FrameFolder, open_clip, read_frames
from datamodules.errors import DataError
from datamodules.files.atomic import atomic_file
from datamodules.files.images import list_images, read_image, to_array, to_tensor
from datamodules.files.metadata import Metadata
from trainers.commands.restore.image_file import write_result
from trainers.tiling.arrays import RestoreOptions
from trainers.tiling.clips import ClipLayout, ClipTiles, lay_out_clip, restore_frames

_SETTINGS = "settings.json"


@dataclass(frozen=True)
class RestoredClip:
    """The result of one restored clip.

    Attributes:
        source: the clip.
        target: its restored version, a film or a folder of frames.
        frames: of the clip.
        kept: of those, restored by former runs that were stopped.
        height: of the source's frames, in pixels.
        width: of the source's frames, in pixels.
        num_tiles: tiles of the whole clip.
        tile_size: frames, height and width of each.
        host_bytes: bound on the memory held beside the network's own.
        seconds: of this run.
    """

    source: Path
    target: Path
    frames: int
    kept: int
    height: int
    width: int
    num_tiles: int
    tile_size: tuple[int, int, int]
    host_bytes: int
    seconds: float


@dataclass(frozen=True)
class ClipOptions:
    """How clips are restored.

    Attributes:
        space: tiles of frames, and precision.
        tiles: tiles in time.
        film: how films are written.
        noise_level: σ in grey levels of 255, given to the network as one more channel; None: it takes none.
        network: what tells the network, its weights and kernels from others, for runs that go on.
    """

    space: RestoreOptions
    tiles: ClipTiles
    film: FilmOptions
    noise_level: float | None
    network: dict[str, Any]


def restore_clip_file(
    net: nn.Module, source: Path, target: Path, options: ClipOptions, tile_done: Callable[[int, int], None]
) -> RestoredClip:
    """Restore one clip into another.

    Finished frames lie as PNG in a hidden folder beside the result, which becomes the result or is made a film when all
    of them are there. A run that is stopped leaves it, and the same command goes on from the first frame that it lacks;
    a command with other options begins anew.

    Raises:
        DataError: if the clip cannot be read or restored, or its result not be written as asked for.
        ValueError: if the network does not fit.
    """
    started = time.perf_counter()
    clip = open_clip(source, "images")
    like = clip if isinstance(clip, Film) else None
    if is_film(target):
        # Before the network runs: afterwards its work would be lost.
        choose_encoder(target, like, options.film)
    height, width, channels = next(iter(clip.frames(0, 1))).shape
    space = options.space
    layout = lay_out_clip(net, len(clip), height, width, tile=space.tile, overlap=space.overlap, tiles=options.tiles)
    names = [file.stem for file in clip.files] if isinstance(clip, FrameFolder) else _numbered(len(clip))
    unfinished = target.with_name(f".{target.name}.unfinished")
    first = _finished(unfinished, names, _settings(source, clip, options))
    if first < len(clip):
        reader = _Reader(clip, options.noise_level, grey=channels == 1)
        number = first
        # The first number that a progress bar is told is not taken for speed.
        tile_done(sum(time.stop <= first for time in layout.times) * layout.space.num_tiles, layout.num_tiles)
        for part in restore_frames(
            net,
            reader,
            layout,
            first=first,
            self_ensemble=space.self_ensemble,
            autocast=space.autocast,
            progress=tile_done,
        ):
            for frame in part:
                if not frame.isfinite().all():
                    raise DataError(
                        f"clip {source} must have a finite result, got NaN or Inf in frame {number}; choose another "
                        "checkpoint, or --precision float32"
                    )
                result = frame.mean(0, keepdim=True) if reader.grey else frame
                write_result(unfinished / f"{names[number]}.png", to_array(result, reader.dtype), None, Metadata())
                number += 1
    _put_together(unfinished, names, target, like, options.film)
    return RestoredClip(
        source=source,
        target=target,
        frames=len(clip),
        kept=first,
        height=height,
        width=width,
        num_tiles=layout.num_tiles,
        tile_size=(layout.padded, *layout.space.tile_size),
        host_bytes=host_bytes(layout, height, width),
        seconds=time.perf_counter() - started,
    )


def host_bytes(layout: ClipLayout, height: int, width: int) -> int:
    """Bound on the memory that a clip's frames take beside the network: inputs and results of a tile in time.

    Both are float32; inputs come with their 8- or 16-bit pixels, results with the frames that are carried to the next
    tile, the band that is blended, and the frame that is written, with three copies that its encoder makes.
    """
    frames, space = layout.padded, layout.space
    inputs = frames * height * width * (4 * 4 + 2 * 3)
    carried = max((before.stop - after.start for before, after in pairwise(layout.times)), default=0)
    results = 3 * 4 * ((frames + carried) * space.height * space.width + frames * space.band_pixels)
    return inputs + results + 4 * 2 * 3 * space.height * space.width


class _Reader:
    """Reads frames of a clip for a network.

    Attributes:
        dtype: of the frames.
        grey: whether they are grey, and repeated for the network's colours.
    """

    def __init__(self, clip: Clip, noise_level: float | None, *, grey: bool) -> None:
        self.clip = clip
        self.noise_level = noise_level
        self.grey = grey
        self.dtype: np.dtype = np.dtype(np.uint8)

    def __call__(self, start: int, stop: int) -> Tensor:
        """Read frames from `start` to before `stop`, shape (T, C, H, W)."""
        frames = read_frames(self.clip, start, stop)
        self.dtype = np.dtype(np.uint16) if frames.dtype != np.uint8 else frames.dtype
        tensor = torch.stack([to_tensor(frame) for frame in frames])
        if self.noise_level is None:
            return tensor
        return torch.cat([tensor, torch.full_like(tensor[:, :1], self.noise_level / 255)], 1)


def _numbered(count: int) -> list[str]:
    return [f"{number:08}" for number in range(count)]


def _settings(source: Path, clip: Clip, options: ClipOptions) -> dict[str, Any]:
    """Values in which two runs must agree for one to go on with what the other began."""
    files = clip.files if isinstance(clip, FrameFolder) else (source,)
    return {
        "source": str(source.resolve()),
        "frames": len(clip),
        "bytes": sum(file.stat().st_size for file in files if file.is_file()),
        "space": {**asdict(options.space), "autocast": str(options.space.autocast)},
        "tiles": asdict(options.tiles),
        "noise_level": options.noise_level,
        "network": options.network,
    }


def _finished(folder: Path, names: list[str], settings: dict[str, Any]) -> int:
    """Number of frames that a former run with the same settings has finished; others are removed."""
    file = folder / _SETTINGS
    try:
        former = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        former = None
    if former != json.loads(json.dumps(settings)):
        shutil.rmtree(folder, ignore_errors=True)
        with atomic_file(file) as output:
            output.write(json.dumps(settings, indent=1).encode())
    return next((number for number, name in enumerate(names) if not (folder / f"{name}.png").is_file()), len(names))


def _put_together(folder: Path, names: list[str], target: Path, like: Film | None, film: FilmOptions) -> None:
    files = [folder / f"{name}.png" for name in names]
    if is_film(target):
        write_film(target, map(_in_colour, files), like=like, options=film)
        shutil.rmtree(folder)
        return
    (folder / _SETTINGS).unlink(missing_ok=True)
    if target.is_dir():
        # Of a former run, to be replaced.
        for image in list_images(target) if any(target.iterdir()) else ():
            image.unlink()
        for file in files:
            file.replace(target / file.name)
        folder.rmdir()
    else:
        folder.rename(target)


def _in_colour(file: Path) -> NDArray:
    image = read_image(file)
    return image if image.shape[2] == 3 else np.repeat(image, 3, axis=2)
