"""Plans: a kernel for every site of a net, how the whole net is run, and what was measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from torch import nn

from nystra.kernels.base import Kernel
from nystra.sites.attention_record import decode_kernel, encode_kernel
from nystra.sites.substitution import SubstitutionReport, substitute

LARGEST_FILE = 2**20
"""Bytes of a plan's file."""
Precision = Literal["float32", "bf16"]


def keep_channels_last(net: nn.Module) -> None:
    """Keep the weights of a net's convolutions of images channels last; others, as those of films, have no such format.

    Args:
        net: changed in place; results are the same.
    """
    for parameter in net.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


@dataclasses.dataclass(frozen=True)
class Choice:
    """The kernel of one site.

    Attributes:
        kernel: chosen.
        seconds: median time of all calls of the kernel on the sample.
        exact_seconds: median time of exact attention on the same inputs.
        error: change of the net's output that this kernel alone makes: sum of squared differences.

    Examples:
        >>> from nystra import LandmarkPooling
        >>> from nystra.analysis import Choice
        >>> choice = Choice(LandmarkPooling(), seconds=0.002, exact_seconds=0.005, error=0.1)
        >>> choice.exact_seconds / choice.seconds
        2.5
    """

    kernel: Kernel
    seconds: float
    exact_seconds: float
    error: float


@dataclasses.dataclass(frozen=True)
class Plan:
    """Kernels for the sites of a net, as `substitute` takes them, and what the whole net is run in.

    Attributes:
        choices: by site.
        fidelity_db: PSNR of the planned net's output against the exact net's on the sample, peak `peak`; infinite if
            nothing was changed.
        seconds: median time of the planned net on the sample.
        exact_seconds: median time of the net with `Softmax` at all sites.
        fused_seconds: median time of the net with torch's fused attention at all sites; None: not measured.
        host_seconds: median time of an adopted net with its own arithmetic; None: the net is no adopted one.
        precision: "bf16" if the net is best run under autocast to bfloat16, else "float32".
        channels_last: whether convolutions' weights are best kept channels last.
        checked_db: fidelity on images that were not the sample; None: there were none.
        untried: sites that stay exact because the time was up.

    Examples:
        >>> from nystra import LandmarkPooling, Plan
        >>> from nystra.analysis import Choice
        >>> choice = Choice(LandmarkPooling(4, 16, "own"), seconds=0.002, exact_seconds=0.005, error=0.1)
        >>> plan = Plan({"block.attn": choice}, fidelity_db=52.0, seconds=0.01, exact_seconds=0.02)
        >>> plan.kernels
        {'block.attn': LandmarkPooling(landmarks=4, cells=16, near='own')}
        >>> print(plan)
        block.attn  2.0 ms, exact  5.0 ms LandmarkPooling(landmarks=4, cells=16, near='own')
        whole net: 0.010 s, exact 0.020 s; fidelity 52.0 dB
        >>> plan.save("plan.yaml")
        >>> Plan.load("plan.yaml") == plan
        True
    """

    choices: Mapping[str, Choice]
    fidelity_db: float
    seconds: float
    exact_seconds: float
    fused_seconds: float | None = None
    host_seconds: float | None = None
    precision: Precision = "float32"
    channels_last: bool = False
    checked_db: float | None = None
    untried: tuple[str, ...] = ()

    @property
    def kernels(self) -> dict[str, Kernel]:
        """Name of the site → kernel."""
        return {name: choice.kernel for name, choice in self.choices.items()}

    def apply(self, net: nn.Module) -> SubstitutionReport:
        """Give a net the plan's kernels and memory format, in place; the precision is its caller's.

        Args:
            net: of the plan; adopted if it is of another library.

        Raises:
            ValueError: if the plan is of another net.
        """
        report = substitute(net, self.kernels)
        if self.channels_last:
            keep_channels_last(net)
        return report

    def save(self, path: str | Path) -> None:
        """Write the plan as YAML.

        Args:
            path: of the file; its folder must be there.
        """
        content = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        content["choices"] = {
            name: {**dataclasses.asdict(choice), "kernel": encode_kernel(choice.kernel)}
            for name, choice in self.choices.items()
        }
        content["untried"] = list(self.untried)
        Path(path).write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Plan:
        """Read a plan that `save` wrote: plain data, which executes nothing.

        Args:
            path: of the file.

        Raises:
            ValueError: if it holds no plan.
            OSError: if it cannot be read.
        """
        try:
            return cls._of(_read(Path(path)))
        except (LookupError, TypeError, ValueError, AttributeError, RecursionError, yaml.YAMLError) as error:
            reason = " ".join(str(error).split())[:300]
            raise ValueError(f"plan ({path}) must be a file that nystra.Plan.save wrote, got: {reason}") from None

    @classmethod
    def _of(cls, content: Any) -> Plan:
        choices = {}
        for name, entry in content.pop("choices").items():
            figures = {key: float(entry[key]) for key in ("seconds", "exact_seconds", "error")}
            choices[str(name)] = Choice(decode_kernel(entry["kernel"]), **figures)
        numbers = ("fidelity_db", "seconds", "exact_seconds", "fused_seconds", "host_seconds", "checked_db")
        values = {key: None if content[key] is None else float(content[key]) for key in numbers}
        if content["precision"] not in ("float32", "bf16") or not isinstance(content["channels_last"], bool):
            raise ValueError("precision must be float32 or bf16, and channels_last true or false")
        unknown = set(content) - {field.name for field in dataclasses.fields(cls)}
        if unknown or not choices:
            raise ValueError(f"unknown entries {sorted(unknown)}" if unknown else "no choices")
        untried = tuple(map(str, content["untried"]))
        return cls(
            choices,
            **values,  # type: ignore[arg-type]  # those that may not be None are compared before they are used
            precision=content["precision"],
            channels_last=content["channels_last"],
            untried=untried,
        )

    def __str__(self) -> str:
        """A line per site, and the whole net's time and fidelity."""
        width = max(map(len, self.choices))
        lines = [
            f"{name:{width}} {1e3 * choice.seconds:8.1f} ms, exact {1e3 * choice.exact_seconds:8.1f} ms {choice.kernel}"
            for name, choice in self.choices.items()
        ]
        net = f"whole net: {self.seconds:.3f} s, exact {self.exact_seconds:.3f} s"
        for label, seconds in (("torch's fused", self.fused_seconds), ("as its authors wrote it", self.host_seconds)):
            if seconds is not None:
                net += f", {label} {seconds:.3f} s"
        net += f"; fidelity {self.fidelity_db:.1f} dB"
        if self.checked_db is not None:
            net += f", {self.checked_db:.1f} dB on other images"
        ways = [*(["bfloat16"] if self.precision == "bf16" else []), *(["channels last"] if self.channels_last else [])]
        if ways:
            net += f"; in {' and '.join(ways)}"
        if self.untried:
            net += f"\n{len(self.untried)} sites were not tried: the time was up"
        return "\n".join([*lines, net])


def _read(path: Path) -> Any:
    if path.exists() and not path.is_file():
        # A device or a pipe would be read for ever.
        raise ValueError("a folder, a pipe or a device")
    if path.stat().st_size > LARGEST_FILE:
        raise ValueError(f"a file of {path.stat().st_size} bytes")
    text = path.read_text(encoding="utf-8")
    # What is repeated by name could stand for more than memory holds.
    if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
        raise ValueError("an alias")
    content = yaml.safe_load(text)
    if not isinstance(content, dict):
        raise ValueError(f"a {type(content).__name__}")
    return content
