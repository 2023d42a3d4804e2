"""Results of the verb `restore`: formats, profiles, names, and never one over a given photograph."""

import errno
import io
import os
import sys

import numpy as np
import pytest
from PIL import Image

from datamodules.errors import DataError
from datamodules.files.images import read_image, read_image_with_metadata, write_image
from tests.datamodules.files import pictures
from tests.trainers.commands.restore.test_command import Net, half, picture, run, use  # noqa: F401  # use: a fixture
from trainers.cli.main import main
from trainers.commands.restore import targets as targets_module
from trainers.tiling import arrays

KINDS = {"png": "PNG", "webp": "WEBP", "tif": "TIFF", "jpg": "JPEG", "bmp": "BMP"}


@pytest.fixture
def network(use):  # noqa: F811
    return use(Net())


def photograph(path, kind, orientation=6):
    """A lying photograph with a profile and EXIF."""
    options = {"lossless": True} if kind == "webp" else {}
    if kind != "bmp":
        options |= {"exif": pictures.exif(orientation), "icc_profile": pictures.srgb()}
    path.write_bytes(pictures.by_pillow(pictures.lying(pictures.pixels(), orientation), KINDS[kind], **options))


@pytest.mark.parametrize("kind", ["png", "webp", "tif", "jpg"])
@pytest.mark.parametrize("format", ["same", "png", "webp", "tif", "jpg"])
def test_profile_and_exif_are_kept_and_the_result_is_upright(network, tmp_path, kind, format):
    photograph(tmp_path / f"a.{kind}", kind)
    [image] = run([tmp_path / f"a.{kind}"], tmp_path / "out", format=format, exif=True)
    assert image.target.suffix == f".{kind if format == 'same' else format}"
    assert image.lost == ()
    found = Image.open(io.BytesIO(image.target.read_bytes()))
    assert found.format == KINDS[image.target.suffix[1:]]
    assert found.info["icc_profile"] == pictures.srgb()
    said = found.getexif()
    assert (said[0x010F], said.get(0x0112, 1)) == ("Maker", 1)
    assert said.get_ifd(0x8769) == {0x9003: "2026:01:02 03:04:05"}
    tolerance = 1 if kind != "jpg" and image.target.suffix != ".jpg" else 90
    np.testing.assert_allclose(read_image(image.target), half(pictures.pixels()), atol=tolerance)


def test_deep_results_keep_profile_and_exif_too(network, tmp_path):
    profile = pictures.srgb()
    for name, dtype in (("a.png", np.uint16), ("b.tif", np.uint16), ("c.tif", np.float32)):
        source = read_image_with_metadata(tmp_path / "a.jpg")[1] if (tmp_path / "a.jpg").exists() else None
        if source is None:
            photograph(tmp_path / "a.jpg", "jpg")
            source = read_image_with_metadata(tmp_path / "a.jpg")[1]
        write_image(tmp_path / name, pictures.pixels(3, dtype), metadata=source)
        [image] = run([tmp_path / name], tmp_path / "out", exif=True)
        array, metadata = read_image_with_metadata(image.target)
        assert array.dtype == dtype
        assert (metadata.profile, metadata.exif) == (profile, source.exif)


def test_exif_is_handed_on_only_if_asked_for(network, tmp_path):
    photograph(tmp_path / "a.jpg", "jpg")
    [image] = run([tmp_path / "a.jpg"], tmp_path / "out")
    assert read_image_with_metadata(image.target)[1].exif is None
    assert image.lost == ()


def test_what_a_format_cannot_hold_is_said_to_be_lost(network, tmp_path, capsys):
    photograph(tmp_path / "a.jpg", "jpg")
    [image] = run([tmp_path / "a.jpg"], tmp_path / "out", format="bmp", exif=True)
    assert image.lost == ("colour profile (a .bmp holds none)", "EXIF (a .bmp holds none)")
    assert "colour profile" in capsys.readouterr().out


def test_large_profiles_fit_into_a_jpeg(network, tmp_path):
    profile = pictures.srgb() + bytes(200_000)
    profile = len(profile).to_bytes(4, "big") + profile[4:]
    (tmp_path / "a.jpg").write_bytes(pictures.by_pillow(pictures.pixels(), "JPEG", icc_profile=profile))
    [image] = run([tmp_path / "a.jpg"], tmp_path / "out", format="same")
    assert Image.open(io.BytesIO(image.target.read_bytes())).info["icc_profile"] == profile


def test_quality_acts_on_jpeg_and_webp(network, tmp_path):
    photograph(tmp_path / "a.jpg", "jpg")
    for format in ("jpg", "webp"):
        sizes = [
            run([tmp_path / "a.jpg"], tmp_path / "out", format=format, overwrite=True, quality=quality)[0].target.stat()
            for quality in (10, 90)
        ]
        assert sizes[0].st_size < sizes[1].st_size
    for quality, format, message in ((0, "jpg", "lie in"), (101, "webp", "lie in"), (90, "png", "JPEG or WebP")):
        with pytest.raises(ValueError, match=rf"quality \({quality}\) must .*{message}"):
            run([tmp_path / "a.jpg"], tmp_path / "out", format=format, quality=quality)


@pytest.mark.parametrize(
    ("array", "format", "reason"),
    [
        (np.zeros((2, 9000, 3), np.uint8), "webp", "1 to 16383 pixels, got 18000×4"),
        (np.zeros((2, 40000, 3), np.uint8), "jpg", "1 to 65500 pixels, got 80000×4"),
        (picture(channels=4), "jpg", "1 or 3 channels, got 4"),
        (picture(dtype=np.uint16), "bmp", "must hold uint8, got uint16"),
        (picture(channels=1), "webp", "3 or 4 channels, got 1"),
    ],
)
def test_result_that_a_format_cannot_hold_fails_alone_before_the_network_runs(
    use, tmp_path, monkeypatch, array, format, reason  # noqa: F811
):  # fmt: skip
    use(Net(scale=2))
    restored = []
    run_bands = arrays.restore_bands
    monkeypatch.setattr(
        arrays, "restore_bands", lambda *args, **options: restored.append(args) or run_bands(*args, **options)
    )
    (tmp_path / "in").mkdir()
    write_image(tmp_path / "in" / "a.png", array)
    write_image(tmp_path / "in" / "b.png", picture())
    with pytest.raises(DataError, match=r"images \(1 of 2\) could not be restored, the others were") as caught:
        run([tmp_path / "in"], tmp_path / "out", format=format)
    assert reason in str(caught.value)
    assert "--format" in str(caught.value)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [f"b.{format}"]
    assert len(restored) == 1


def link_folder(folder):
    (folder / "out").symlink_to(folder, target_is_directory=True)
    return folder / "out", ""


def link_file(folder):
    (folder / "out").mkdir()
    (folder / "out" / "a.png").symlink_to(folder / "a_r.png")
    return folder / "out", ""


def hard_link(folder):
    (folder / "out").mkdir()
    (folder / "out" / "a.png").hardlink_to(folder / "a_r.png")
    return folder / "out", ""


@pytest.mark.parametrize(
    "place",
    [
        lambda folder: (folder, "_r"),
        lambda folder: (folder, ""),
        lambda folder: (folder / ".." / folder.name, "_r"),
        link_folder,
        link_file,
        hard_link,
    ],
    ids=["suffix", "same", "detour", "linked folder", "link", "hard link"],
)
@pytest.mark.parametrize("given", ["files", "folder"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_no_result_replaces_a_given_photograph(network, tmp_path, place, given, overwrite):
    folder = tmp_path / "photographs"
    folder.mkdir()
    for name in ("a.png", "a_r.png", "z.png"):
        write_image(folder / name, picture())
    before = {name: (folder / name).read_bytes() for name in ("a.png", "a_r.png", "z.png")}
    output, suffix = place(folder)
    images = [folder] if given == "folder" else [folder / "z.png", folder / "a.png", folder / "a_r.png"]
    try:
        run(images, output, suffix=suffix, overwrite=overwrite)
    except DataError as error:
        assert "must not replace the image" in str(error)  # noqa: PT017
        assert network.seen == []
    else:
        # The image of a searched folder may be the result of a former run: it is kept.
        assert given == "folder"
        assert not overwrite
    assert before == {name: (folder / name).read_bytes() for name in before}


def test_names_that_differ_in_case_alone_do_not_replace_each_other(network, tmp_path, monkeypatch):
    for folder, name in (("1", "a.png"), ("2", "A.png")):
        write_image(tmp_path / folder / name, picture())
    # As a file system that knows no case has it.
    monkeypatch.setattr("trainers.commands.restore.images.identity", lambda path: str(path).casefold())
    with pytest.raises(DataError, match=r"images \(1 of 2\)[\s\S]*must not replace another one's"):
        run([tmp_path / "1", tmp_path / "2"], tmp_path / "out")


def test_empty_files_are_no_results_and_folders_and_pipes_are_in_the_way(network, tmp_path):
    for name in ("a", "b", "c", "d"):
        write_image(tmp_path / "in" / f"{name}.png", picture())
    (tmp_path / "out" / "b.png").mkdir(parents=True)
    os.mkfifo(tmp_path / "out" / "c.png")
    for name in ("a", "d"):
        (tmp_path / "out" / f"{name}.png").touch()
    with pytest.raises(DataError, match=r"images \(2 of 4\) could not be restored, the others were") as caught:
        run([tmp_path / "in"], tmp_path / "out")
    assert str(caught.value).count("must be a file, got a folder, a pipe or a device") == 2
    for name in ("a", "d"):
        assert read_image(tmp_path / "out" / f"{name}.png").shape == (37, 50, 3)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_pipes_and_devices_are_no_images(network, tmp_path, make):
    write_image(tmp_path / "in" / "a.png", picture())
    make(tmp_path / "in" / "x.png")
    assert len(run([tmp_path / "in"], tmp_path / "out")) == 1
    with pytest.raises(DataError, match="got a pipe or a device"):
        run([tmp_path / "in" / "x.png"], tmp_path / "out")


def test_long_names_are_written_and_too_long_ones_fail_alone(network, tmp_path):
    names = ["a" * 251, "ü" * 125, "b" * 240]
    for name in names:
        write_image(tmp_path / "in" / f"{name}.png", picture())
    assert len(run([tmp_path / "in"], tmp_path / "out")) == 3
    with pytest.raises(DataError, match=r"images \(2 of 3\) could not be restored, the others were") as caught:
        run([tmp_path / "in"], tmp_path / "out", suffix="_clean")
    assert "must be a possible name, got: File name too long" in str(caught.value)
    assert (tmp_path / "out" / f"{'b' * 240}_clean.png").exists()
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]


def test_one_image_without_memory_leaves_the_others_restored(network, tmp_path, monkeypatch):
    for name in ("a", "b"):
        write_image(tmp_path / "in" / f"{name}.png", picture(height=20 if name == "b" else 37))
    empty = np.empty

    def scarce(shape, *args, **options):
        if shape == (37, 50, 3):
            raise MemoryError
        return empty(shape, *args, **options)

    monkeypatch.setattr(arrays.np, "empty", scarce)
    with pytest.raises(DataError, match=r"1 of 2\) could not be restored, the others were[\s\S]*memory of cpu ran out"):
        run([tmp_path / "in"], tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b.png"]


def test_a_full_disk_ends_the_command_and_the_table_says_what_is_done(network, tmp_path, monkeypatch, capsys):
    for name in ("a", "b", "c"):
        write_image(tmp_path / "in" / f"{name}.png", picture())
    sync, calls = os.fsync, []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) > 2:  # a file and its folder
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ValueError, match=r"output \(.*b\.png\) must be writable, got: No space left"):
        run([tmp_path / "in"], tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]
    assert capsys.readouterr().out.count("not restored") == 2


def test_overlap_is_refused_where_nothing_overlaps(network, tmp_path):
    write_image(tmp_path / "a.png", picture())
    with pytest.raises(ValueError, match=r"overlap \(6\) must be null where whole images are restored"):
        run([tmp_path / "a.png"], tmp_path / "out", tile=None, overlap=6)


def test_options_are_checked_where_nothing_is_left_to_restore(network, tmp_path):
    write_image(tmp_path / "a.png", picture())
    run([tmp_path / "a.png"], tmp_path / "out")
    with pytest.raises(ValueError, match=r"device \(nonsense\) must be available"):
        run([tmp_path / "a.png"], tmp_path / "out", device="nonsense")


@pytest.mark.parametrize("suffix", ["/x", "../x", "a\0"])
def test_suffix_is_no_path(network, tmp_path, suffix):
    write_image(tmp_path / "a.png", picture())
    with pytest.raises(DataError, match="must be a part of a file's name"):
        run([tmp_path / "a.png"], tmp_path / "out", suffix=suffix)


def test_an_image_that_is_given_twice_is_restored_once(network, tmp_path):
    write_image(tmp_path / "in" / "a.png", picture())
    assert len(targets_module.name_targets([tmp_path / "in", tmp_path / "in" / "a.png"], tmp_path / "out")) == 1


@pytest.mark.skipif(os.name != "posix", reason="other systems' names are always text")
def test_names_that_are_no_text_are_restored_and_printed(network, tmp_path, monkeypatch):
    name = os.fsdecode(b"gar\xe7on.png")
    write_image(tmp_path / "in" / name, picture())
    (tmp_path / "in" / os.fsdecode(b"broken\xff.png")).touch()
    with open(tmp_path / "said", "w", encoding="utf-8") as said:  # noqa: PTH123
        monkeypatch.setattr("sys.stdout", said)
        monkeypatch.setattr("sys.stderr", said)
        monkeypatch.setattr(sys.modules[main.__module__], "_run", lambda _: run([tmp_path / "in"], tmp_path / "out"))
        assert main([]) == 2
    assert "1 of 2" in (tmp_path / "said").read_text(encoding="utf-8")
    assert read_image(tmp_path / "out" / name).shape == (37, 50, 3)
