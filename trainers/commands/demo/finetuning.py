"""The demonstration's fine-tuning part: a miniature SwinIR loses quality to a cheap kernel and wins it back."""

import copy
import json
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.table import Table
from torch import nn

import nystra
from datamodules import DemoDataModule
from datamodules.degradations.noise import GaussianNoise
from datamodules.files.atomic import atomic_file
from trainers.commands.demo.learned import score
from trainers.commands.demo.substitution import SIGMA, train_miniature
from trainers.networks import load_network
from trainers.recipes.lightning_cli import fit
from trainers.reports.profiling import check_counts
from trainers.tiling.restoration import whole_image

# The authors' arithmetic, without the position bias, of few landmarks: of the kernels here the one that costs most.
KERNEL = nystra.PublishedNystrom(landmarks=4, iterations=2)
RATE = 1e-3


def run_finetune_demo(output: Path = Path("logs/demo/finetune"), *, steps: int = 300) -> RenderableType:
    """Substitute the attention of a miniature SwinIR, fine-tune the network, and measure PSNR three times.

    The net is that of the part `substitution`, where it was run into the folder beside this one's; else it is trained.

    Args:
        output: folder for logs, checkpoints and `metrics.json`.
        steps: training steps of the miniature, >= 1; fine-tuning takes a third of them.

    Returns:
        A table of PSNR as trained, substituted, and fine-tuned.

    Raises:
        ValueError: if `steps` is below 1.
    """
    check_counts(steps=steps)
    console = Console(markup=False, emoji=False)
    found = sorted(output.parent.glob("substitution/SwinIR/**/last.ckpt"), key=lambda path: path.stat().st_mtime)
    if found:
        console.print(f"the miniature is that of {found[-1]}")
    trained = found[-1] if found else train_miniature(output, steps)
    tuning = max(1, steps // 3)
    console.print(f"{tuning} steps of fine-tuning with {KERNEL}")
    kernel = {"class_path": f"nystra.{type(KERNEL).__name__}", "init_args": vars(KERNEL)}
    degradation = {"class_path": "datamodules.degradations.GaussianNoise", "init_args": {"sigma": [SIGMA, SIGMA]}}
    folder = fit(
        [
            f"--trainer.max_steps={tuning}",
            "--trainer.check_val_every_n_epoch=1",
            "--trainer.log_every_n_steps=25",
            f"--trainer.logger.init_args.save_dir={output}",
            "--trainer.logger.init_args.name=SwinIR_finetuned",
            "--model=trainers.SubstitutionTask",
            f"--model.pretrained={trained}",
            f"--model.kernel={json.dumps(kernel)}",
            "--model.teacher_attention=0.05",
            "--model.optimizer=torch.optim.AdamW",
            f"--model.optimizer.lr={RATE}",
            "--model.scheduler=torch.optim.lr_scheduler.CosineAnnealingLR",
            f"--model.scheduler.T_max={tuning}",
            "--data=DemoDataModule",
            f"--data.degradation={json.dumps(degradation)}",
            "--data.patch_size=32",
            "--data.batch_size=8",
            "--data.epoch_length=800",
        ]
    )
    exact = load_network(trained)
    substituted = copy.deepcopy(exact)
    nystra.substitute(substituted, KERNEL)
    nets = {
        "as trained, exact attention": exact,
        f"{KERNEL}, not trained": substituted,
        "the same, fine-tuned": load_network(next(folder.glob("**/last.ckpt"))),
    }
    data = DemoDataModule(GaussianNoise((SIGMA, SIGMA)))
    data.prepare_data()
    data.setup("test")
    figures = {name: measure(net, data) for name, net in nets.items()}
    with atomic_file(output / "metrics.json") as file:
        file.write(json.dumps(figures, indent=1).encode())
    return summary(figures, tuning)


def measure(net: nn.Module, data: DemoDataModule) -> float:
    """Mean PSNR over the test images, RGB on uint8, dB."""
    batches = [batch for loader in data.test_dataloader() for batch in loader]
    restored = [whole_image(net, batch["input"]).squeeze(0) for batch in batches]
    return score(restored, [batch["target"].squeeze(0) for batch in batches])["psnr"]


def summary(figures: dict[str, float], steps: int) -> RenderableType:
    """Make the table of the three figures, with the part of the loss that was won back.

    Args:
        figures: as trained, substituted, fine-tuned.
        steps: of fine-tuning.
    """
    table = Table("", "PSNR", title=f"A MINIATURE of SwinIR, noise of sigma {SIGMA:g}, held-out photographs")
    for name, value in figures.items():
        table.add_row(name, f"{value:.2f}")
    exact, lost, won = figures.values()
    return Group(
        table,
        f"The kernel costs {exact - lost:.2f} dB; {steps} steps of fine-tuning win {won - lost:.2f} dB of it back. "
        "Figures of a released model: docs/results/finetuning.md",
    )
