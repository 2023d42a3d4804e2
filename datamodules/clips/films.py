"""Films by PyAV, the one place that imports it: indexed, and read from any frame on."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.errors import DataError

FILM_SUFFIXES = (".mp4", ".mkv", ".mov", ".m4v", ".avi", ".webm", ".mpg", ".mpeg", ".ts", ".m2ts", ".mts")

# Seconds that a container may claim beyond its last packet: more of them are missing.
_CLAIMED_BEYOND = 0.5
# Transfer characteristics whose values are no grey levels that networks know (ISO/IEC 23091-2).
_HIGH_DYNAMIC_RANGE = {16: "PQ", 18: "HLG"}


@dataclass(frozen=True)
class FilmFormat:
    """How the pictures of a film are stored.

    Attributes:
        codec: FFmpeg's name of the codec, such as h264.
        pixels: FFmpeg's name of the pixel format, such as yuv420p.
        rate: frames per second on average.
        time_base: seconds of one unit of the frames' times.
        aspect: width of a pixel by its height.
        matrix: number of the colour matrix (ISO/IEC 23091-2), 2 where none is stated.
        primaries: number of the colour primaries, likewise.
        transfer: number of the transfer characteristics, likewise.
        colour_range: 1: luma from 16 to 235; 2: from 0 to 255; 0: not stated.
        bits: per channel.
        alpha: whether pixels have an opacity beside their colour.
        bit_rate: bits of a second, 0 where none is stated.
    """

    codec: str
    pixels: str
    rate: Fraction
    time_base: Fraction
    aspect: Fraction
    matrix: int
    primaries: int
    transfer: int
    colour_range: int
    bits: int
    alpha: bool
    bit_rate: int

    @property
    def array_pixels(self) -> str:
        """PyAV's name of RGB in arrays that lose nothing of the depth."""
        return "rgb24" if self.bits <= 8 else "rgb48le"

    def matrix_for(self, height: int) -> int:
        """The stated colour matrix, or where none is stated, the one that players assume for a height."""
        return self.matrix if self.matrix not in (0, 2) else 1 if height >= 720 else 5


def is_film(path: Path) -> bool:
    """Whether a path is called as a film is, and is no hidden file."""
    return path.suffix.lower() in FILM_SUFFIXES and not path.name.startswith(".")


def pyav(path: Path) -> Any:
    """Import PyAV.

    Args:
        path: of the film that it is needed for.

    Raises:
        DataError: if it is not installed.
    """
    try:
        return importlib.import_module("av")
    except ImportError as error:
        raise DataError(
            f"film {path} must be read and written by PyAV, which is not installed: pip install "
            '"lowrank-attention[video]", or give a folder of frames'
        ) from error


class Film:
    """The pictures of a film, addressed by their number in the order in which they are shown.

    Args:
        path: a film in any container and codec that PyAV's wheels carry.

    Raises:
        DataError: if it cannot be opened, has no pictures or no times, is truncated, or is of high dynamic range or
            with alpha.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._opened() as (container, stream):
            self.format = _format(stream)
            _check_format(path, self.format)
            times, stored, last = [], 0, 0.0
            for packet in container.demux():
                if packet.pts is None:
                    if packet.size and packet.stream_index == stream.index:
                        raise DataError(f"film {path} must have a time for every picture; put it in another container")
                    continue
                end = (packet.pts + (packet.duration or 0)) * packet.time_base
                last = max(last, float(end))
                if packet.stream_index == stream.index:
                    stored += 1
                    times += [] if packet.is_discard else [packet.pts]
            # Of other containers both are guesses.
            frames = stream.frames if "mp4" in container.format.name else 0
            claimed = (container.duration or 0) / 1e6 if "matroska" in container.format.name else 0.0
            if not times or frames > stored or claimed > last + _CLAIMED_BEYOND:
                what = f"{stored} of {frames} frames" if claimed <= last else f"{last:.1f} of {claimed:.1f} s"
                raise DataError(f"film {path} must be complete, got {what}; copy or download it again")
            self.has_sound = bool(container.streams.audio)
        self.times = sorted(times)
        """When each frame is shown, in units of `format.time_base`."""
        if len(set(times)) < len(times):
            raise DataError(f"film {path} must show one picture at a time, got two at one; convert it")

    def __len__(self) -> int:
        return len(self.times)

    def frames(self, start: int, stop: int) -> Iterator[NDArray]:
        """Decode frames from `start` to before `stop`, upright.

        Yields:
            Shape (H, W, 3), uint8, or uint16 where the film has more than 8 bits.

        Raises:
            DataError: if one is damaged or missing, or is interlaced.
        """
        wanted = start
        shape: tuple[int, ...] | None = None
        for frame in self._decoded(start):
            if frame.pts != self.times[wanted] or frame.is_corrupt:
                break
            if frame.interlaced_frame:
                raise DataError(
                    f"film {self.path} must show whole pictures, got two interlaced fields in one: convert it, for "
                    "example by ffmpeg -i FILM -vf bwdif OUT.mkv"
                )
            array = self._array(frame)
            if shape is not None and array.shape != shape:
                raise DataError(
                    f"film {self.path} must keep its size, got {array.shape[:2]} after {shape[:2]}: convert it"
                )
            shape = array.shape
            yield array
            wanted += 1
            if wanted == stop:
                return
        raise DataError(
            f"film {self.path} must be complete, got no frame {wanted} of {len(self)} (from 0); copy or download it "
            "again"
        )

    def _decoded(self, start: int) -> Iterator[Any]:
        """Decode the frames from `start` on, in their order."""
        # Not every container finds the place of a time: some go too far, and are read from their beginning.
        for seeks in (True, False) if start else (False,):
            with self._opened() as (container, stream):
                stream.thread_type = "AUTO"
                if seeks:
                    container.seek(self.times[start], stream=stream, backward=True)
                found = False
                for frame in container.decode(stream):
                    if frame.pts is None or frame.pts < self.times[start]:
                        continue
                    if seeks and not found and frame.pts != self.times[start]:
                        break
                    found = True
                    yield frame
                if found:
                    return

    def _array(self, frame: Any) -> NDArray:
        array = frame.to_ndarray(
            format=self.format.array_pixels,
            src_colorspace=self.format.matrix_for(frame.height),
            src_color_range=self.format.colour_range or None,
            dst_color_range=2,
            interpolation="BICUBIC",
        )
        return np.ascontiguousarray(np.rot90(array, round(frame.rotation / 90) % 4))

    @contextmanager
    def _opened(self) -> Iterator[tuple[Any, Any]]:
        av = pyav(self.path)
        try:
            with av.open(str(self.path)) as container:
                if not container.streams.video:
                    raise DataError(f"film {self.path} must hold pictures, got sound only; check the path")
                yield container, container.streams.video[0]
        except (av.FFmpegError, OSError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            reason = getattr(error, "strerror", None) or error
            raise DataError(
                f"film {self.path} must be a complete film of a known kind, got: {reason}; copy or download it again"
            ) from error


def _check_format(path: Path, found: FilmFormat) -> None:
    """Refuse films whose pixels would be lost or taken for others.

    Raises:
        DataError: if one is of high dynamic range or has alpha.
    """
    if found.transfer in _HIGH_DYNAMIC_RANGE:
        raise DataError(
            f"film {path} must be of standard dynamic range, got {_HIGH_DYNAMIC_RANGE[found.transfer]}, whose values "
            "networks do not know: convert it by a tone mapping"
        )
    if found.alpha:
        raise DataError(
            f"film {path} must have colours alone, got {found.pixels} with alpha: convert it, for example by ffmpeg "
            "-i FILM -pix_fmt yuv444p OUT.mkv"
        )


def _format(stream: Any) -> FilmFormat:
    context = stream.codec_context
    aspect = stream.sample_aspect_ratio
    return FilmFormat(
        codec=context.name,
        pixels=context.pix_fmt or "yuv420p",
        rate=stream.average_rate or stream.guessed_rate or Fraction(25),
        time_base=stream.time_base,
        aspect=aspect or Fraction(1),
        matrix=int(context.colorspace),
        primaries=int(context.color_primaries),
        transfer=int(context.color_trc),
        colour_range=int(context.color_range),
        bits=context.format.components[0].bits if context.format else 8,
        alpha=any(component.is_alpha for component in context.format.components) if context.format else False,
        bit_rate=context.bit_rate or 0,
    )
