"""Golden references: inputs, weights, outputs and gradients recorded from the official implementations.

`tests/golden/<name>.{safetensors,json}` hold one reference each; tensors that float16 or small integers represent
exactly are stored so, and `load` widens them again. `tests/golden/keys` lists the released models' state-dict keys.
"""

import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor, nn
from torch.testing import assert_close

from nystra.sites import WindowAttention
from nystra.windows import Cut

DIRECTORY = Path(__file__).parent / "golden"


@dataclass
class Golden:
    """One recorded reference.

    Attributes:
        config: constructor arguments of the official class.
        weights: parameters by official state-dict key, float32.
        buffers: buffers by official state-dict key, float32 or int64.
        cases: recorded calls by name, each (positional inputs, outputs), float32.
        cotangent: R, with which gradients of sum(output · R) were taken; None where none were recorded.
        grads: gradients of the case `grad_case`: "in" for its first input, otherwise by parameter key.
        json: the whole description: seeds, rounding noise, sensitivities, notes.
    """

    config: dict[str, Any]
    weights: dict[str, Tensor] = field(default_factory=dict)
    buffers: dict[str, Tensor] = field(default_factory=dict)
    cases: dict[str, tuple[tuple[Tensor, ...], tuple[Tensor, ...]]] = field(default_factory=dict)
    cotangent: Tensor | None = None
    grads: dict[str, Tensor] = field(default_factory=dict)
    json: dict[str, Any] = field(default_factory=dict)

    @property
    def grad_case(self) -> str:
        """Name of the case whose gradients were recorded."""
        return next(name for name, case in self.json["cases"].items() if case.get("grad_case"))


def load(name: str) -> Golden:
    """Read a golden reference and cast its tensors to the types that they were computed in.

    Args:
        name: file name without suffix, as in "restormer_mdta".

    Returns:
        The reference; with weights of another one where its description says `weights_from`.

    Raises:
        ValueError: if the file holds a tensor of an unknown kind.
    """
    description = json.loads((DIRECTORY / f"{name}.json").read_text())
    golden = Golden(config=description["config"], json=description)
    if "weights_from" in description:
        golden.weights = load(description["weights_from"].removesuffix(".safetensors")).weights
    calls: dict[str, tuple[dict[int, Tensor], dict[int, Tensor]]] = defaultdict(lambda: ({}, {}))
    for key, tensor in load_file(DIRECTORY / f"{name}.safetensors").items():
        kind, _, rest = key.partition(".")
        if kind == "w":
            golden.weights[rest] = tensor.float()
        elif kind == "b":
            golden.buffers[rest] = tensor.float() if tensor.is_floating_point() else tensor.long()
        elif kind in ("in", "out"):
            case, _, index = rest.rpartition(".")
            case, index = (case, index) if index.isdecimal() else (rest, "0")
            calls[case][kind == "out"][int(index)] = tensor.float()
        elif key == "grad.cotangent":
            golden.cotangent = tensor.float()
        elif kind == "grad":
            golden.grads[rest.removeprefix("w.")] = tensor.float()
        else:
            raise ValueError(f"tensor ({key}) of {name} must be w.*, b.*, in.*, out.* or grad.*; extend goldens.load")
    for case, (inputs, outputs) in calls.items():
        golden.cases[case] = (tuple(inputs[i] for i in sorted(inputs)), tuple(outputs[i] for i in sorted(outputs)))
    return golden


def released_form(host: Callable[..., nn.Module], name: str) -> dict[str, Tensor]:
    """A reference's weights with the buffers that a released state dict has beside them."""
    golden = load(name)
    net = host(**golden.config)
    net.load_state_dict(golden.weights, strict=False)
    return net.state_dict()


def load_tensors(name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a reference that records no module: its tensors, float32, by name, and its description."""
    description = json.loads((DIRECTORY / f"{name}.json").read_text())
    return {key: tensor.float() for key, tensor in load_file(DIRECTORY / f"{name}.safetensors").items()}, description


def load_keys(model: str) -> dict[str, Any]:
    """Read the state-dict keys and shapes of a released model: {"config", "keys": {key: shape}, "params_total", …}."""
    return json.loads((DIRECTORY / "keys" / f"{model}.keys.json").read_text())


class OnWindows:
    """Calls a host's window attention on windows (W, N, C), each of them a map of its own, as upstream's is called."""

    def __init__(self, attention: WindowAttention) -> None:
        self.attention = attention

    def __getattr__(self, name: str) -> Any:
        return getattr(self.attention, name)

    def __call__(self, windows: Tensor, roll: tuple[int, ...] = (), window: tuple[int, ...] | None = None) -> Tensor:
        """Attend in windows that come from maps rolled by `roll`, of other sides than the attention's where given."""
        sides = window or self.attention.window_size
        cut = Cut(sides, sides, roll)
        return cut.windows(self.attention(cut.join(windows), cut))


def assert_gradients_close(net: nn.Module | OnWindows, golden: Golden) -> None:
    """Check the recorded gradients of a net that carries the golden weights, at `assert_close`'s float32 defaults.

    A gradient of a weight sums thousands of pixels and its rounding noise grows with it: gradients whose largest entry
    exceeds 1 are compared in units of that entry.

    Args:
        net: as built by the official class, weights loaded; its state-dict keys are the official ones.
        golden: the reference that the weights come from.
    """
    first, *others = golden.cases[golden.grad_case][0]
    first = first.clone().requires_grad_()
    net.zero_grad()
    (net(first, *others) * golden.cotangent).sum().backward()
    actual = {"in": first.grad, **{key: parameter.grad for key, parameter in net.named_parameters()}}
    for key, expected in golden.grads.items():
        unit = expected.abs().max().clamp(min=1)
        assert_close(actual[key] / unit, expected / unit, msg=lambda text, key=key: f"gradient of {key}: {text}")
