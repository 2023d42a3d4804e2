"""Habits of OpenCV and of the libraries beneath: the order of channels, and lines that they write."""

import logging
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image


def swap_red_and_blue(image: NDArray) -> NDArray:
    """Turn (H, W, C) from RGB or RGBA into OpenCV's order, or back; grey stays."""
    image = np.ascontiguousarray(image)
    if image.shape[2] == 1:
        return image
    # Many times as fast as indexing.
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB if image.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)


@contextmanager
def silent_decoders() -> Iterator[None]:
    """Keep the lines of image libraries from standing beside the one message that the user needs.

    What is set for that holds for the whole process: the first thread that decodes sets it, the last one resets it.
    """
    _SILENCE.enter()
    try:
        yield
    finally:
        _SILENCE.leave()


class _Silence:
    """The silence that all threads share while any of them decodes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._former = ExitStack()
        if hasattr(os, "register_at_fork"):
            # Of a process that a thread forks while others decode, those others are no part.
            os.register_at_fork(
                before=self._lock.acquire, after_in_parent=self._lock.release, after_in_child=self._begin_child
            )

    def enter(self) -> None:
        with self._lock:
            if self._users == 0:
                self._former = _silence()
            self._users += 1

    def leave(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._former.close()

    def _begin_child(self) -> None:
        self._users = 0
        self._former.close()
        self._lock.release()


def _silence() -> ExitStack:
    """Silence the libraries; closing what is returned restores all."""
    with ExitStack() as former:
        former.callback(
            cv2.utils.logging.setLogLevel, cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        )
        tifffile = logging.getLogger("tifffile")
        former.callback(setattr, tifffile, "disabled", tifffile.disabled)
        tifffile.disabled = True
        # Pillow refuses pictures over 179 megapixels, which panoramas have, and warns of oddities that change no pixel.
        former.callback(setattr, Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
        Image.MAX_IMAGE_PIXELS = None
        former.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        # libpng, libjpeg and libtiff write to the process's standard error, whatever Python thinks that is.
        try:
            kept = os.dup(2)
        except OSError:
            # It is closed, as of some services, so that nobody reads what they write.
            return former.pop_all()
        former.callback(os.close, kept)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        former.callback(os.dup2, kept, 2)
        os.dup2(nowhere, 2)
        os.close(nowhere)
        return former.pop_all()


_SILENCE = _Silence()
