"""Films written from frames: with codec, pixel format, colours, times and sound of another film."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.clips.films import Film, pyav
from datamodules.errors import DataError

# FFmpeg's encoders by the codec of what they write; of others the encoder has the codec's name.
_ENCODERS = {"h264": "libx264", "hevc": "libx265", "vp9": "libvpx-vp9", "vp8": "libvpx", "av1": "libsvtav1"}
# Those with a constant rate factor; the others are given the bit rate of the film, for its number of pixels.
_WITH_FACTOR = ("libx264", "libx265", "libvpx-vp9", "libvpx", "libsvtav1")
_FACTOR = 16
_LEAST_BIT_RATE = 8_000_000


@dataclass(frozen=True)
class FilmOptions:
    """How a film is written.

    Attributes:
        codec: h264, hevc, av1, vp9, ffv1 and the like, or an encoder of FFmpeg's; None: as the film that was restored,
            h264 for a folder of frames.
        quality: constant rate factor of the encoder, 0 to 63, where lower is better and larger; None: 16.
        rate: frames per second where there is no film to take it from; None: 25.

    Raises:
        ValueError: if a number is out of range.
    """

    codec: str | None = None
    quality: int | None = None
    rate: Fraction | None = None

    def __post_init__(self) -> None:
        if self.quality is not None and not 0 <= self.quality <= 63:
            raise ValueError(f"quality ({self.quality}) of a film must lie in [0, 63], lower is better; 16 is usual")
        if self.rate is not None and self.rate <= 0:
            raise ValueError(f"rate ({self.rate}) must be positive; 25 frames per second are usual")


def choose_encoder(path: Path, like: Film | None, options: FilmOptions) -> str:
    """Find FFmpeg's encoder for a film, before any work on its frames.

    Args:
        path: of the film that will be written.
        like: the film that was restored; None: a folder of frames was.
        options: of the film.

    Raises:
        DataError: if there is no such encoder, or it has no constant rate factor and `quality` is given.
    """
    av = pyav(path)
    wanted = options.codec or ("h264" if like is None else like.format.codec)
    name = _ENCODERS.get(wanted, wanted)
    try:
        found = av.codec.Codec(name, "w")
    except (av.FFmpegError, ValueError) as error:
        raise DataError(
            f"codec ({wanted}) must be one that PyAV can write here, got none of that name; give h264, hevc or ffv1"
        ) from error
    if found.type != "video":
        raise DataError(f"codec ({wanted}) must be one of pictures, got one of {found.type}; give h264")
    if options.quality is not None and name not in _WITH_FACTOR:
        raise DataError(
            f"quality ({options.quality}) must be null with codec {wanted}, which has no constant rate factor"
        )
    return name


def write_film(path: Path, frames: Iterable[NDArray], *, like: Film | None, options: FilmOptions) -> None:
    """Write a film, complete or not at all.

    Pixel format, colour tags, times of the frames and sound are those of `like`, as far as encoder and container hold
    them; sound is copied without being coded again. Without such a film it has 4:2:0 colours and no sound.

    Args:
        path: its suffix decides the container.
        frames: one after another, of one shape (H, W, 3), uint8 or uint16; as many as `like` has.
        like: the film whose frames these are, restored; None: there is none.
        options: of the film.

    Raises:
        DataError: if the codec cannot be written here, or container, codec and sound do not fit together.
        OSError: if the file cannot be written.
    """
    av = pyav(path)
    encoder = choose_encoder(path, like, options)
    path.parent.mkdir(parents=True, exist_ok=True)
    # FFmpeg knows the container by the suffix, so that the hidden name has to keep it.
    unfinished = path.with_name(f".{path.stem}.unfinished{path.suffix}")
    try:
        with av.open(str(unfinished), "w") as output:
            _write(av, output, iter(frames), like, encoder, options)
        unfinished.replace(path)
    except (av.FFmpegError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        if isinstance(error, OSError) and error.filename is not None:
            raise
        raise DataError(
            f"film {path} must be of a container that holds its codec ({encoder}) and sound, got: {error}; end its "
            "name in .mkv, or choose another codec"
        ) from error
    finally:
        unfinished.unlink(missing_ok=True)


def _write(
    av: Any, output: Any, frames: Iterator[NDArray], like: Film | None, encoder: str, options: FilmOptions
) -> None:
    first = next(frames)
    rate = (options.rate or Fraction(25)) if like is None else like.format.rate
    stream = output.add_stream(encoder, rate=rate)
    context = stream.codec_context
    _describe(context, av.codec.Codec(encoder, "w"), first, like, options)
    unit = 1 / rate if like is None else like.format.time_base
    sound = iter(()) if like is None else _sound(av, output, like)
    packet = next(sound, None)
    for number, array in enumerate(chain([first], frames)):
        frame = av.VideoFrame.from_ndarray(array, format="rgb24" if array.dtype == np.uint8 else "rgb48le")
        frame = frame.reformat(
            format=context.pix_fmt,
            dst_colorspace=int(context.colorspace),
            src_color_range=2,
            dst_color_range=int(context.color_range),
            interpolation="BICUBIC",
        )
        frame.pts, frame.time_base = number if like is None else like.times[number], unit
        # Both in the order of their times: the container's writer would hold back whichever is ahead.
        while packet is not None and packet.pts * packet.time_base <= frame.pts * unit:
            output.mux(packet)
            packet = next(sound, None)
        output.mux(stream.encode(frame))
    output.mux(stream.encode())
    while packet is not None:
        output.mux(packet)
        packet = next(sound, None)


def _describe(context: Any, codec: Any, first: NDArray, like: Film | None, options: FilmOptions) -> None:
    """Set size, colours and quality of an encoder."""
    height, width = first.shape[:2]
    context.width, context.height = width, height
    offered = [pixels.name for pixels in codec.video_formats or ()]
    wanted = ["yuv420p" if like is None else like.format.pixels, "yuv420p", "yuv444p", "bgr0"]
    if height % 2 or width % 2:
        # Two by two pixels share their colour in 4:2:0, two in a row in 4:2:2.
        wanted = [pixels for pixels in wanted if "420" not in pixels and "422" not in pixels]
    context.pix_fmt = next((pixels for pixels in wanted if not offered or pixels in offered), (offered or wanted)[0])
    context.colorspace, context.color_range = 1 if height >= 720 else 5, 1
    factor = _FACTOR if options.quality is None else options.quality
    if like is not None:
        stated = like.format
        context.colorspace = stated.matrix_for(height)
        context.color_range = stated.colour_range or 1
        context.color_primaries, context.color_trc = stated.primaries, stated.transfer
        context.sample_aspect_ratio = stated.aspect
        if codec.name in _WITH_FACTOR:
            context.time_base = stated.time_base
    if codec.name in _WITH_FACTOR:
        context.options = {"crf": str(factor)}
        if codec.name.startswith("libvpx"):
            context.options |= {"b:v": "0"}
        if codec.name == "libx265":
            context.options |= {"x265-params": "log-level=error"}
    else:
        context.bit_rate = max(_LEAST_BIT_RATE, 0 if like is None else 2 * like.format.bit_rate)


def _sound(av: Any, output: Any, like: Film) -> Iterator[Any]:
    """Packets of a film's sound, in their order, for streams that are added to an output."""
    source = av.open(str(like.path))
    streams = {stream.index: output.add_stream_from_template(stream) for stream in source.streams.audio}
    return _packets(source, streams)


def _packets(source: Any, streams: dict[int, Any]) -> Iterator[Any]:
    with source:
        if not streams:
            return
        for packet in source.demux(*source.streams.audio):
            if packet.dts is not None:
                packet.stream = streams[packet.stream_index]
                yield packet
