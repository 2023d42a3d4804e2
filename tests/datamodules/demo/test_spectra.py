"""Bundled spectra."""

import numpy as np
import pytest

from datamodules.demo.spectra import WAVELENGTHS, camera, daylight, reflectances


def test_spectra_are_the_measured_ones():
    assert (len(WAVELENGTHS), WAVELENGTHS[0], WAVELENGTHS[-1]) == (31, 400, 700)
    for chart, patches in (("ColorChecker", 24), ("PMC", 30)):
        table = np.stack(list(reflectances(chart).values()))
        assert table.shape == (patches, 31)
        assert 0.03 < table.min() < table.max() < 0.95
    # Red reflects long waves, white paper all; D65 is 100 at 560 nm by definition.
    red, white = reflectances("ColorChecker")["red"], reflectances("ColorChecker")["white 9.5 (.05 D)"]
    assert red[-1] > 10 * red[0]
    assert white[5:].min() > 0.87
    assert daylight()[WAVELENGTHS.index(560)] == 100
    peaks = [WAVELENGTHS[index] for index in camera().argmax(1)]
    assert peaks == sorted(peaks, reverse=True)
    assert 440 <= peaks[2] < peaks[1] < peaks[0] <= 620
    with pytest.raises(ValueError, match="read-only"):
        daylight()[0] = 0
    with pytest.raises(ValueError, match=r"chart \(Munsell\) must be one of ColorChecker, PMC"):
        reflectances("Munsell")
