"""The verb `restore` by many processes, and on folders of very many files."""

import itertools
import os
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest

from datamodules.errors import DataError
from datamodules.files.images import read_image, write_image
from tests.trainers.commands.restore.test_command import Net, picture, run, use  # noqa: F401
from trainers.commands.restore import shares, targets
from trainers.commands.restore.command import restore_images
from trainers.commands.restore.shares import FOLDER, Share, Tally, find_share, summarise
from trainers.commands.restore.targets import name_targets

ARRAY = {"SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_STEP": "2", "SLURM_ARRAY_TASK_COUNT": "3"}
SRUN = {"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "4", "SLURM_LOCALID": "1"}


@pytest.mark.parametrize(
    ("given", "environment", "expected"),
    [
        (None, {}, Share()),
        ("2/8", {"RANK": "5", "WORLD_SIZE": "6", "LOCAL_RANK": "1"}, Share(1, 8)),
        (None, {"RANK": "5", "WORLD_SIZE": "6", "LOCAL_RANK": "1"}, Share(5, 6, 1)),
        (None, SRUN, Share(1, 4, 1)),
        (None, {"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_LOCALID": "0"}, Share()),
        (None, {**ARRAY, "SLURM_ARRAY_TASK_ID": "5"}, Share(2, 3)),
        (None, {**ARRAY, **SRUN, "SLURM_ARRAY_TASK_ID": "3"}, Share(5, 12, 1)),
    ],
)
def test_launchers_tell_the_share(given, environment, expected):
    assert find_share(given, environment) == expected


@pytest.mark.parametrize("given", ["0/2", "3/2", "2", "a/b", "1/0", "-1/2", ""])
def test_a_share_that_is_none_is_refused(given):
    with pytest.raises(ValueError, match=r"share .* must be K/N"):
        find_share(given, {})


@pytest.mark.parametrize("variables", [{"RANK": "x"}, {"RANK": "7"}])
def test_launchers_that_tell_nonsense_are_refused(variables):
    with pytest.raises(ValueError, match="must be given as K/N"):
        find_share(None, {"WORLD_SIZE": "2", "LOCAL_RANK": "0", **variables})


@pytest.mark.parametrize("count", [1, 2, 4, 7])
def test_shares_are_disjoint_complete_and_even(count):
    names = [f"sub/{number}.png" for number in range(1000)]
    taken = Counter(part for name in names for part in range(count) if Share(part, count).takes(name))
    assert taken.total() == len(names)
    assert min(taken.values()) > 0.8 * len(names) / count


def test_processes_share_images_out_resume_and_give_one_summary(use, tmp_path, capsys):  # noqa: F811
    net = use(Net())
    for number in range(9):
        write_image(tmp_path / "in" / str(number % 2) / f"{number}.png", picture())
    (tmp_path / "in" / "broken.png").write_bytes(b"none")
    options = {"tile": None}
    for attempt, part in itertools.product((1, 2), (3, 1, 2)):
        broken = Share(part - 1, 3).takes("broken.png")
        try:
            run([tmp_path / "in"], tmp_path / "out", share=f"{part}/3", **options)
        except DataError as error:
            assert "broken.png" in str(error)  # noqa: PT017
            assert broken
        else:
            assert not broken
        assert len(net.seen) <= 9
        said = capsys.readouterr().out
        counts = "9 restored, 0 kept" if attempt == 1 else "0 restored, 9 kept"
        assert said == (f"images: {counts}, 1 failed, by 3 processes\n" if part == 2 else "")
    assert len(net.seen) == 9
    assert len(list((tmp_path / "out").rglob("*.png"))) == 9
    assert not (tmp_path / "out" / FOLDER).exists()


def test_a_share_that_ends_early_is_in_no_summary(use, tmp_path, monkeypatch):  # noqa: F811
    use(Net())
    for number in range(8):
        write_image(tmp_path / "in" / f"{number}.png", picture())
    for part in ("1/2", "2/2"):
        run([tmp_path / "in"], tmp_path / "out", share=part)
    summarise(tmp_path / "out", Share(1, 2), Tally(7))
    monkeypatch.setattr("trainers.commands.restore.images.check_name", lambda target: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run([tmp_path / "in"], tmp_path / "out", share="2/2")
    assert not list((tmp_path / "out" / FOLDER).iterdir())


def test_devices_are_processes_with_shares(monkeypatch, tmp_path):
    class Pool:
        def __init__(self, count, mp_context):
            assert (count, mp_context.get_start_method()) == (3, "spawn")

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def submit(self, function, verb, arguments, number, *rest):
            def result():
                if number == 1:
                    raise DataError("one is broken")
                return calls.append((verb, arguments, number)) or []

            return type("Future", (), {"result": staticmethod(result)})

    calls = []
    monkeypatch.setattr(shares, "ProcessPoolExecutor", Pool)
    with pytest.raises(DataError, match="one is broken"):
        restore_images([Path("a.png")], pretrained="net.pth", output=tmp_path, devices=3, suffix="_x")
    assert [number for *_, number in calls] == [0, 2]
    assert all(verb is restore_images for verb, *_ in calls)
    assert all(arguments["suffix"] == "_x" and arguments["devices"] == 1 for _, arguments, _ in calls)
    for options in ({"devices": 0}, {"devices": 2, "share": "1/2"}):
        with pytest.raises(ValueError, match=r"devices \(\d\) must be at least 1"):
            restore_images([Path("a.png")], pretrained="net.pth", output=tmp_path, **options)


def test_each_process_has_a_device(monkeypatch):
    monkeypatch.setattr(shares.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(shares.torch.cuda, "device_count", lambda: 4)
    assert [Share(0, 8, local).device("auto") for local in (0, 3, 5)] == ["cuda:0", "cuda:3", "cuda:1"]
    assert Share(0, 8, 1).device("cpu") == "cpu"
    assert Share(0, 8).device("auto") == "auto"


class Entry:
    """An entry of a folder that has no disk."""

    def __init__(self, name):
        self.name = name

    def is_dir(self, *, follow_symlinks):
        return False


class Entries:
    """A folder of very many images, counted as they are read."""

    def __init__(self, count):
        self.names = (Entry(f"{number:07}.{'jpg' if number % 3 else 'png'}") for number in range(count))

    def __enter__(self):
        return self.names

    def __exit__(self, *_):
        pass


def test_a_folder_of_very_many_files_is_listed_in_little_memory(monkeypatch, tmp_path):
    monkeypatch.setattr(targets, "is_image", lambda path: True)
    monkeypatch.setattr(targets, "_SORTED", 50)
    monkeypatch.setattr(targets, "identity", lambda path: path)
    peaks = []
    for count in (100, 400, 1200):
        monkeypatch.setattr(targets.os, "scandir", lambda folder, count=count: Entries(count))
        tracemalloc.start()
        found = name_targets([tmp_path], tmp_path / "out", share=Share(1, 4))
        assert sum(1 for _ in found) == len(found)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert count / 4 * 0.8 < len(found) < count / 4 * 1.2
    # The first pays for what is imported then. A list of paths takes more than a kilobyte an image.
    assert peaks[2] - peaks[1] < 800 * 150


def test_images_that_appear_while_others_are_restored_are_left_out(tmp_path):
    for number in range(3):
        write_image(tmp_path / f"{number}.png", picture())
    found = name_targets([tmp_path], tmp_path, suffix="_clean")
    pairs = iter(found)
    first = next(pairs)
    write_image(first[1], read_image(first[0]))
    os.link(first[0], tmp_path / "another name.png")
    assert len({source for source, _ in (first, *pairs)} & {first[1]}) == 0
    assert first[1] not in {source for source, _ in found}


def test_the_first_way_to_an_image_counts(tmp_path):
    write_image(tmp_path / "in" / "sub" / "a.png", picture())
    image = tmp_path / "in" / "sub" / "a.png"
    (tmp_path / "in" / "link").symlink_to(tmp_path / "in" / "sub", target_is_directory=True)
    for given, names in (
        ([tmp_path / "in", image], ["sub/a.png"]),
        ([image, tmp_path / "in"], ["a.png"]),
        ([tmp_path / "in" / "sub", tmp_path / "in", image], ["a.png"]),
        ([tmp_path / "in", tmp_path / "in" / "link"], ["sub/a.png", "a.png"]),
    ):
        found = [str(target.relative_to(tmp_path / "out")) for _, target in name_targets(given, tmp_path / "out")]
        assert found == names
