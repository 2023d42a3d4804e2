"""What hostile inputs are made of: names, values and texts that belong nowhere, or only in some places."""

import math
from typing import Any

# Modules whose import alone does something: a browser, an editor, a poem, an installer.
EFFECTS = ("antigravity", "idlelib.idle", "this", "pip.__main__")
FORBIDDEN = (
    "os.system",
    "posix.system",
    "subprocess.Popen",
    "builtins.eval",
    "builtins.print",
    "functools.partial",
    "pathlib.Path.touch",
    "torch.load",
    "torch.hub.load",
    "torch.package.PackageImporter",
    "torch.utils.cpp_extension.load",
    "lightning.pytorch.cli.LightningCLI",
    "numpy.load",
    "jsonargparse.set_parsing_settings",
    "yaml.unsafe_load",
    "nystra.__main__.Net",
    "datamodules.files.images.os.system",
    "trainers.cli.main.os.system",
    "nowhere.Net",
    *(f"{module}.Net" for module in EFFECTS),
)
"""Names that no recipe may lead to."""


def bomb(levels: int, width: int, opening: str) -> str:
    """Lists of aliases to the list before: width ** levels values in a few lines."""
    close = {"[": "]", "{": "}"}[opening]
    lines = ["a0: &a0 [x]"]
    for level in range(1, levels):
        items = [f"*a{level - 1}" if opening == "[" else f"k{index}: *a{level - 1}" for index in range(width)]
        lines.append(f"a{level}: &a{level} {opening}{', '.join(items)}{close}")
    return "\n".join(lines)


HOSTILE = {
    "lists": bomb(30, 9, "["),
    "mappings": bomb(30, 9, "{"),
    "recursive": "a: &a [*a]",
    "deep": "[" * 100_000,
    "deep mappings": "{a: " * 5_000,
    "python": "a: !!python/object/apply:os.system ['touch executed']",
    "python name": "a: !!python/name:os.system",
    "tab": "trainer:\n\tmax_steps: 1",
    "number": "a: !!int 'x'",
    "digits": "a: 0x" + "f" * 10 + "\nb: !!int '" + "9" * 9000 + "'",
    "date": "a: !!timestamp '2026-99-99'",
    "list for a key": "? [a]\n: b",
    "no mapping": "[1, 2]",
    "one word": "trainer",
}
"""Texts that are no recipes."""

VALUES: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 2, 3, 7, -(2**70), 2**70, 0.5, -0.5, 1e-30, 1e300, math.nan, math.inf, -math.inf),
    *("", "x", "0", "-1", "1e3", "null", "true", "auto", "a b", "../x", "${oc.env:HOME}", "\x1b[31mred", "é", "\u202e"),
    *([], [1], [0, 0], ["x"], [[]], [None], {}, {"a": 1}, {1: 2}, {"class_path": "x"}, {"class_path": None}),
    *({"class_path": "torch.nn.Identity"}, {"init_args": {}}, {"class_path": "glmha.GLMHA", "init_args": []}),
)
"""Values of every type, right in some places and wrong in most."""

LIKELY: tuple[Any, ...] = (
    *(
        0,
        1,
        2,
        3,
        4,
        5,
        8,
        9,
        16,
        24,
        64,
        -2,
        0.0,
        0.1,
        0.9,
        1.0,
        1.5,
        1e-8,
        True,
        False,
        "cpu",
        "gpu",
        "auto",
        "16-mixed",
    ),
    *(
        "bf16-mixed",
        "64-true",
        "max",
        "min",
        "val/psnr",
        "train/loss",
        "val/ssim",
        "inductor",
        "eager",
        "pairs",
        "logs",
    ),
    *([1], [2, 2], [1, 1], [[1, 2]], [8], "00:00:00:01", "norm", "value", "ddp", "fsdp", "simple", "torch.nn.L1Loss"),
    *({"class_path": "torch.nn.L1Loss"}, {"class_path": "torch.optim.SGD"}, {"class_path": "torch.optim.LBFGS"}),
    *({"class_path": "torch.nn.Conv2d", "init_args": {"in_channels": 3, "out_channels": 3, "kernel_size": 1}},),
    *({"class_path": "torch.nn.Conv2d", "init_args": {"in_channels": 1, "out_channels": 3, "kernel_size": 2}},),
    *({"class_path": "lightning.pytorch.callbacks.EarlyStopping", "init_args": {"monitor": "val/no"}},),
    *(
        {"class_path": "torch.optim.lr_scheduler.StepLR", "init_args": {"step_size": 0}},
        {"class_path": "glmha.Restormer"},
    ),
    *(
        {"class_path": "torch.nn.Linear", "init_args": {"in_features": 3, "out_features": 3}},
        {"class_path": "torch.nn.ReLU"},
    ),
)
"""Values that some option may well have."""

OPTIONS: tuple[tuple[str, ...], ...] = (
    *(("trainer", name) for name in (
        "accumulate_grad_batches", "gradient_clip_val", "precision", "devices", "limit_train_batches",
        "limit_val_batches",
        "check_val_every_n_epoch", "num_sanity_val_steps", "callbacks", "max_time", "max_epochs", "benchmark",
        "deterministic", "overfit_batches", "enable_checkpointing", "strategy", "accelerator", "plugins", "profiler",
        "fast_dev_run", "use_distributed_sampler", "detect_anomaly", "inference_mode", "barebones", "model_registry",
    )),
    *(("model", "init_args", name) for name in (
        "tile", "overlap", "loss", "pretrained", "compile_backend", "checkpoint_activations", "logged_images",
        "self_ensemble", "save_tests", "mixup",
    )),
    *(("data", "init_args", name) for name in (
        "stages", "preload", "eval_size", "val_images", "geometric", "scale", "channels", "root", "train_input",
        "seed",
    )),
    ("best_checkpoint",), ("best_checkpoint", "save_top_k"), ("last_checkpoint", "keep_last"),
    ("run", "accept_changes"),
    ("watch",), ("ema_decay",), ("max_batch_per_device",), ("ckpt_path",), ("weights_only",), ("optimizer",),
    ("config",),
    ("lr_scheduler",), ("seed_everything",),
)  # fmt: skip
"""Options that the recipe leaves out, by their place."""


DECIDED = (("trainer", "max_steps"), ("ckpt_path",), ("config",), ("weights_only",))
"""Places of what the command decides itself, whatever the recipe says."""

NO_CHECKPOINTS = (
    b"",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 1\n",
    b"<!DOCTYPE html><html><body>404</body></html>",
    b"some text",
    b"PK\x03\x04",
    b"\x80\x02}q\x00.",
    b"PK\x05\x06" + bytes(18),
    b"\x93NUMPY",
    b"\x89HDF\r\n\x1a\n",
)
"""Files that are no checkpoint."""

KERNELS: tuple[Any, ...] = (
    {"class": "LandmarkPooling", "landmarks": 4.5, "cells": 4, "near": "own"},
    {"class": "LandmarkPooling", "landmarks": 4, "cells": True, "near": "own"},
    {"class": "LandmarkPooling", "landmarks": "4", "cells": 4, "near": "own"},
    {"class": "Performer", "features": 10**12},
    {"class": "Performer", "features": math.inf},
    {"class": "Nystrom", "landmarks": None},
    {"class": "Nystrom", "landmarks": -4, "iterations": 10**15},
    {"class": ["Nystrom"]},
    {"class": "os.system"},
    [],
    "Nystrom",
    None,
)
"""Kernels that no checkpoint records."""
RECORDS = (
    *({"window_size": value} for value in (8.5, True, "8", -1, 0, 10**9, [8], math.nan)),
    *({"kernels": {"layers.0.residual_group.blocks.0.attn": kernel}} for kernel in KERNELS),
    *({"kernels": {"no.such.site": {"class": "Softmax"}}}, {"position_bias": "x"}, {"position_bias": 3}),
    *([], "window_size", 3, {"kernels": []}, {"kernels": {3: {}}}, {"extra": 1}),
)
"""Windows and kernels that no network records."""
PICKLES = ("zip", "legacy", "pickle", "pair")
"""Ways to hide a pickle that executes code in readers which let it."""
CHANGES = (
    "remove",
    "rename",
    "scalar",
    "empty",
    "wide",
    "flat",
    "long",
    "nan",
    "bool",
    "complex",
    "sparse",
    "expanded",
)
WRAPPERS = ("", "module.", "_orig_mod.", "net.", "net._orig_mod.", "module.net.")
