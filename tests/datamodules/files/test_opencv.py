"""Libraries that decode are silent, and leave the process as it was."""

import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import cv2
import numpy as np
import pytest
from PIL import Image

from datamodules.files.images import read_image, write_image
from datamodules.files.opencv import silent_decoders
from tests.datamodules.files.pictures import pixels


@contextmanager
def error_output(path):
    """The process's standard error goes to a file; what it was comes back."""
    kept = os.dup(2)
    with path.open("w") as file:
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def process_settings():
    return Image.MAX_IMAGE_PIXELS, warnings.filters[:], cv2.utils.logging.getLogLevel(), os.fstat(2).st_ino


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_standard_error_and_settings_outlive_reading_in_threads(tmp_path, suffix):
    image = tmp_path / f"image{suffix}"
    write_image(image, pixels())
    with error_output(tmp_path / "errors.txt"):
        before = process_settings()
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(read_image, [image] * 200))
        assert process_settings() == before


def test_all_that_overlaps_is_silent_and_the_last_to_leave_restores_all(tmp_path):
    with error_output(tmp_path / "errors.txt"):
        before = process_settings()
        first, second = silent_decoders(), silent_decoders()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        os.write(2, b"of a library")
        second.__exit__(None, None, None)
        assert process_settings() == before
    assert (tmp_path / "errors.txt").read_text() == ""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_process_forked_while_a_thread_reads_keeps_its_standard_error(tmp_path):
    with error_output(tmp_path / "errors.txt"), silent_decoders():
        child = os.fork()
        if child == 0:
            os.write(2, b"of the child")
            os._exit(0)
        os.waitpid(child, 0)
    assert (tmp_path / "errors.txt").read_text() == "of the child"


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_images_are_read_where_standard_error_is_closed(tmp_path, suffix):
    write_image(tmp_path / f"image{suffix}", pixels())
    with error_output(tmp_path / "errors.txt"):
        os.close(2)
        np.testing.assert_array_equal(read_image(tmp_path / f"image{suffix}"), pixels())
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(2)
