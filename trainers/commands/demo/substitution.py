"""The demonstration's training-free part: a miniature SwinIR, trained for a minute, under other kernels."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console, Group, RenderableType
from torch import Tensor

import nystra
from datamodules import DemoDataModule
from datamodules.degradations.noise import GaussianNoise
from nystra.sites.host import WindowHost
from nystra.windows.geometry import WindowKind
from trainers.commands.compare.command import run_compare
from trainers.commands.compare.variants import KERNELS
from trainers.commands.demo.learned import score
from trainers.recipes.lightning_cli import fit
from trainers.reports.comparison import RELEASED, Comparison, comparison_table
from trainers.reports.profiling import check_counts

RECIPE = "demo/swinir.yaml"
SIGMA = 25.0
WINDOW = 16


@dataclasses.dataclass(frozen=True)
class MeanOfValues(nystra.Softmax):
    """Gives a token the mean of the values that it may see: the quality that is lost is the worth of attention."""

    def tables(self, kind: WindowKind, dtype: torch.dtype) -> Tensor | None:
        """Return the mask alone, (1, 1, N, N); None where nothing is masked."""
        return super().tables(dataclasses.replace(kind, bias=None), dtype)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, tables: Tensor | None) -> Tensor:
        """Attend with equal weights: zero queries make all logits equal."""
        return super().attend(torch.zeros_like(query), key, value, tables)


def run_substitution_demo(output: Path = Path("logs/demo/substitution"), *, steps: int = 300) -> RenderableType:
    """Train a miniature SwinIR to remove noise, then exchange its attention without training, in windows of two sizes.

    Photographs of the test were never trained on. The comparisons are those of `lowrank compare`.

    Args:
        output: folder for the run's log and checkpoint and, in `window_8` and `window_16`, for `comparison.png` and
            `metrics.json`.
        steps: training steps, >= 1.

    Returns:
        One table of all variants, with the limits of its figures.

    Raises:
        ValueError: if `steps` is below 1.
    """
    check_counts(steps=steps)
    console = Console(markup=False, emoji=False)
    checkpoint = train_miniature(output, steps)
    data = DemoDataModule(GaussianNoise((SIGMA, SIGMA)))
    kernels = [*KERNELS, nystra.PublishedNystrom(), MeanOfValues()]
    net = nystra.load_pretrained(checkpoint)
    trained = net.window_size
    console.print("exchanging its attention, without training")
    figures: dict[str, Comparison] = {}
    for window in (trained, WINDOW):
        variants = run_compare(
            data,
            pretrained=checkpoint,
            kernels=kernels,
            window_size=None if window == trained else window,
            # A process for each variant would take longer than all its images, and a miniature needs next to nothing.
            memory=False,
            output=output / f"window_{window}",
        )
        for name, comparison in variants.items():
            # Every kernel is as it comes, so that its name says which one it is.
            kernel = name.partition("(")[0]
            label = f"window {trained}, as trained" if name == RELEASED else f"window {window}, {kernel}"
            figures[name if name.startswith("window") else label] = comparison
    return summary(figures, data, net, steps, output)


def train_miniature(output: Path, steps: int, options: Sequence[str] = ()) -> Path:
    """Train the miniature, logging below a folder, with further options of `lowrank fit`; returns its checkpoint."""
    console = Console(markup=False, emoji=False)
    console.print(f"SwinIR, a miniature: {steps} steps from scratch, {RECIPE}")
    folder = fit(
        [
            f"--config={RECIPE}",
            f"--trainer.max_steps={steps}",
            "--trainer.check_val_every_n_epoch=1",
            f"--model.scheduler.init_args.T_max={steps}",
            f"--trainer.logger.init_args.save_dir={output}",
            "--trainer.logger.init_args.name=SwinIR",
            # Trained on the noise that it is tested on, whatever the recipe says.
            f"--data.degradation.init_args.sigma={[SIGMA, SIGMA]}",
            *options,
        ]
    )
    return next(folder.glob("**/last.ckpt"))


def summary(
    figures: dict[str, Comparison], data: DemoDataModule, net: WindowHost, steps: int, output: Path
) -> RenderableType:
    """Make one table of the variants, with the limits of its figures.

    Args:
        figures: variant → figures.
        data: set up for the test.
        net: the one that was trained.
        steps: for how long.
        output: where the pictures are.
    """
    loaders = data.test_dataloader()
    batches = [batch for loader in (loaders if isinstance(loaders, list) else [loaders]) for batch in loader]
    noisy = score([batch["input"][0] for batch in batches], [batch["target"][0] for batch in batches])
    table = comparison_table(figures, ["PSNR", "SSIM"], len(batches))
    table.title = f"A MINIATURE of SwinIR, noise of sigma {SIGMA:g}, {len(batches)} images of held-out photographs"
    as_trained, without = (figures[f"window {net.window_size}, {name}"] for name in ("as trained", "MeanOfValues"))
    worth = as_trained.scores["PSNR"] - without.scores["PSNR"]
    parameters = sum(parameter.numel() for parameter in net.parameters())
    return Group(
        table,
        f"input: {noisy['psnr']:.2f} dB, SSIM {noisy['ssim']:.4f}; fidelity: PSNR against the output as trained",
        f"This net of {parameters} parameters was trained for {steps} steps and attends weakly. Attention is worth "
        f"{worth:.2f} dB to it (MeanOfValues has none), but is so even that kernels approximate it easily: figures "
        "that do not carry over to released models, whose own are in docs/results/kernels.md.",
        f"pictures and figures: {output}/window_*/",
    )
