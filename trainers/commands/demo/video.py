"""The demonstration's video part: a miniature RVRT, trained on clips for less than a minute, in larger windows."""

from pathlib import Path

import torch
from rich.console import Console, Group, RenderableType

import nystra
from datamodules import VideoDemoDataModule
from datamodules.degradations.imresize import imresize
from trainers.commands.compare.command import run_compare
from trainers.commands.demo.learned import score
from trainers.recipes.lightning_cli import fit
from trainers.reports.comparison import RELEASED, Comparison, comparison_table
from trainers.reports.profiling import check_counts

RECIPE = "demo/rvrt.yaml"
WINDOW = 16
FRAMES = 4


def run_video_demo(output: Path = Path("logs/demo/video"), *, steps: int = 60) -> RenderableType:
    """Train a miniature RVRT to enlarge clips by 4, and exchange its attention in windows of four times the area.

    A camera moves over photographs in the clips; those of the test were never trained on. The comparison is that of
    `lowrank compare`.

    Args:
        output: folder for the run's log and checkpoint and, in `window_16`, for `comparison.png` and `metrics.json`.
        steps: training steps, >= 1.

    Returns:
        A table: bicubic enlargement, the network as trained, in larger windows, and there under ContentPooling.

    Raises:
        ValueError: if `steps` is below 1.
    """
    check_counts(steps=steps)
    console = Console(markup=False, emoji=False)
    console.print(f"RVRT, a miniature: {steps} steps from scratch, {RECIPE}")
    folder = fit(
        [
            f"--config={RECIPE}",
            f"--trainer.max_steps={steps}",
            f"--model.scheduler.init_args.T_max={steps}",
            f"--trainer.logger.init_args.save_dir={output}",
            "--trainer.logger.init_args.name=RVRT",
            # Of so many steps there is one epoch, and one validation at its end.
            f"--data.epoch_length={steps}",
        ]
    )
    console.print("exchanging its attention, without training")
    data = VideoDemoDataModule(eval_frames=FRAMES)
    figures = run_compare(
        data,
        pretrained=next(folder.glob("**/last.ckpt")),
        kernels=[nystra.ContentPooling()],
        window_size=WINDOW,
        # A process for each variant would take longer than all its clips, and a miniature needs next to nothing.
        memory=False,
        repeats=1,
        output=output / f"window_{WINDOW}",
    )
    return summary(figures, data, steps, output)


def summary(figures: dict[str, Comparison], data: VideoDemoDataModule, steps: int, output: Path) -> RenderableType:
    """Make the table of the variants, with what bicubic enlargement has.

    Args:
        figures: variant → figures.
        data: set up for the test.
        steps: of training.
        output: where the pictures are.
    """
    samples = [batch for loader in data.test_dataloader() for batch in loader]
    frames = [frame for sample in samples for frame in sample["input"][0]]
    targets = [frame for sample in samples for frame in sample["target"][0]]
    enlarged = [
        torch.from_numpy(imresize(frame.permute(1, 2, 0).numpy(), data.scale)).permute(2, 0, 1) for frame in frames
    ]
    bicubic = score([frame.clamp(0, 1) for frame in enlarged], targets)
    # Every kernel is as it comes, so that its name says which one it is.
    named = {
        "as trained, window 8" if name == RELEASED else name.partition("(")[0]: value for name, value in figures.items()
    }
    table = comparison_table(named, ["PSNR", "SSIM"], len(samples))
    table.title = f"A MINIATURE of RVRT, blurred clips enlarged by 4, {len(samples)} clips of held-out photographs"
    return Group(
        table,
        f"bicubic: {bicubic['psnr']:.2f} dB, SSIM {bicubic['ssim']:.4f}; fidelity: PSNR against the output as trained",
        f"After {steps} steps this net hardly attends: its losses do not carry over to released models. Times of the "
        "released size: docs/results/video.md.",
        f"film strips and figures: {output}/window_{WINDOW}/",
    )
