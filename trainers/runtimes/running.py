"""Written graphs as networks: each run by its own runtime, with the demands that its description states."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trainers.runtimes.description import KEY, Description

EXTRA_FILE = f"{KEY}.json"
"""Name of the description inside a file of `torch.export`."""
GRAPH_SUFFIXES = (".onnx", ".xml", ".pt2")
"""Of files that `load_graph` reads."""

Run = Callable[[Tensor], Tensor]


class GraphNetwork(nn.Module):
    """A written graph, to be called like the network that it was made of.

    Args:
        run: maps images (B, C, H, W), float32, to restored ones.
        description: of the graph.

    Attributes:
        description: of the graph.
        size_multiple: see `glmha.shared.image_network.ImageRules`, as the following.
        scale: output pixels per input pixel.
        value_range: values of black and white.
        largest_side: largest height and width, of a graph of one size; None: any.
        in_channels: channels of the images.
    """

    def __init__(self, run: Run, description: Description) -> None:
        super().__init__()
        self.run = run
        self.description = description
        self.size_multiple = description.size_multiple
        self.scale = description.scale
        self.value_range = description.value_range
        self.largest_side = None if description.size is None else max(description.size)
        self.in_channels = description.channels

    def takes(self, side: int) -> bool:
        """Whether images of this height or width are taken.

        Args:
            side: in pixels.
        """
        if self.description.size is not None:
            return self.description.size == (side, side)
        return side >= self.description.least and side % self.size_multiple == 0

    def forward(self, image: Tensor) -> Tensor:
        """Restore images (B, C, H, W) of the value range; the result is float32, on the processor."""
        return self.run(image.detach().float().cpu())


def require_libraries(*names: str) -> None:
    """Refuse where a library of a runtime is missing.

    Raises:
        ValueError: naming the libraries and how they are installed.
    """
    if missing := [name for name in names if find_spec(name) is None]:
        raise ValueError(
            f"the format needs {', '.join(missing)}, not found in this installation: "
            "pip install lowrank-attention[export]"
        )


def load_graph(path: Path, argument: str = "pretrained") -> GraphNetwork:
    """Load a file that `lowrank export` wrote for a runtime, without executing code of it.

    Args:
        path: .onnx (ONNX Runtime), .xml with its .bin (OpenVINO) or .pt2 (`torch.export`).
        argument: name of the option or argument that gave the path, for messages.

    Returns:
        The network, on the processor, with as many threads as torch has.

    Raises:
        ValueError: if the file is missing, no graph, without a description, or its runtime is not installed.
    """
    name = f"{argument} ({path})"
    if not path.is_file():
        raise ValueError(f"{name} must be a file, got nothing there; check the path")
    try:
        return read_graph(path)
    except ValueError as error:
        raise ValueError(f"{name} cannot be used: {error}") from None
    except Exception as error:  # the runtimes have their own exceptions for damaged files
        told = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(f"{name} must be a graph that its runtime reads, got: {told[:300]}") from None


def read_graph(path: Path) -> GraphNetwork:
    """Load a graph as `load_graph` does; errors are the runtime's own.

    Raises:
        ValueError: if there is no description in it or the runtime is not installed.
    """
    run, text = {".onnx": _load_onnx, ".xml": _load_openvino, ".pt2": _load_program}[path.suffix](path)
    if text is None:
        raise ValueError(
            f"it must hold the description ({KEY}) that lowrank export writes, which tells sizes, scale and range: "
            "export the network's checkpoint with lowrank export"
        )
    return GraphNetwork(run, Description.decoded(text))


def _load_onnx(path: Path) -> tuple[Run, str | None]:
    require_libraries("onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    taken = session.get_inputs()[0].name

    def run(image: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {taken: image.numpy()})[0])

    return run, session.get_modelmeta().custom_metadata_map.get(KEY)


def _load_openvino(path: Path) -> tuple[Run, str | None]:
    require_libraries("openvino")
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    text = str(model.get_rt_info(KEY).astype(str)) if model.has_rt_info(KEY) else None
    halves = text is not None and json.loads(text).get("precision") == "bfloat16"
    settings = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        # Otherwise some processors would compute in bfloat16 unasked.
        "INFERENCE_PRECISION_HINT": "bf16" if halves else "f32",
    }
    request = core.compile_model(model, "CPU", settings).create_infer_request()

    def run(image: Tensor) -> Tensor:
        result = request.infer([np.ascontiguousarray(image.numpy())])
        return torch.from_numpy(np.array(next(iter(result.values()))))

    return run, text


def _load_program(path: Path) -> tuple[Run, str | None]:
    with zipfile.ZipFile(path) as file:
        if any(name.endswith((".so", ".dll", ".dylib")) for name in file.namelist()):
            raise ValueError(
                "holds compiled code (aot), which is run by torch._inductor.aoti_load_package where its origin is "
                "trusted: export --format torch-export"
            )
    extra: dict[str, Any] = {EXTRA_FILE: ""}
    program = torch.export.load(path, extra_files=extra)
    module = program.module()

    def run(image: Tensor) -> Tensor:
        with torch.no_grad():
            return module(image)

    return run, extra[EXTRA_FILE] or None
