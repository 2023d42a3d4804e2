"""A clip, a folder of frames or a film: found, matched, read in order, cut, checked, written."""

from datamodules.clips.dataset import ClipDataset
from datamodules.clips.frames import Clip, open_clip
from datamodules.clips.matching import list_clips, pair_clips

__all__ = ["Clip", "ClipDataset", "list_clips", "open_clip", "pair_clips"]
