"""Folders of frames in their order; every bad clip is named."""

import numpy as np
import pytest

from datamodules.clips import list_clips, open_clip, pair_clips
from datamodules.clips.checks import check_clips
from datamodules.clips.frames import read_frames
from datamodules.errors import DataError
from datamodules.files.images import write_image
from tests.datamodules.clips.making import frames, write_clips, write_frames


@pytest.mark.parametrize(("start", "step", "digits"), [(0, 1, 8), (1, 1, 1), (8, 1, 1), (0, 2, 3), (95, 5, 1)])
def test_frames_are_in_the_order_of_their_numbers(tmp_path, start, step, digits):
    clip = open_clip(write_frames(tmp_path / "clip", frames(6), start, step, digits))
    assert len(clip) == 6
    assert read_frames(clip, 1, 5)[:, 0, 0, 2].tolist() == [10, 20, 30, 40]


@pytest.mark.parametrize("name", ["{}_x4", "scene_2_{}", "f{}-24fps", "{:03}"])
def test_the_number_that_changes_counts(tmp_path, name):
    for number, frame in enumerate(frames(11)):
        write_image(tmp_path / "clip" / f"{name.format(number)}.png", frame)
    assert read_frames(open_clip(tmp_path / "clip"), 0, 11)[:, 0, 0, 2].tolist() == list(range(0, 110, 10))


@pytest.mark.parametrize("name", ["cover", "poster_of_2"])
def test_an_image_that_is_no_frame_is_named(tmp_path, name):
    write_frames(tmp_path / "clip", frames(11), digits=1)
    write_image(tmp_path / "clip" / f"{name}.png", frames(1)[0])
    with pytest.raises(DataError, match=name):
        open_clip(tmp_path / "clip")


def test_without_numbers_the_names_tell_the_order(tmp_path):
    for name, frame in zip("abc", frames(3), strict=True):
        write_image(tmp_path / "clip" / f"{name}.png", frame)
    assert read_frames(open_clip(tmp_path / "clip"), 0, 3)[:, 0, 0, 2].tolist() == [0, 10, 20]


def test_frames_of_other_numbers_are_no_pair(tmp_path):
    write_frames(tmp_path / "input", frames(3))
    write_frames(tmp_path / "target", frames(3), start=1)
    [fault] = check_clips(tmp_path / "input", tmp_path / "target")
    assert "same numbers, got 0 in the first only" in fault


def remove_one(folder):
    (folder / "00000003.png").unlink()


def double_one(folder):
    write_image(folder / "3.png", frames(1)[0])


def truncate_one(folder):
    path = folder / "00000003.png"
    path.write_bytes(path.read_bytes()[:100])


def shrink_one(folder):
    write_image(folder / "00000003.png", frames(1, size=(24, 16))[0])


def make_one_grey(folder):
    write_image(folder / "00000003.png", frames(1)[0][..., :1])


def deepen_one(folder):
    write_image(folder / "00000003.png", frames(1)[0].astype(np.uint16))


def leave_one(folder):
    for path in sorted(folder.iterdir())[1:]:
        path.unlink()


def leave_none(folder):
    for path in folder.iterdir():
        path.unlink()


def leave_out_the_last(folder):
    (folder / "00000005.png").unlink()


FAULTS = [
    remove_one, double_one, truncate_one, shrink_one, make_one_grey, deepen_one, leave_one, leave_none,
    leave_out_the_last,
]  # fmt: skip


@pytest.mark.parametrize("half", ["input", "target"])
@pytest.mark.parametrize("spoil", FAULTS)
def test_every_bad_clip_is_named(tmp_path, spoil, half):
    folders = [write_clips(tmp_path, ["a"]) / name / "a" for name in ("input", "target")]
    assert check_clips(*folders) == []
    spoil(tmp_path / half / "a")
    faults = check_clips(*folders)
    assert len(faults) == 1 or spoil is leave_one
    assert all(f"{half}/a" in fault for fault in faults)


def test_sizes_that_do_not_fit_the_scale_are_named(tmp_path):
    write_clips(tmp_path, ["a"], scale=4)
    assert check_clips(tmp_path / "input/a", tmp_path / "target/a", scale=4) == []
    [fault] = check_clips(tmp_path / "input/a", tmp_path / "target/a", scale=2)
    assert "must be 48×64" in fault


def test_clips_are_matched_by_name_and_those_alone_are_listed(tmp_path):
    write_clips(tmp_path, ["a", "b"])
    pairs = pair_clips(tmp_path / "input", tmp_path / "target")
    assert pairs.names == ("a", "b")
    write_frames(tmp_path / "target/c", frames(2))
    with pytest.raises(DataError, match="target/c"):
        pair_clips(tmp_path / "input", tmp_path / "target")


def test_what_holds_no_clips_is_named(tmp_path):
    write_frames(tmp_path / "clip", frames(2))
    with pytest.raises(DataError, match="point it at the folder that the clips are in"):
        list_clips(tmp_path / "clip")
    with pytest.raises(DataError, match="existing folder of clips"):
        list_clips(tmp_path / "gone")
    with pytest.raises(DataError, match="a folder of frames or a film"):
        open_clip(tmp_path / "clip/00000000.png")
