"""Films: every frame by its number, damaged ones named, written as the film that they were read from."""

import sys
from fractions import Fraction

import numpy as np
import pytest

from datamodules.clips.film_writer import FilmOptions, choose_encoder, write_film
from datamodules.clips.films import Film
from datamodules.clips.frames import open_clip, read_frames
from datamodules.errors import DataError
from tests.datamodules.clips.making import smooth, write_smooth_film

av = pytest.importorskip("av")


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp4", "h264"),
        ("a.mkv", "hevc"),
        ("a.mov", "mpeg4"),
        ("a.webm", "vp9"),
        ("a.mkv", "ffv1"),
        ("a.avi", "mpeg4"),
        ("a.ts", "h264"),
    ],
)
def test_a_film_gives_every_frame_by_its_number(tmp_path, name, codec):
    film = Film(write_smooth_film(tmp_path / name, codec=codec))
    assert len(film) == 8
    expected = smooth()
    for start, stop in ((0, 8), (5, 7), (7, 8)):
        read = read_frames(film, start, stop)
        assert read.shape == expected[start:stop].shape
        assert np.abs(read.astype(int) - expected[start:stop]).mean() < 4


def test_a_film_of_ten_bits_keeps_them(tmp_path):
    path = tmp_path / "deep.mkv"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 16, "yuv444p10le"
        for _ in range(3):
            frame = av.VideoFrame.from_ndarray(np.full((16, 32, 3), 40000, np.uint16), format="rgb48le")
            output.mux(stream.encode(frame.reformat(format="yuv444p10le")))
        output.mux(stream.encode())
    film = Film(path)
    read = read_frames(film, 0, 1)
    assert read.dtype == np.uint16
    assert abs(int(read.mean()) - 40000) < 100
    copy = tmp_path / "copy.mkv"
    write_film(copy, film.frames(0, 3), like=film, options=FilmOptions())
    assert Film(copy).format.pixels == "yuv444p10le"


@pytest.mark.parametrize(
    ("codec", "pixels", "options", "transfer", "named"),
    [
        ("ffv1", "yuva420p", {}, 1, "colours alone, got yuva420p with alpha"),
        ("ffv1", "bgra", {}, 1, "with alpha"),
        ("ffv1", "yuv420p10le", {}, 16, "standard dynamic range, got PQ"),
        ("libx264", "yuv420p", {}, 18, "standard dynamic range, got HLG"),
        ("mpeg2video", "yuv420p", {"flags": "+ildct+ilme"}, 1, "whole pictures, got two interlaced fields"),
        ("libx264", "yuv420p", {"flags": "+ildct", "x264-params": "tff=1"}, 1, "whole pictures, got two interlaced"),
        ("libx264", "yuv420p", {}, 1, None),
    ],
)
def test_films_whose_pixels_would_be_taken_for_others_are_named(tmp_path, codec, pixels, options, transfer, named):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 64, pixels
        stream.codec_context.color_trc = transfer
        for picture in smooth(3, (64, 64)):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pixels)))
        output.mux(stream.encode())
    if named is None:
        assert len(list(Film(path).frames(0, 3))) == 3
        return
    with pytest.raises(DataError, match=named):
        list(Film(path).frames(0, 3))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_truncated_film_is_named(tmp_path, suffix, share):
    path = tmp_path / f"cut{suffix}"
    write_smooth_film(path, count=60)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(DataError, match=f"cut{suffix} must be .*complete"):
        read_frames(open_clip(path), 0, 60)


@pytest.mark.parametrize("content", [b"", b"no film at all" * 100])
def test_what_is_no_film_is_named(tmp_path, content):
    path = tmp_path / "wrong.mp4"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"wrong\.mp4 must be a complete film"):
        open_clip(path)


def test_without_pyav_the_extra_is_named(tmp_path, monkeypatch):
    path = write_smooth_film(tmp_path / "film.mp4", count=2)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(DataError, match=r"lowrank-attention\[video\]"):
        Film(path)


def with_sound(path, rate=Fraction(24000, 1001)):
    """A film of H.265 with a second of a tone."""
    with av.open(str(path), "w") as output:
        pictures, sound = output.add_stream("libx265", rate=rate), output.add_stream("aac", rate=48000)
        pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
        pictures.options = {"x265-params": "log-level=none"}
        for array in smooth(24):
            output.mux(pictures.encode(av.VideoFrame.from_ndarray(array, format="rgb24")))
        output.mux(pictures.encode())
        tone = np.sin(np.arange(48000) / 20).astype(np.float32)[None]
        frame = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
        frame.sample_rate = 48000
        output.mux(sound.encode(frame))
        output.mux(sound.encode())
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_codec_times_and_sound_are_those_of_the_film(tmp_path, suffix):
    film = Film(with_sound(tmp_path / f"film{suffix}"))
    target = tmp_path / f"larger{suffix}"
    larger = (np.repeat(np.repeat(frame, 2, 0), 2, 1) for frame in film.frames(0, len(film)))
    write_film(target, larger, like=film, options=FilmOptions())
    result = Film(target)
    assert (result.format.codec, result.format.rate, result.has_sound) == ("hevc", film.format.rate, True)
    seconds = [[time * each.format.time_base for time in each.times] for each in (film, result)]
    assert seconds[0] == pytest.approx(seconds[1], abs=0.002)
    assert read_frames(result, 3, 4).shape == (1, 96, 128, 3)
    with av.open(str(film.path)) as one, av.open(str(target)) as other:
        sizes = [[packet.size for packet in each.demux(audio=0)] for each in (one, other)]
    assert sizes[0] == sizes[1]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (FilmOptions(codec="nonsense"), "codec"),
        (FilmOptions(codec="aac"), "codec"),
        (FilmOptions(codec="ffv1", quality=3), "quality"),
    ],
)
def test_a_codec_that_cannot_be_written_is_refused_before_the_work(tmp_path, options, named):
    with pytest.raises(DataError, match=named):
        choose_encoder(tmp_path / "a.mkv", None, options)


def test_a_container_that_does_not_hold_the_codec_is_named_and_leaves_nothing(tmp_path):
    with pytest.raises(DataError, match="container"):
        write_smooth_film(tmp_path / "a.webm", codec="h264")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("options", [{"quality": 64}, {"quality": -1}, {"rate": Fraction(0)}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        FilmOptions(**options)
