"""Clips that `lowrank prepare` looks over and packs."""

import shutil

import pytest

from datamodules import GoProVideoDataModule, REDSDataModule, Vimeo90KDataModule
from datamodules.errors import DataError
from datamodules.preparation.crops import prepare
from datamodules.preparation.inventory import DATA_SETS, find_source
from datamodules.preparation.published_crops import choose_cut, make_jobs, make_links
from tests.datamodules.clips.making import frames, write_frames


def packed(dataset, source, output):
    found = find_source(dataset, source)
    made = [prepare(job) for job in make_jobs(found, output, choose_cut(dataset), pack=True)]
    make_links(found, output)
    return made


@pytest.mark.parametrize("with_inputs", [True, False])
def test_packed_reds_reads_as_the_original(tmp_path, with_inputs):
    for clip in ("000", "001", "002"):
        write_frames(tmp_path / "REDS/train_sharp" / clip, frames(3, scale=4))
        if with_inputs:
            write_frames(tmp_path / "REDS/train_sharp_bicubic/X4" / clip, frames(3))
    [made] = packed("reds", tmp_path, tmp_path / "out")
    assert (made.images, made.crops, made.new) == (2, 6, 2)
    [again] = packed("reds", tmp_path, tmp_path / "out")
    assert again.new == 0
    samples = [REDSDataModule(root, num_workers=0) for root in (tmp_path / "REDS", tmp_path / "out")]
    original, copy = (data.train_pairs() for data in samples)
    assert original.names == copy.names == ("001", "002")
    first, second = (data._dataset(pairs)[1] for data, pairs in zip(samples, (original, copy), strict=True))
    assert (first["input"] == second["input"]).all()
    assert (first["target"] == second["target"]).all()
    assert samples[1].test_pairs()["REDS4"].names == ("000",)


@pytest.mark.parametrize("with_inputs", [True, False])
@pytest.mark.parametrize("degradation", ["BI", "BD"])
def test_packed_vimeo_reads_as_the_original(tmp_path, with_inputs, degradation):
    source = tmp_path / "vimeo_septuplet"
    for number, clip in enumerate(("00001/0001", "00001/0002", "00002/0001")):
        content = frames(7, scale=4) // (number + 1)
        write_frames(source / "sequences" / clip, content, start=1, digits=1)
        if with_inputs:
            inputs = tmp_path / "vimeo_septuplet_matlabLRx4/sequences" / clip
            write_frames(inputs, frames(7) // (number + 1), start=1, digits=1)
    (source / "sep_trainlist.txt").write_text("00001/0001\n00002/0001\n")
    (source / "sep_testlist.txt").write_text("00001/0002\n")
    [made] = packed("vimeo90k", tmp_path, tmp_path / "out")
    assert (made.images, made.crops, made.new) == (2, 14, 2)
    both = [Vimeo90KDataModule(root, degradation=degradation, num_workers=0) for root in (source, tmp_path / "out")]
    for part in (lambda data: data.train_pairs(), lambda data: data.test_pairs()["Vimeo-90K-T"]):
        original, copy = (part(data) for data in both)
        assert original.names == copy.names
        samples = (data._dataset(pairs)[-1 + len(pairs)] for data, pairs in zip(both, (original, copy), strict=True))
        first, second = samples
        assert (first["input"] == second["input"]).all()
        assert (first["target"] == second["target"]).all()
    # Packed clips are what training reads.
    assert "Vimeo-90K-train" in str(both[1].train_pairs().targets[0])


def test_packed_gopro_reads_as_the_original_and_a_changed_clip_is_seen(tmp_path):
    for part, clip in (("train", "a"), ("train", "b"), ("test", "c")):
        for half in ("blur", "sharp"):
            write_frames(tmp_path / "GoPro" / part / clip / half, frames(2))
    packed("gopro_video", tmp_path, tmp_path / "out")
    data = GoProVideoDataModule(tmp_path / "out", num_workers=0)
    assert data.train_pairs().names == ("a", "b")
    assert data.test_pairs()["GoPro"].names == ("c",)
    write_frames(tmp_path / "GoPro/train/b/blur", frames(3))
    write_frames(tmp_path / "GoPro/train/b/sharp", frames(3))
    with pytest.raises(DataError, match="the source as it is now"):
        packed("gopro_video", tmp_path, tmp_path / "out")


def test_a_clip_with_a_gap_cannot_be_packed(tmp_path):
    write_frames(tmp_path / "DAVIS-train/bear", frames(4))
    (tmp_path / "DAVIS-train/bear/00000002.png").unlink()
    with pytest.raises(DataError, match=r"bear must have every frame"):
        packed("davis", tmp_path, tmp_path / "out")


@pytest.mark.parametrize("dataset", ["reds", "vid4", "vimeo90k", "gopro_video", "dvd", "davis"])
def test_every_set_is_looked_over(tmp_path, dataset):
    with pytest.raises(DataError, match=f"a part of {dataset}"):
        find_source(dataset, tmp_path)


def test_the_checks_of_a_source_name_its_bad_frames(tmp_path):
    for half, factor in (("GT", 4), ("BIx4", 1)):
        write_frames(tmp_path / "Vid4" / half / "walk", frames(3, scale=factor))
    shutil.copy(tmp_path / "Vid4/GT/walk/00000000.png", tmp_path / "Vid4/BIx4/walk/00000001.png")
    [part] = find_source("vid4", tmp_path).sets
    assert (part.name, part.published, part.count) == ("Vid4", 4, 1)
    [fault] = [fault for check in part.checks for fault in check()]
    assert "BIx4/walk/00000001.png" in fault
    assert set(DATA_SETS) >= {"reds", "vid4"}
