"""Clips that are read from end to end, for every fault in them."""

from collections.abc import Iterator
from pathlib import Path

from numpy.typing import NDArray

from datamodules.clips.dataset import check_frames
from datamodules.clips.frames import Clip, FrameFolder, describe, open_clip
from datamodules.errors import DataError
from datamodules.files.images import read_image
from datamodules.pairs.dataset import fit_target


def check_clips(inputs: Path, targets: Path, *, scale: int = 1, num_frames: int = 2) -> list[str]:
    """Read a clip and its clean one to their ends.

    Args:
        inputs: the degraded one.
        targets: the clean one; the same where inputs are made of it.
        scale: size of the target relative to its input.
        num_frames: frames that a clip must have at least.

    Returns:
        A message for each fault: a file that is no complete image or film, a frame that is missing or differs from the
        others, too few frames, clips that do not fit each other.
    """
    faults: list[str] = []
    firsts: list[NDArray] = []
    clips: list[Clip] = []
    for path in [targets] if inputs == targets else [inputs, targets]:
        try:
            clip = open_clip(path)
            if len(clip) < num_frames:
                raise DataError(f"clip {path} must have at least {num_frames} frames, got {len(clip)}; remove it")
        except DataError as error:
            faults.append(str(error))
            continue
        clips.append(clip)
        first: NDArray | None = None
        for name, frame in _frames(clip):
            if isinstance(frame, str):
                faults.append(frame)
            elif first is None:
                first = frame
            elif describe(frame) != describe(first):
                faults.append(
                    f"frame {name} must be as the first of its clip ({describe(first)}), got {describe(frame)}; "
                    "replace the wrong file"
                )
        firsts += [] if first is None else [first]
    if len(firsts) == 2:
        try:
            check_frames(*clips)
            fit_target(firsts[1], firsts[0], scale, targets, inputs)
        except DataError as error:
            faults.append(str(error))
    return faults


def _frames(clip: Clip) -> Iterator[tuple[str, NDArray | str]]:
    """Name of each frame, and its pixels or what is wrong with it; of a film nothing after the first fault."""
    if isinstance(clip, FrameFolder):
        for file in clip.files:
            try:
                yield str(file), read_image(file)
            except DataError as error:
                yield str(file), str(error)
        return
    try:
        for number, frame in enumerate(clip.frames(0, len(clip))):
            yield f"{number} of {clip.path}", frame
    except DataError as error:
        yield str(clip.path), str(error)
