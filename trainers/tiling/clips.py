"""Clips of any length and size through a network, in tiles of time and space, with memory bounded by a tile."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from glmha.shared.image_network import image_rules
from trainers.tiling.layout import TileLayout, layout_of
from trainers.tiling.restoration import Progress, restore, restore_bands

FrameReader = Callable[[int, int], Tensor]
"""Gives the frames of a clip from one number to before another: shape (T, C, H, W), in [0, 1]."""


@dataclass(frozen=True)
class ClipTiles:
    """How clips are restored in time.

    Attributes:
        frames: most frames that the network sees at once; None: the whole clip.
        frame_overlap: frames that neighbouring tiles in time share at least; their results are averaged.
        mirror: give the network a clip and the same backwards behind it, and average both results of each frame, as
            networks for the seven frames of Vimeo-90K are trained and tested; whole clips only.

    Raises:
        ValueError: if a number is out of range, or `frames` is given with `mirror`.
    """

    frames: int | None = None
    frame_overlap: int = 2
    mirror: bool = False

    def __post_init__(self) -> None:
        if self.frame_overlap < 0:
            raise ValueError(f"frame_overlap ({self.frame_overlap}) must be at least 0; 2 is usual")
        if self.frames is not None and self.frames <= self.frame_overlap:
            raise ValueError(
                f"frames ({self.frames}) must be above frame_overlap ({self.frame_overlap}), which neighbours share"
            )
        if self.frames is not None and self.mirror:
            raise ValueError(f"frames ({self.frames}) must be null with mirror, which needs whole clips")


def lay_out_frames(count: int, frames: int | None, overlap: int, multiple: int) -> list[range]:
    """Lay tiles over a clip in time: from the first frame on at an even pitch, the last one up to the clip's end.

    Args:
        count: frames of the clip, at least 1.
        frames: most frames of a tile; lowered to a multiple of `multiple`. None: one tile.
        overlap: frames that neighbours share at least.
        multiple: what the network's number of frames must be a multiple of, at least 1.

    Returns:
        The frames of each tile. A single tile may need frames that the clip lacks to be a multiple.

    Raises:
        ValueError: if `frames` is too few.
    """
    if frames is None or count <= frames:
        return [range(count)]
    length = frames // multiple * multiple
    if length <= overlap:
        raise ValueError(
            f"frames ({frames}) must be at least {(overlap // multiple + 1) * multiple}, a multiple of {multiple} "
            f"above the frame_overlap ({overlap})"
        )
    starts = [*range(0, count - length, length - overlap), count - length]
    return [range(start, start + length) for start in starts]


@dataclass(frozen=True)
class ClipLayout:
    """The tiles of a clip: every pair of one in time and one in space.

    Attributes:
        times: frames of each tile in time.
        space: tiles of a frame.
        padded: frames that the network sees at once.
    """

    times: list[range]
    space: TileLayout
    padded: int

    @property
    def num_tiles(self) -> int:
        """How often the network is called (eight times as often with a self-ensemble)."""
        return len(self.times) * self.space.num_tiles


def lay_out_clip(
    net: nn.Module, count: int, height: int, width: int, *, tile: int | None, overlap: int, tiles: ClipTiles
) -> ClipLayout:
    """Lay tiles over a clip as a network demands; a network of images gets one frame at a time.

    Args:
        net: any network.
        count: frames of the clip.
        height: of its frames, in pixels.
        width: of its frames, in pixels.
        tile: largest side of a tile, in input pixels; None: whole frames.
        overlap: pixels that neighbours share at least.
        tiles: how the clip is restored in time.

    Raises:
        ValueError: if tiles and overlaps do not fit together.
    """
    space = layout_of(net, height, width, tile=tile, overlap=overlap)
    multiple = image_rules(net).frame_multiple
    if not multiple:
        return ClipLayout([range(number, number + 1) for number in range(count)], space, 1)
    times = lay_out_frames(count, tiles.frames, tiles.frame_overlap, multiple)
    return ClipLayout(times, space, -(-len(times[0]) // multiple) * multiple)


def restore_frames(
    net: nn.Module,
    read: FrameReader,
    layout: ClipLayout,
    *,
    first: int = 0,
    self_ensemble: bool = False,
    autocast: torch.dtype | None = None,
    progress: Progress | None = None,
) -> Iterator[Tensor]:
    """Yield the restored frames of a clip in their order, some at a time.

    Where tiles in time overlap, the mean of their results counts. A clip that is too short for the network's multiple
    is continued by its last frames in reverse. Memory, beside what the network needs for one tile: the frames of a tile
    in time, as input and as output in float32, and a band of their restored rows; nothing of the size of the clip.

    Args:
        net: in the mode in which it is to run, (B, T, C, h, w) → (B, T, C', h·scale, w·scale), or a network of images.
        read: gives frames of the clip.
        layout: its tiles.
        first: frame to begin with: those before it are not given, and tiles that hold no others are not computed.
        self_ensemble: average over the eight flips and quarter turns; eight times the time.
        autocast: lower precision in which the network runs where that is safe (`torch.bfloat16`); None: as it is.
        progress: called after each tile with the numbers of finished and of all tiles.

    Yields:
        Shape (k, C', H·scale, W·scale), float32, valid until the next ones are asked for.

    Raises:
        ValueError: if the network's output is not `scale` times its input.
    """
    is_video, count = bool(image_rules(net).frame_multiple), layout.times[-1].stop
    covered = torch.zeros(count)
    for time in layout.times:
        covered[time.start : time.stop] += 1
    space, sums = layout.space, torch.empty(0)
    carried = 0
    for index, (time, following) in enumerate(pairwise([*layout.times, range(count, count)])):
        done = index * space.num_tiles
        if time.stop <= first:
            continue
        frames = _continued(read(time.start, time.stop), layout.padded)

        def read_tile(rows: Tensor, columns: Tensor, frames: Tensor = frames) -> Tensor:
            tile = frames[..., rows[:, None], columns]
            return tile[None] if is_video else tile

        def tile_done(number: int, _: int, done: int = done) -> None:
            if progress is not None:
                progress(done + number, layout.num_tiles)

        top = 0
        bands = restore_bands(net, read_tile, space, self_ensemble=self_ensemble, autocast=autocast, progress=tile_done)
        for band in bands:
            rows = (band[0] if is_video else band)[: len(time)]
            if sums.shape[:1] != (len(time),):
                sums = rows.new_zeros(len(time), rows.shape[1], space.height, space.width)
            sums[:, :, top : top + rows.shape[2]] += rows
            top += rows.shape[2]
        finished = following.start - time.start
        skipped = min(max(0, first - time.start), finished)
        if skipped < finished:
            yield sums[skipped:finished].div_(covered[time.start + skipped : following.start, None, None, None])
        carried = len(time) - finished
        kept = sums[finished:].clone()
        sums.zero_()[:carried] = kept


def restore_clip(
    net: nn.Module,
    clip: Tensor,
    *,
    tile: int | None = None,
    overlap: int = 0,
    tiles: ClipTiles | None = None,
    self_ensemble: bool = False,
    autocast: torch.dtype | None = None,
) -> Tensor:
    """Restore a clip of any length and size that is in memory.

    Args:
        net: network of clips, or of images, which gets one frame at a time.
        clip: float, shape (T, C, H, W), on the CPU.
        tile: largest side of what the network sees, in input pixels; None: whole frames.
        overlap: pixels that neighbouring tiles share at least.
        tiles: how it is restored in time; None: as a whole.
        self_ensemble: average over the eight flips and quarter turns.
        autocast: lower precision in which the network runs where that is safe; None: as it is.

    Returns:
        Shape (T, C', H·scale, W·scale), float32.

    Raises:
        ValueError: if tiles and overlaps do not fit together.
    """
    chosen = ClipTiles() if tiles is None else tiles
    source = mirrored(clip) if chosen.mirror else clip
    layout = lay_out_clip(net, len(source), *source.shape[-2:], tile=tile, overlap=overlap, tiles=chosen)
    parts = restore_frames(
        net,
        lambda start, stop: source[start:stop],
        layout,
        self_ensemble=self_ensemble,
        autocast=autocast,
    )
    start, restored = 0, torch.empty(0)
    for part in parts:
        if start == 0:
            restored = part.new_empty(len(source), *part.shape[1:])
        restored[start : start + len(part)] = part
        start += len(part)
    return (restored[: len(clip)] + restored[len(clip) :].flip(0)) / 2 if chosen.mirror else restored


def restore_sample(net: nn.Module, sample: Tensor, *, tiles: ClipTiles | None = None, **options: object) -> Tensor:
    """Restore an image (C, H, W) or a clip (T, C, H, W); options are those of `restore`."""
    if sample.ndim == 4:
        return restore_clip(net, sample, tiles=tiles, **options)  # type: ignore[arg-type]
    return restore(net, sample, **options)  # type: ignore[arg-type]


def sample_in_tiles(net: nn.Module, sample: Tensor, *, tile: int | None, overlap: int, tiles: ClipTiles) -> Tensor:
    """Restore an image (1, C, H, W) or a clip (1, T, C, H, W) without recording gradients; see `restore_clip`."""
    with torch.inference_mode():
        return restore_sample(net, sample[0], tile=tile, overlap=overlap, tiles=tiles)[None]


def mirrored(clip: Tensor, dim: int = 0) -> Tensor:
    """Put a clip backwards behind itself."""
    return torch.cat([clip, clip.flip(dim)], dim)


def _continued(frames: Tensor, length: int) -> Tensor:
    """Continue frames by themselves backwards, as often as it takes."""
    while len(frames) < length:
        frames = torch.cat([frames, frames.flip(0)[: length - len(frames)]])
    return frames
