"""Golden references: inputs, weights, outputs and gradients recorded from the official implementations.

`tests/golden/<name>.{safetensors,json}` hold one reference each; tensors that float16 or small integers represent
exactly are stored so, and `load` widens them again. `tests/golden/keys` lists every state-dict key of the released models.
"""

import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

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


def load_keys(model: str) -> dict[str, Any]:
    """Read the state-dict keys and shapes of a released model: {"config", "keys": {key: shape}, "params_total", …}."""
    return json.loads((DIRECTORY / "keys" / f"{model}.keys.json").read_text())
