"""Measured spectra that come with the package: reflectances of two charts, daylight, and a camera's sensitivities.

The table `spectra.csv` states the source and the licence of each.
"""

import csv
from functools import cache
from importlib.resources import files
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

WAVELENGTHS = tuple(range(400, 701, 10))
"""Of every spectrum, in nm: the 31 bands of ARAD_1K."""

Chart = Literal["ColorChecker", "PMC"]


@cache
def reflectances(chart: Chart) -> dict[str, NDArray]:
    """Read the measured reflectances of a chart's patches.

    Args:
        chart: "ColorChecker" (24 patches) or "PMC" (30 patches, the colours of familiar things).

    Returns:
        Patch → shape (31,), float64 in [0, 1]; not writable.

    Raises:
        ValueError: if there is no such chart.
    """
    if chart not in get_args(Chart):
        raise ValueError(f"chart ({chart}) must be one of {', '.join(get_args(Chart))}")
    return _spectra("reflectance", chart)


@cache
def daylight() -> NDArray:
    """Read the relative power of CIE standard illuminant D65: shape (31,), float64, 100 at 560 nm; not writable."""
    return _spectra("illuminant", "CIE")["D65"]


@cache
def camera() -> NDArray:
    """Read a camera's relative sensitivities (Nikon D5100): shape (3, 31), red, green, blue, float64; not writable."""
    sensitivities = _spectra("camera", "Nikon D5100")
    table = np.stack([sensitivities[colour] for colour in ("red", "green", "blue")])
    table.setflags(write=False)
    return table


def _spectra(kind: str, group: str) -> dict[str, NDArray]:
    lines = files("datamodules.demo").joinpath("spectra.csv").read_text(encoding="utf-8").splitlines()
    rows = csv.DictReader(line for line in lines if not line.startswith("#"))
    found = {}
    for row in rows:
        if (row["kind"], row["group"]) == (kind, group):
            spectrum = np.array([float(row[str(wavelength)]) for wavelength in WAVELENGTHS])
            spectrum.setflags(write=False)
            found[row["name"]] = spectrum
    return found
