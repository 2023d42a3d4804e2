"""Small spectral data sets on disk, laid out as the published ones."""

from pathlib import Path

import h5py
import numpy as np
import scipy.io

from datamodules.files.images import write_image


def smooth_cube(height: int, width: int, bands: int, seed: int) -> np.ndarray:
    """A cube in (0, 1], (H, W, bands): a different plane wave in each band."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    phase = rng.random((2, bands)) / 8
    waves = np.sin(rows[..., None] * phase[0] + columns[..., None] * phase[1] + np.arange(bands) / 5)
    return 0.55 + 0.4 * waves


def write_hdf5(path: Path, key: str, cube: np.ndarray) -> None:
    """Write a cube (H, W, bands) as MATLAB 7.3 does: axes in reverse, behind a block of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", userblock_size=512) as file:
        file.create_dataset(key, data=cube.T, chunks=True, compression="gzip")


def write_arad(root: Path, numbers=(1, 2, 3, 901, 902), size=(24, 32), ends="\r\n", lists=True) -> Path:
    """Write scenes of ARAD_1K, their lists with line ends as given, and one photograph without a cube."""
    for number in numbers:
        cube = smooth_cube(*size, 31, number)
        write_hdf5(root / "Train_Spec" / f"ARAD_1K_{number:04}.mat", "cube", cube)
        levels = (cube[..., [25, 14, 5]] * 200 + 7).astype(np.uint8)
        write_image(root / "Train_RGB" / f"ARAD_1K_{number:04}.jpg", levels)
    write_image(root / "Test_RGB" / "ARAD_1K_0951.jpg", levels)
    if lists:
        (root / "split_txt").mkdir()
        for split, chosen in (("train", [n for n in numbers if n <= 900]), ("valid", [n for n in numbers if n > 900])):
            text = "".join(f"ARAD_1K_{number:04}{ends}" for number in chosen)
            (root / "split_txt" / f"{split}_list.txt").write_bytes(text.encode())
    return root


def write_cassi(root: Path, *, bands=28, size=16, train=(1, 2, 12), test=(1, 2)) -> Path:
    """Write training scenes (16-bit levels), test scenes and a mask of `size` pixels a side."""
    for number in train:
        levels = (smooth_cube(size + 8, size + 12, bands, number) * 65535).astype(np.uint16)
        path = root / "cave_1024_28" / f"scene{number}.mat"
        path.parent.mkdir(parents=True, exist_ok=True)
        scipy.io.savemat(path, {"img_expand" if number % 2 else "img": levels})
    for number in test:
        path = root / "TSA_simu_data" / "Truth" / f"scene{number:02}.mat"
        path.parent.mkdir(parents=True, exist_ok=True)
        scipy.io.savemat(path, {"img": smooth_cube(size, size, bands, 100 + number)})
    rng = np.random.default_rng(0)
    scipy.io.savemat(root / "TSA_simu_data" / "mask.mat", {"mask": rng.integers(0, 2, (size, size)).astype(float)})
    return root
