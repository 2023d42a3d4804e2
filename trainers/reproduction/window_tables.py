"""PnP-Nystra's tables, as data: released networks whose attention is exchanged without training."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ORIGINAL = "Original"
PNP_NYSTRA = "PnP-Nystra"
METHODS = {PNP_NYSTRA: "PublishedNystrom", "Nyströmformer": "Nystromformer", "Performer": "Performer"}
"""A method's name in the paper → the kernel's here."""


@dataclass(frozen=True)
class Benchmark:
    """A released network on a data set, compared under kernels by `lowrank compare`.

    Attributes:
        key: its name in options and folders.
        title: network and data set.
        weights: name of the checkpoint in `--pretrained.NAME`, shared by the benchmarks of one network.
        recipe: of `lowrank compare`.
        window: side of the enlarged windows; None: those of the released network.
        kernels: in place of the recipe's, as recipes write them.
        published: the paper's method → PSNR and SSIM; values that are not in the text at hand are left out.
        options: of `lowrank compare`, besides.
    """

    key: str
    title: str
    weights: str
    recipe: str
    window: int | None
    kernels: tuple[Mapping[str, Any], ...]
    published: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def original(self) -> str:
        """The variant that is the paper's "original": exact attention, without bias where windows are enlarged."""
        return "released" if self.window is None else f"window {self.window}, no bias"

    def arguments(self, pretrained: str, root: str) -> dict[str, str]:
        """Options of `lowrank compare`.

        Args:
            pretrained: checkpoint of the network.
            root: folder of the data set.
        """
        values = {"config": self.recipe, "pretrained": pretrained, "data.root": root, **self.options}
        return values | {"kernels": json.dumps(self.kernels)}


@dataclass(frozen=True)
class WindowTable:
    """A table of PnP-Nystra.

    Attributes:
        number: of the table; 0: of the first version, which is of films.
        title: what it is about.
        kind: quality (PSNR and SSIM of each method), speed (of one method), or drop (of one method's sizes).
        benchmarks: of its rows.
        published: what the paper states of the whole table.
    """

    number: int
    title: str
    kind: str
    benchmarks: tuple[Benchmark, ...]
    published: str = ""


def _nystrom(landmarks: int, iterations: int, threshold: float) -> dict[str, Any]:
    return {
        "class_path": "nystra.PublishedNystrom",
        "init_args": {"landmarks": landmarks, "iterations": iterations, "threshold": threshold},
    }


def _kernels(landmarks: int, iterations: int, threshold: float = 5) -> tuple[dict[str, Any], ...]:
    """The kernels that the paper compares, Nyström's of the sizes that it takes for a network."""
    return (
        {"class_path": "nystra.Performer", "init_args": {"features": 64}},
        {"class_path": "nystra.Nystromformer", "init_args": {"landmarks": landmarks, "iterations": 6}},
        _nystrom(landmarks, iterations, threshold),
    )


def _scaled(data: str, scale: int, **published: tuple[float, float]) -> Benchmark:
    metrics = [
        {"class_path": f"trainers.metrics.{name}", "init_args": {"space": "y", "border": scale}}
        for name in ("PSNR", "SSIM")
    ]
    return Benchmark(
        f"{data.lower()}-x{scale}",
        f"SwinIR ×{scale}, {data}",
        f"swinir-x{scale}",
        "nystra/swinir_sr.yaml",
        32,
        _kernels(16, 2),
        {{"pnp": PNP_NYSTRA, "nystromformer": "Nyströmformer"}[name]: pair for name, pair in published.items()},
        {"data.scale": str(scale), "data.test_sets": f"[{data}]", "metrics": json.dumps(metrics)},
    )


_SUPER_RESOLUTION = (
    _scaled("Set5", 2, pnp=(35.25, 0.9416)),
    _scaled("Set5", 4, nystromformer=(29.26, 0.8467)),
    _scaled("Set5", 8, pnp=(24.41, 0.6853)),
    _scaled("BSDS100", 2, pnp=(30.71, 0.8830)),
    _scaled("BSDS100", 4, pnp=(25.92, 0.7008)),
    _scaled("BSDS100", 8, pnp=(23.29, 0.5503)),
)
_SIDD = Benchmark("sidd", "Uformer-B, SIDD", "uformer-sidd", "nystra/uformer_sidd.yaml", 64, _kernels(32, 6, 0))
_DENOISING = (
    _SIDD,
    Benchmark(
        "bsds200", "Uformer-B, BSDS200, σ 25", "uformer-sidd", "nystra/uformer_bsds200.yaml", 64, _kernels(32, 6, 0)
    ),
)
_DEBLURRING = (
    Benchmark(
        "realblur-r", "Uformer-B, RealBlur-R", "uformer-gopro", "nystra/uformer_realblur.yaml", 32, _kernels(16, 3, 0)
    ),
)
_DEHAZING = tuple(
    Benchmark(
        key,
        f"DehazeFormer, {title}",
        f"dehazeformer-{key}",
        "nystra/dehazeformer_sots.yaml",
        None,
        _kernels(16, 6),
        {PNP_NYSTRA: published},
        {
            **options,
            # The recipe measures PSNR alone; DehazeFormer's SSIM is after pooling.
            "metrics": json.dumps(
                [
                    {"class_path": "trainers.metrics.PSNR", "init_args": {"quantise": False}},
                    {"class_path": "trainers.metrics.PooledSSIM"},
                ]
            ),
        },
    )
    for key, title, published, options in (
        ("reside-out", "RESIDE-Out", (26.34, 0.9510), {}),
        ("rshaze", "RSHaze", (33.58, 0.9405), {"data.subset": "RSHaze"}),
        ("reside-6k", "RESIDE-6K", (23.08, 0.9163), {"data.subset": "RESIDE-6K"}),
    )
)
_FILMS = tuple(
    Benchmark(
        key,
        f"RVRT, {title}",
        f"rvrt-{key}",
        f"nystra/rvrt_{recipe}.yaml",
        64,
        _kernels(32, 6),
        options={"tile": tile, "frames": "16"},
    )
    for key, title, recipe, tile in (
        ("reds4", "REDS4 ×4", "reds", "128"),
        ("gopro", "GoPro", "gopro", "256"),
        ("davis", "DAVIS, σ 50", "davis", "256"),
    )
)
LANDMARKS, ITERATIONS = (4, 16, 64), (1, 2, 3, 4, 5, 6)

TABLES = {
    table.number: table
    for table in (
        WindowTable(
            2,
            "speed-up of whole networks",
            "speed",
            (*_SUPER_RESOLUTION, *_DENOISING, *_DEBLURRING, *_DEHAZING),
            "1.8 to 3.6 times as fast on an RTX 4090, 1.8 to 7 times on a Xeon (abstract)",
        ),
        WindowTable(3, "dehazing", "quality", _DEHAZING),
        WindowTable(4, "denoising and deblurring", "quality", (*_DENOISING, *_DEBLURRING)),
        WindowTable(5, "super-resolution", "quality", _SUPER_RESOLUTION),
        WindowTable(
            6,
            "landmarks and iterations",
            "drop",
            (
                Benchmark(
                    "sidd-ablation",
                    "Uformer-B, SIDD",
                    "uformer-sidd",
                    "nystra/uformer_sidd.yaml",
                    64,
                    tuple(
                        _nystrom(m, k, 0)
                        for m, k in (*((m, 6) for m in LANDMARKS), *((16, k) for k in ITERATIONS[:-1]))
                    ),
                ),
            ),
            "more landmarks and more iterations lose less",
        ),
        WindowTable(
            0,
            "RVRT on films",
            "quality",
            _FILMS,
            "at most 1.5 dB lost; 2 to 4 times as fast on an RTX 4090, 2 to 5 times on a processor (abstract)",
        ),
    )
}
"""Tables of PnP-Nystra that are measured, by number. Table 1 is of orders of growth."""
