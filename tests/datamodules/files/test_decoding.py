"""Reading image files of every kind: the right pixels, or a refusal that names the file."""

import io
import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from datamodules.errors import DataError
from datamodules.files.images import read_image, read_image_with_metadata, write_image
from tests.datamodules.files import picture_kinds, pictures

REFUSED = list(picture_kinds.refused())
CASES = Path(__file__).parents[4] / "shared" / "cases" / "make_images.py"


def differs(got, right, tolerance):
    if got.shape != right.shape or got.dtype != right.dtype:
        return f"{got.shape} {got.dtype} instead of {right.shape} {right.dtype}"
    most = np.abs(got.astype(np.float64) - right.astype(np.float64)).max()
    return f"off by {most}" if most > tolerance else None


@pytest.mark.parametrize("kind", ["tiffs", "pngs", "others"])
def test_every_kind_is_read_to_the_right_pixels(tmp_path, kind):
    wrong = {}
    for picture in getattr(picture_kinds, kind)():
        (tmp_path / picture.name).write_bytes(picture.data)
        try:
            found = differs(read_image(tmp_path / picture.name), picture.pixels, picture.tolerance)
        except DataError as error:
            found = str(error)
        if found:
            wrong[picture.name] = found
    assert wrong == {}


@pytest.mark.parametrize(("name", "data", "reason"), REFUSED, ids=[name for name, _, _ in REFUSED])
def test_what_cannot_be_read_right_is_refused_by_name(tmp_path, capfd, name, data, reason):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=reason) as caught:
        read_image(tmp_path / name)
    assert name in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["tiffs", "pngs", "others"])
def test_truncated_files_are_refused(tmp_path, kind):
    read = []
    for picture in getattr(picture_kinds, kind)():
        if "behind" in picture.name or "orientation" in picture.name:
            continue
        for part in (0.3, 0.7, 0.97):
            path = tmp_path / picture.name
            path.write_bytes(picture.data[: int(len(picture.data) * part)])
            try:
                image = read_image(path)
            except DataError:
                continue
            if differs(image, picture.pixels, picture.tolerance):
                read.append(f"{picture.name} at {part}")
    assert read == []


@pytest.mark.parametrize("kind", ["png", "jpg", "webp", "tif"])
def test_profile_and_exif_are_read_without_what_no_longer_holds(tmp_path, kind):
    names = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "tif": "TIFF"}
    path = tmp_path / f"a.{kind}"
    said = pictures.exif(orientation=6)
    path.write_bytes(pictures.by_pillow(pictures.pixels(), names[kind], exif=said, icc_profile=pictures.srgb()))
    metadata = read_image_with_metadata(path)[1]
    assert metadata.profile == pictures.srgb()
    assert metadata.lost == ()
    found = Image.Exif()
    found.load(metadata.exif)
    assert dict(found) | {0x8769: None} == {0x010F: "Maker", 0x8769: None}
    assert found.get_ifd(0x8769) == {0x9003: "2026:01:02 03:04:05"}


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_texts_in_exif_keep_every_byte(tmp_path, suffix, encoding):
    artist, camera = "Zoë Müller".encode(encoding), "Caméra".encode(encoding)
    first = b"II*\0\x08\0\0\0" + pictures.text_entries({0x013B: artist}, offset=8, pointer=0x8769)
    said = first + pictures.text_entries({0xA434: camera}, offset=len(first))
    (tmp_path / "a.png").write_bytes(pictures.png(pictures.pixels(), 8, 2, (b"eXIf", said)))
    image, metadata = read_image_with_metadata(tmp_path / "a.png")
    assert metadata.lost == ()
    write_image(tmp_path / f"b{suffix}", image, metadata=metadata)
    found = Image.open(io.BytesIO((tmp_path / f"b{suffix}").read_bytes())).getexif()
    assert found[0x013B].encode("latin-1") == artist
    assert found.get_ifd(0x8769)[0xA434].encode("latin-1") == camera


@pytest.mark.parametrize(("channels", "space"), [(3, b"CMYK"), (3, b"GRAY"), (1, b"RGB "), (4, b"Lab ")])
def test_profile_of_other_pixels_is_lost_and_said_to_be(tmp_path, channels, space):
    array = pictures.pixels(channels)
    path = tmp_path / "a.tif"
    path.write_bytes(
        pictures.by_tifffile(
            array.squeeze(),
            photometric="rgb" if channels > 1 else "minisblack",
            extrasamples=["unassalpha"] if channels == 4 else None,
            iccprofile=pictures.profile_of(space),
        )
    )
    image, metadata = read_image_with_metadata(path)
    np.testing.assert_array_equal(image, array)
    assert metadata.profile is None
    assert metadata.lost == (f"colour profile (of {space.decode().strip()} pixels)",)


def test_inks_are_converted_by_their_profile(tmp_path, monkeypatch):
    used = []

    def convert(image, profile, *_, outputMode):
        used.append(profile)
        return image.convert(outputMode)

    monkeypatch.setattr(ImageCms, "profileToProfile", convert)
    buffer = io.BytesIO()
    Image.fromarray(pictures.pixels()).convert("CMYK").save(
        buffer, "JPEG", icc_profile=pictures.profile_of(b"CMYK"), quality=100
    )
    (tmp_path / "a.jpg").write_bytes(buffer.getvalue())
    image, metadata = read_image_with_metadata(tmp_path / "a.jpg")
    assert image.shape[2] == 3
    assert used[0].getvalue() == pictures.profile_of(b"CMYK")
    assert metadata.lost == ("colour profile (of CMYK pixels)",)


@pytest.mark.parametrize("damage", [b"", b"II*\0", b"II*\0\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff" + bytes(40)])
def test_damaged_exif_leaves_the_pixels_alone(tmp_path, damage):
    path = tmp_path / "a.png"
    path.write_bytes(pictures.png(pictures.pixels(), 8, 2, (b"eXIf", damage)))
    image, metadata = read_image_with_metadata(path)
    np.testing.assert_array_equal(image, pictures.pixels())
    assert metadata.exif is None


@pytest.mark.parametrize("place", ["IDAT", "tRNS", "IHDR", "IEND"])
def test_damaged_chunk_of_a_png_is_refused_without_lines_of_libraries(tmp_path, capfd, place):
    data = bytearray(pictures.png(pictures.pixels(1), 8, 0, (b"tRNS", b"\0")))
    data[data.index(place.encode()) + (5 if place != "IEND" else 4)] ^= 64
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(DataError, match=r"a\.png must be a complete image file"):
        read_image(tmp_path / "a.png")
    assert capfd.readouterr() == ("", "")


def test_pages_in_a_circle_are_refused(tmp_path):
    data = bytearray(pictures.by_tifffile(pictures.pixels(), photometric="rgb"))
    first = int.from_bytes(data[4:8], "little")
    end = first + 2 + 12 * int.from_bytes(data[first : first + 2], "little")
    data[end : end + 4] = data[4:8]
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(DataError, match="in a circle"):
        read_image(tmp_path / "a.tif")


@pytest.mark.skipif(not CASES.exists(), reason=f"{CASES} is not there: it lies beside a checkout of the maintainers")
def test_every_image_of_the_shared_cases_is_read(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["make_images.py", str(tmp_path)])
    runpy.run_path(str(CASES))
    wrong = {}
    for name in json.loads((tmp_path / "index.json").read_text()):
        right = np.load((tmp_path / name).with_suffix(".npy"))
        # Within a JPEG's loss; of CMYK within 2 levels.
        tolerance = 40 if name.endswith("jpg") else 2 if name.startswith("cmyk") else 0
        image, metadata = read_image_with_metadata(tmp_path / name)
        if found := differs(image, right, tolerance):
            wrong[name] = found
        if name.startswith("profile") and not metadata.profile:
            wrong[name] = "without its profile"
    assert wrong == {}
