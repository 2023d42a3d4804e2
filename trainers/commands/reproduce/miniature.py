"""Miniatures of the papers' tables: small networks of the demonstration, some seeds each, on what is bundled."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from torch import Tensor, nn

import nystra
from datamodules import DemoDataModule, SpectralDemoDataModule
from datamodules.base.restoration import RestorationDataModule
from datamodules.degradations.base import Degradation
from datamodules.degradations.blur import MotionBlur
from datamodules.degradations.noise import GaussianNoise
from datamodules.degradations.rain import Rain
from trainers.commands.compare.command import run_compare
from trainers.commands.demo import learned, spectral
from trainers.commands.demo.substitution import SIGMA, train_miniature
from trainers.reports.tables import write_results
from trainers.reproduction.channel_tables import ATTENTION, TABLES
from trainers.reproduction.files import read_results
from trainers.reproduction.miniatures import MiniatureRow, MiniatureTable
from trainers.tiling.restoration import restore

# Less than the demonstration's, so that a table takes minutes.
PATCH, SPECTRAL_PATCH = 32, 16
EVAL_SIZE = 192
STEPS, ABLATION_STEPS = 100, 200


@dataclass(frozen=True)
class Setting:
    """A small network that is trained with several attentions.

    Attributes:
        name: of its folder.
        about: network and task in words.
        train: of the demonstration's part: recipe, name, output, steps, options → the network.
        recipe: of the network with full attention.
        steps: of a training, by default.
        data: makes the data module, whose test images are scored.
        score: of the demonstration's part: images, targets → metric → mean.
        options: of `lowrank fit` besides.
    """

    name: str
    about: str
    train: Callable[..., nn.Module]
    recipe: str
    steps: int
    data: Callable[[], RestorationDataModule]
    score: Callable[[list[Tensor], list[Tensor]], dict[str, float]]
    options: tuple[str, ...] = ()


def _restormer(name: str, task: str, degradation: Degradation) -> Setting:
    return Setting(
        name,
        f"Restormer of 16 channels and 8 blocks, one head a level, {task}",
        learned.train,
        learned.RECIPES["CSA"],
        STEPS,
        functools.partial(DemoDataModule, degradation, eval_size=EVAL_SIZE),
        learned.score,
        (
            "--model.net.num_blocks=[1,1,1,1]",
            f"--data.patch_size={PATCH}",
            f"--data.eval_size={EVAL_SIZE}",
            f"--data.degradation=datamodules.degradations.{type(degradation).__name__}",
        ),
    )


RAIN = _restormer("rain", "synthetic rain", Rain())
BLUR = _restormer("blur", "motion blur", MotionBlur())
SPECTRA = Setting(
    "spectra",
    "one stage of MST++, 31 bands from noisy RGB",
    spectral.train,
    spectral.RECIPES["CSA"],
    STEPS,
    functools.partial(SpectralDemoDataModule, eval_size=EVAL_SIZE),
    spectral.score,
    (f"--data.patch_size={SPECTRAL_PATCH}", f"--data.eval_size={EVAL_SIZE}"),
)
SETTINGS = {1: SPECTRA, 3: BLUR, 4: RAIN, 7: RAIN, 8: RAIN, 9: RAIN}
"""Number of the GLMHA paper's table → what is trained for its miniature. CASSI (Table 2) has no bundled data."""

WINDOW = 16
LANDMARKS = (1, 4, 16, 64)
ITERATIONS = (1, 2, 3, 4, 6)
BASELINE = f"window {WINDOW}, no bias"
"""What drops are counted from, as PnP-Nystra counts them: exact attention in the enlarged windows, without bias."""


def run_channel_table(number: int, seeds: int, steps: int | None, output: Path) -> MiniatureTable:
    """Train a GLMHA table's rows in small, and measure them on held-out images.

    A row's figures are kept in a file when it is measured, and read from there the next time.

    Args:
        number: of the table, one of `SETTINGS`.
        seeds: trainings of each row, with the same seeds for all rows.
        steps: of each training; None: the setting's.
        output: folder of all miniatures.
    """
    table, setting = TABLES[number], SETTINGS[number]
    steps = setting.steps if steps is None else steps
    console = Console(markup=False, emoji=False)
    figures: dict[str, list[float]] = {row.key: [] for row in table.rows}
    # A seed of all rows before the next seed, so that whatever is there can be compared.
    for seed in range(seeds):
        for row in table.rows:
            folder = output / f"{setting.name}_{steps}" / row.key / f"seed_{seed}"
            scores = _kept(
                folder / "metrics.json",
                {"attention": row.recipe, "seed": seed, "steps": steps},
                functools.partial(_train_and_score, setting, row.recipe, seed, steps, folder),
            )
            figures[row.key].append(scores["psnr"])
            console.print(f"{setting.name}, {row.method}, seed {seed}: {scores['psnr']:.3f} dB", highlight=False)
    return MiniatureTable(
        f"glmha-table{number}",
        f"{table.heading}\nMINIATURE: {setting.about}, {steps} steps, {seeds} seeds",
        "PSNR, dB",
        tuple(MiniatureRow(row.method, row.psnr, row.psnr, tuple(figures[row.key])) for row in table.rows),
    )


def _train_and_score(setting: Setting, attention: str, seed: int, steps: int, folder: Path) -> dict[str, float]:
    options = [
        *setting.options,
        f"--{ATTENTION}={attention}",
        f"--seed_everything={seed}",
        f"--data.seed={seed}",
        "--trainer.enable_progress_bar=false",
    ]
    net = setting.train(setting.recipe, folder.name, folder.parent, steps, options)
    data = setting.data()
    data.setup("test")
    batches = [batch for loader in data.test_dataloader() for batch in loader]
    restored = [restore(net, batch["input"][0], tile=None, overlap=0) for batch in batches]
    return setting.score(restored, [batch["target"][0] for batch in batches])


def run_ablation(seeds: int, steps: int | None, output: Path) -> list[MiniatureTable]:
    """Exchange a small SwinIR's attention for Nyström's with several landmarks and iterations (PnP-Nystra, Table 6).

    Args:
        seeds: networks, trained with seeds of their own.
        steps: of each training; None: 200.
        output: folder of all miniatures.

    Returns:
        The table by landmarks, and that by iterations.
    """
    steps = ABLATION_STEPS if steps is None else steps
    by_landmarks = {m: nystra.PublishedNystrom(landmarks=m, iterations=6) for m in LANDMARKS}
    by_iterations = {k: nystra.PublishedNystrom(landmarks=16, iterations=k) for k in ITERATIONS}
    kernels = {str(kernel): kernel for kernel in (*by_landmarks.values(), *by_iterations.values())}
    drops: list[Mapping[str, float]] = []
    for seed in range(seeds):
        folder = output / f"noise_{steps}" / f"seed_{seed}"
        options = [f"--seed_everything={seed}", f"--data.seed={seed}", "--trainer.enable_progress_bar=false"]
        drops.append(
            _kept(
                folder / "metrics.json",
                {"kernels": list(kernels), "seed": seed, "steps": steps, "window": WINDOW},
                functools.partial(_train_and_substitute, list(kernels.values()), steps, options, folder),
            )
        )
    about = (
        f"MINIATURE: SwinIR of 65,611 parameters, noise of σ {SIGMA:g}, windows of 16×16, {steps} steps, {seeds} seeds"
    )
    return [
        MiniatureTable(
            f"pnp-table6-{name.partition(',')[0]}",
            f"Table 6: {name}\n{about}",
            f"drop of PSNR against exact attention, {BASELINE}, dB",
            tuple(
                # More landmarks and more iterations lose less, as published.
                MiniatureRow(str(size), None, -size, tuple(each[str(kernel)] for each in drops))
                for size, kernel in sizes.items()
            ),
        )
        for name, sizes in (("landmarks, 6 iterations", by_landmarks), ("iterations, 16 landmarks", by_iterations))
    ]


def _train_and_substitute(
    kernels: list[nystra.Kernel], steps: int, options: Sequence[str], folder: Path
) -> dict[str, float]:
    figures = run_compare(
        DemoDataModule(GaussianNoise((SIGMA, SIGMA))),
        pretrained=train_miniature(folder, steps, options),
        kernels=kernels,
        window_size=WINDOW,
        memory=False,
        repeats=1,
        output=folder / "comparison",
    )
    psnr = {name: comparison.scores["PSNR"] for name, comparison in figures.items()}
    exact = psnr[BASELINE]
    return {name: exact - value for name, value in psnr.items() if name in map(str, kernels)}


def _kept(path: Path, settings: dict[str, Any], measure: Callable[[], dict[str, float]]) -> dict[str, float]:
    """Read figures that were measured with these settings; else measure and write them."""
    if path.is_file():
        content = read_results(path, "results")
        if all(content.get(name) == value for name, value in settings.items()):
            results: dict[str, float] = content["results"]
            return results
    results = measure()
    write_results(path, settings, results)
    return results
