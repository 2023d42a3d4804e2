"""Clips through `restore`: films and folders, gone on with after a stop, memory bounded, bad ones named."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.clips.films import Film
from datamodules.clips.frames import open_clip, read_frames
from datamodules.errors import DataError
from datamodules.files import list_images, read_image
from tests.datamodules.clips.making import smooth, write_frames, write_smooth_film
from tests.trainers.clip_networks import ClipNetwork
from trainers.commands.restore import command
from trainers.commands.restore.clip_file import host_bytes
from trainers.commands.restore.command import restore_images
from trainers.tiling.clips import ClipTiles, lay_out_clip, restore_clip


@pytest.fixture
def net(monkeypatch):
    """A network of clips in place of the one that a checkpoint holds."""
    made = ClipNetwork()
    monkeypatch.setattr(command, "load_network", lambda *_, **__: made)
    Path("net.pth").write_bytes(b"weights")
    return made


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*clips, of_clips=True, **options):
    defaults = {"pretrained": Path("net.pth"), "output": Path("out"), "device": "cpu", "tile": 32, "overlap": 8}
    tiles = {"frames": 4} if of_clips else {}
    return restore_images([Path(clip) for clip in clips], **defaults | tiles | options)


def expected(net, clip, **tiles):
    tensor = torch.from_numpy(clip).permute(0, 3, 1, 2).float() / 255
    restored = restore_clip(net, tensor, tile=32, overlap=8, tiles=ClipTiles(**{"frames": 4} | tiles))
    return (restored.detach().clamp(0, 1) * 255).round().permute(0, 2, 3, 1).numpy()


def test_a_folder_of_frames_becomes_one(net, capsys):
    write_frames(Path("walk"), smooth(9), start=3)
    [result] = run("walk")
    assert [path.name for path in list_images("out/walk")] == [f"{number:08}.png" for number in range(3, 12)]
    np.testing.assert_array_equal(read_frames(open_clip("out/walk"), 0, 9), expected(net, smooth(9)))
    assert (result.frames, result.kept, result.num_tiles) == (9, 0, 4 * 2 * 3)
    assert [path.name for path in Path("out").iterdir()] == ["walk"]
    assert "4 frames of 32×32 pixels" in capsys.readouterr().out
    assert run("walk") == []
    assert "was kept" in capsys.readouterr().out


@pytest.mark.parametrize("format", [None, "png", "mkv"])
def test_a_film_becomes_a_film_or_frames(net, format):
    write_smooth_film(Path("film.mp4"), 6)
    source = read_frames(open_clip("film.mp4"), 0, 6)
    [result] = run("film.mp4", format=format, quality=None if format == "png" else 1)
    assert result.target == Path("out/film" if format == "png" else f"out/film.{format or 'mp4'}")
    restored = read_frames(open_clip(result.target), 0, 6)
    assert np.abs(restored - expected(net, source)).mean() < (1e-9 if format == "png" else 3)
    if format != "png":
        assert Film(result.target).format.codec == "h264"
    assert [path.name for path in Path("out").iterdir()] == [result.target.name]


def test_frames_become_a_film_of_a_rate(net):
    write_frames(Path("walk"), smooth(4))
    [result] = run("walk", format="mkv", rate=24000 / 1001, codec="ffv1")
    film = Film(result.target)
    assert (film.format.codec, len(film), film.has_sound) == ("ffv1", 4, False)
    assert float(film.format.rate) == pytest.approx(24000 / 1001, rel=1e-3)


@pytest.mark.parametrize("calls", [1, 7, 12, 20])
def test_a_stopped_run_goes_on_where_it_was(net, calls, monkeypatch):
    write_frames(Path("walk"), smooth(9))
    forward, count = net.forward, 0

    def stopping(clip):
        nonlocal count
        count += 1
        if count == calls:
            raise KeyboardInterrupt
        return forward(clip)

    monkeypatch.setattr(net, "forward", stopping)
    with pytest.raises(KeyboardInterrupt):
        run("walk")
    assert not Path("out/walk").exists()
    monkeypatch.setattr(net, "forward", forward)
    seen = len(list(Path("out/.walk.unfinished").glob("*.png")))
    [result] = run("walk")
    assert result.kept == seen
    assert (seen > 0) == (calls > 6)
    np.testing.assert_array_equal(read_frames(open_clip("out/walk"), 0, 9), expected(net, smooth(9)))


def test_a_run_with_other_options_begins_anew(net):
    write_frames(Path("walk"), smooth(9))
    run("walk", output=Path("done"))
    for name in ("00000000.png", "settings.json"):
        Path("out/.walk.unfinished").mkdir(parents=True, exist_ok=True)
        Path("out/.walk.unfinished", name).write_bytes(Path("done/walk/00000000.png").read_bytes())
    [result] = run("walk")
    assert result.kept == 0


def test_a_film_that_was_not_yet_written_needs_no_network_again(net, monkeypatch):
    write_smooth_film(Path("film.mp4"), 6)
    with monkeypatch.context() as patch:
        patch.setattr("trainers.commands.restore.clip_file.write_film", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run("film.mp4")
    monkeypatch.setattr(net, "forward", lambda clip: pytest.fail("restored again"))
    [result] = run("film.mp4")
    assert (result.kept, len(Film(result.target))) == (6, 6)


def test_every_bad_clip_is_named_after_the_others_were_restored(net):
    write_frames(Path("clips/a"), smooth(5))
    write_frames(Path("clips/b"), smooth(5))
    Path("clips/b/00000002.png").unlink()
    write_smooth_film(Path("clips/c.mp4"), 5)
    Path("clips/d.mp4").write_bytes(b"no film")
    with pytest.raises(DataError, match=r"2 of 4.*\n.*b must have every frame.*\n.*d\.mp4 must be a complete film"):
        run("clips")
    assert sorted(path.name for path in Path("out").iterdir()) == ["a", "c.mp4"]


def test_deep_and_grey_frames_stay_so(net):
    write_frames(Path("deep"), smooth(4).astype(np.uint16) * 257)
    write_frames(Path("grey"), smooth(4)[..., :1])
    run("deep", "grey")
    assert read_image("out/deep/00000001.png").dtype == np.uint16
    assert read_image("out/grey/00000001.png").shape == (48, 64, 1)


def test_a_noise_level_is_one_more_channel(monkeypatch):
    net = ClipNetwork(channels=4)
    monkeypatch.setattr(command, "load_network", lambda *_, **__: net)
    Path("net.pth").write_bytes(b"weights")
    seen = []
    monkeypatch.setattr(net, "forward", lambda clip: seen.append(clip[0, :, 3].unique()) or clip[:, :, :3])
    write_frames(Path("walk"), smooth(4))
    run("walk", noise_level=20)
    assert all(level.tolist() == pytest.approx([20 / 255]) for level in seen)


def test_a_network_of_images_restores_a_film_frame_by_frame(monkeypatch):
    monkeypatch.setattr(command, "load_network", lambda *_, **__: torch.nn.Conv2d(3, 3, 3, padding=1))
    Path("net.pth").write_bytes(b"weights")
    write_smooth_film(Path("film.mp4"), 3)
    [result] = run("film.mp4", of_clips=False)
    assert (result.num_tiles, result.tile_size[0]) == (3 * 2 * 3, 1)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"codec": "nonsense"}, "codec"),
        ({"format": "jpg"}, "format"),
        ({"output": Path()}, "output"),
        ({"quality": 70}, "quality"),
        ({"rate": 0.0}, "rate"),
        ({"rate": 24.0}, "rate"),
        ({"exif": True}, "exif"),
        ({"codec": "h264", "format": "png"}, "codec"),
        ({"quality": 3, "format": "png"}, "quality"),
        ({"frames": 2}, "frames"),
        ({"noise_level": 10.0}, "noise_level"),
    ],
)
def test_options_that_do_not_fit_are_refused_before_the_work(net, monkeypatch, options, named):
    monkeypatch.setattr(net, "forward", lambda clip: pytest.fail("worked"))
    write_smooth_film(Path("film.mp4"), 3)
    with pytest.raises(ValueError, match=named):
        run("film.mp4", **options)


@pytest.mark.parametrize("options", [{"codec": "h264"}, {"rate": 25.0}, {"noise_level": 10.0}, {"frames": 4}])
def test_options_of_clips_are_refused_for_images(monkeypatch, options):
    monkeypatch.setattr(command, "load_network", lambda *_, **__: torch.nn.Conv2d(3, 3, 1))
    write_frames(Path("photographs"), smooth(1))
    with pytest.raises(ValueError, match=f"{next(iter(options))} .* must be left out for images"):
        run("photographs", of_clips=False, **options)


def test_the_stated_memory_does_not_grow_with_the_clip(net):
    short, long = (
        lay_out_clip(net, count, 720, 1280, tile=128, overlap=20, tiles=ClipTiles(16)) for count in (20, 1000)
    )
    assert host_bytes(short, 720, 1280) == host_bytes(long, 720, 1280) < 2**30
    assert json.dumps(host_bytes(long, 720, 1280))
