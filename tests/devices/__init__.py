"""What has to be the same on every accelerator: each test runs on those of this machine, and a few on the processor."""

from typing import Any

import pytest
import torch

ACCELERATORS = [
    name for name, module in (("cuda", torch.cuda), ("mps", torch.mps), ("xpu", torch.xpu)) if module.is_available()
]


def accelerator_cases(*cases: Any, on_processor: Any = ()) -> list[Any]:
    """Parameters (device, case): every case on every accelerator, marked as such, and some on the processor.

    Without an accelerator the first stand as skipped.
    """
    skipped = [pytest.mark.gpu, pytest.mark.skipif(not ACCELERATORS, reason="needs an accelerator")]
    given = [
        pytest.param(device, case, marks=skipped, id=f"{device}-{case}")
        for device in ACCELERATORS or ["accelerator"]
        for case in cases
    ]
    return [*(pytest.param("cpu", case, id=f"cpu-{case}") for case in on_processor), *given]
