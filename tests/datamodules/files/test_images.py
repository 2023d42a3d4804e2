"""Reading, writing and converting images."""

import os
import re

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.errors import DataError
from datamodules.files.images import (
    convert_channels,
    jpeg_library,
    list_images,
    read_image,
    to_array,
    to_tensor,
    write_image,
)


def random_image(rng, dtype, channels, size=(7, 9)):
    if np.dtype(dtype).kind == "f":
        return rng.random((*size, channels), np.float32)
    return rng.integers(0, np.iinfo(dtype).max, (*size, channels), dtype, endpoint=True)


@pytest.mark.parametrize(
    ("suffix", "dtype", "channels"),
    [
        *((".png", dtype, channels) for dtype in (np.uint8, np.uint16) for channels in (1, 3, 4)),
        *((".tiff", dtype, channels) for dtype in (np.uint8, np.uint16, np.float32) for channels in (1, 3, 4)),
        *((".BMP", np.uint8, channels) for channels in (1, 3)),
        (".webp", np.uint8, 3),
    ],
)
def test_type_and_channels_survive_writing_and_reading(tmp_path, rng, suffix, dtype, channels):
    image = random_image(rng, dtype, channels)
    write_image(tmp_path / f"image{suffix}", image)
    read = read_image(tmp_path / f"image{suffix}")
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, image)


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_keeps_its_channels_and_their_order(tmp_path, channels):
    image = np.full((16, 16, channels), [200, 100, 30][:channels], np.uint8)
    write_image(tmp_path / "image.jpg", image)
    read = read_image(tmp_path / "image.jpg")
    assert read.shape == image.shape
    assert np.abs(read.astype(int) - image).max() <= 3


def test_colours_are_in_rgb_order(tmp_path):
    Image.new("RGB", (3, 2), (255, 128, 0)).save(tmp_path / "orange.png")
    assert read_image(tmp_path / "orange.png")[0, 0].tolist() == [255, 128, 0]
    write_image(tmp_path / "again.png", read_image(tmp_path / "orange.png"))
    assert Image.open(tmp_path / "again.png").getpixel((0, 0)) == (255, 128, 0)


def test_grey_with_alpha_comes_back_as_rgba(tmp_path):
    Image.new("LA", (3, 2), (90, 40)).save(tmp_path / "image.png")
    assert read_image(tmp_path / "image.png")[0, 0].tolist() == [90, 90, 90, 40]


def test_suffix_does_not_decide_how_to_read(tmp_path, rng):
    image = random_image(rng, np.uint8, 3)
    write_image(tmp_path / "image.png", image)
    (tmp_path / "image.png").rename(tmp_path / "image.jpg")
    np.testing.assert_array_equal(read_image(tmp_path / "image.jpg"), image)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp", ".webp"])
def test_truncated_image_is_refused_by_name(tmp_path, rng, suffix, capfd):
    path = tmp_path / f"broken{suffix}"
    write_image(path, random_image(rng, np.uint8, 3, (64, 64)))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=rf"broken\{suffix} must be a complete image file"):
        read_image(path)
    assert "ERROR" not in capfd.readouterr().err


@pytest.mark.parametrize(("suffix", "start"), [(".jpg", b"\xff\xd8\xff"), (".png", b"\x89PNG\r\n")])
def test_file_without_its_end_is_refused_before_decoding(tmp_path, rng, monkeypatch, suffix, start):
    path = tmp_path / f"broken{suffix}"
    write_image(path, random_image(rng, np.uint8, 3, (64, 64)))
    assert path.read_bytes().startswith(start)
    path.write_bytes(path.read_bytes()[:-20])
    # As OpenCV 4, which fills the missing part with grey.
    monkeypatch.setattr(cv2, "imdecodeWithMetadata", lambda data, *, flags: (np.zeros((64, 64, 3), np.uint8), [], []))
    with pytest.raises(DataError, match="truncated"):
        read_image(path)


@pytest.mark.parametrize("content", [b"", b"no image at all", bytes(1000)])
def test_what_is_no_image_is_refused_by_name(tmp_path, content):
    (tmp_path / "notes.png").write_bytes(content)
    with pytest.raises(DataError, match=r"notes\.png must be a complete image file"):
        read_image(tmp_path / "notes.png")


def test_error_of_the_decoder_names_the_file(tmp_path, rng, monkeypatch):
    write_image(tmp_path / "huge.png", random_image(rng, np.uint8, 3))

    def fail(data, *, flags):
        error = cv2.error("OpenCV: too many pixels in file.cpp")
        error.err = "too many pixels"
        raise error

    monkeypatch.setattr(cv2, "imdecodeWithMetadata", fail)
    with pytest.raises(DataError, match=r"huge\.png must be a complete image file, got: too many pixels"):
        read_image(tmp_path / "huge.png")


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.mkdir(), lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_regular_file_is_never_read(tmp_path, make):
    make(tmp_path / "image.png")
    with pytest.raises(DataError, match=r"image\.png must be a regular file"):
        read_image(tmp_path / "image.png")
    (tmp_path / "sound.png").touch()
    assert [path.name for path in list_images(tmp_path)] == ["sound.png"]


def test_missing_image_is_refused_by_name(tmp_path):
    with pytest.raises(DataError, match=r"gone\.png must be a readable file, got: No such file"):
        read_image(tmp_path / "gone.png")


def test_pixels_of_another_type_are_refused(tmp_path):
    cv2.imwrite(str(tmp_path / "image.tif"), np.zeros((4, 4, 3), np.int32))
    with pytest.raises(DataError, match="8- or 16-bit or float pixels, got int32"):
        read_image(tmp_path / "image.tif")


def test_float64_is_read_as_float32(tmp_path):
    cv2.imwrite(str(tmp_path / "image.tif"), np.full((4, 4), 0.25))
    image = read_image(tmp_path / "image.tif")
    assert image.dtype == np.float32
    assert (image == 0.25).all()


@pytest.mark.parametrize("value", [-0.1, 1.5, np.nan])
def test_float_pixels_outside_zero_to_one_are_refused(tmp_path, value):
    cv2.imwrite(str(tmp_path / "image.tif"), np.full((4, 4, 3), value, np.float32))
    with pytest.raises(DataError, match=r"must lie in \[0, 1\]"):
        read_image(tmp_path / "image.tif")


@pytest.mark.parametrize(
    ("name", "dtype", "channels", "message"),
    [
        ("image.xyz", np.uint8, 3, r"must be one of \.png"),
        ("image", np.uint8, 3, "got ''"),
        ("image.jpg", np.uint16, 3, r"must hold uint8, got uint16; write \.png, \.tif, \.tiff"),
        ("image.png", np.float32, 3, r"must hold uint8 or uint16, got float32; write \.tif, \.tiff"),
        ("image.png", np.float64, 3, "got float64; convert the array"),
        ("image.jpg", np.uint8, 4, "must have 1 or 3 channels, got 4"),
        ("image.png", np.uint8, 2, "must have 1 or 3 or 4 channels, got 2"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(tmp_path, name, dtype, channels, message):
    with pytest.raises(ValueError, match=message):
        write_image(tmp_path / name, np.zeros((4, 4, channels), dtype))
    assert not any(tmp_path.iterdir())


def test_array_without_channels_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"shape \(H, W, C\)"):
        write_image(tmp_path / "image.png", np.zeros((4, 4), np.uint8))


def test_failed_write_leaves_the_former_file_and_nothing_else(tmp_path, rng, monkeypatch):
    image = random_image(rng, np.uint8, 3)
    write_image(tmp_path / "image.png", image)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_image(tmp_path / "image.png", 255 - image)
    assert [path.name for path in tmp_path.iterdir()] == ["image.png"]
    np.testing.assert_array_equal(read_image(tmp_path / "image.png"), image)


def test_images_are_listed_in_order(tmp_path):
    for name in ("b.PNG", "a.jpg", "c.Tiff", ".hidden.png", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in list_images(tmp_path)] == ["a.jpg", "b.PNG", "c.Tiff"]


def test_links_to_folders_and_images_are_followed(tmp_path, rng):
    write_image(tmp_path / "image.png", random_image(rng, np.uint8, 3))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "linked.png").symlink_to(tmp_path / "image.png")
    (tmp_path / "folder" / "dangling.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    dangling, linked = list_images(tmp_path / "link")
    assert read_image(linked).shape == (7, 9, 3)
    with pytest.raises(DataError, match="dangling"):
        read_image(dangling)


def test_missing_folder_is_named_with_its_argument(tmp_path):
    with pytest.raises(DataError, match=r"data\.root \(.*gone\) must be an existing folder.*check the path"):
        list_images(tmp_path / "gone", "data.root")


def test_file_in_place_of_a_folder_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="got a file"):
        list_images(tmp_path / "file")


def test_folder_without_images_is_refused(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match=r"data\.root .* must hold images .*got 1 other entries"):
        list_images(tmp_path, "data.root")


def test_unreadable_folder_is_refused(tmp_path, monkeypatch):
    def deny(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(tmp_path), "iterdir", deny)
    with pytest.raises(DataError, match="must be readable, got Permission denied"):
        list_images(tmp_path)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_level_survives_the_tensor(dtype):
    levels = np.arange(np.iinfo(dtype).max + 1, dtype=dtype).reshape(16, -1, 1)
    tensor = to_tensor(levels)
    assert tensor.dtype == torch.float32
    assert tensor.shape == (1, *levels.shape[:2])
    assert (tensor.min(), tensor.max()) == (0, 1)
    np.testing.assert_array_equal(to_array(tensor, dtype), levels)


def test_float_image_survives_the_tensor_unrounded(rng):
    image = random_image(rng, np.float32, 3)
    tensor = to_tensor(image)
    np.testing.assert_array_equal(to_array(tensor, np.float32), image)
    tensor.zero_()
    assert image.any()


def test_array_is_clamped_and_rounded_half_to_even():
    values = torch.tensor([-0.2, 1.3, 0.5 / 255, 1.5 / 255, 2.5 / 255], dtype=torch.float64).view(1, 1, -1)
    assert to_array(values).ravel().tolist() == [0, 255, 0, 2, 2]


def test_bfloat16_with_gradients_becomes_an_array():
    assert to_array(torch.ones(3, 2, 2, dtype=torch.bfloat16, requires_grad=True)).tolist() == [[[255] * 3] * 2] * 2


def test_nan_never_becomes_an_image():
    with pytest.raises(ValueError, match="got NaN"):
        to_array(torch.full((3, 2, 2), torch.nan))


@pytest.mark.parametrize(
    "convert", [lambda: to_tensor(np.zeros((2, 2, 3))), lambda: to_array(torch.ones(3, 2, 2), int)]
)
def test_other_pixel_types_are_refused(convert):
    with pytest.raises(TypeError, match="uint8, uint16 or float32, got"):
        convert()


@pytest.mark.parametrize(
    "convert", [lambda: to_tensor(np.zeros((2, 2), np.uint8)), lambda: to_array(torch.ones(1, 3, 2, 2))]
)
def test_other_shapes_are_refused(convert):
    with pytest.raises(ValueError, match="must have shape"):
        convert()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_channels_are_dropped_repeated_or_weighed(dtype):
    white = 1 if dtype == np.float32 else np.iinfo(dtype).max
    rgba = np.array([[[white, 0, 0, 7]]], dtype)
    assert convert_channels(rgba, 3).tolist() == [[[white, 0, 0]]]
    assert convert_channels(rgba[..., :1], 3).tolist() == [[[white] * 3]]
    np.testing.assert_allclose(convert_channels(rgba, 1), [[[0.299 * white]]], atol=1.5 if white > 1 else 1e-6)


def test_the_jpeg_library_is_named_with_its_version():
    assert re.search(r"jpeg.*\d+\.\d+", jpeg_library())
