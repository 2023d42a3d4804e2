"""Programs of an accelerator compute what plain torch computes in float64, in every precision."""

import pytest
import torch
from torch.testing import assert_close

from nystra import LandmarkPooling, Softmax, WindowGeometry
from nystra.programs.gpu import availability
from nystra.programs.operators import plain_torch
from nystra.windows import Cut
from nystra.windows.position_bias import TableBias

# Of products of float32 numbers as torch computes them by default, and of halves.
TOLERANCES = {torch.float32: 1e-4, torch.float16: 5e-3, torch.bfloat16: 3e-2}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("channels", [5, 30, 64])
@pytest.mark.parametrize(
    "cut", [Cut((32, 48), (16, 16), roll=(8, 8)), Cut((13, 19), (8, 8), margins=(4, 7, 4, 1))], ids=str
)
@pytest.mark.parametrize("kernel", [Softmax(), *(LandmarkPooling(16, 16, near) for near in ("own", "cross"))], ids=str)
def test_outputs_are_plain_torch_s(kernel, cut, channels, dtype, monkeypatch):
    assert availability.usable(torch.zeros(1, device="cuda")), "no programs for this card"
    monkeypatch.setattr(availability, "is_faster", lambda *_: True)
    generator = torch.Generator().manual_seed(0)
    rows, columns = cut.window
    table = torch.randn((2 * rows - 1) * (2 * columns - 1), 3, generator=generator)
    maps = torch.randn(2, *cut.size, 3, 3, channels, generator=generator).mul(channels**-0.25).to(dtype).unbind(3)
    outputs = []
    with torch.inference_mode():
        for inputs, device in ((tuple(part.cuda() for part in maps), "cuda"), (maps, "cpu")):
            geometry = WindowGeometry(cut.window, cut.grid, cut.roll, TableBias(table.to(device), cut.window))
            if device == "cpu":
                with plain_torch():
                    outputs.append(kernel.over_maps(*(part.double() for part in inputs), geometry, cut))
            else:
                outputs.append(kernel.over_maps(*inputs, geometry, cut).double().cpu())
    assert_close(outputs[0], outputs[1], rtol=TOLERANCES[dtype], atol=TOLERANCES[dtype])
