"""Choice of a kernel for every site by error and time on a sample."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from nystra.kernels.base import Kernel
from nystra.kernels.content_pooling import ContentPooling
from nystra.kernels.landmark_pooling import LandmarkPooling
from nystra.kernels.softmax import Softmax
from nystra.sites.observation import observed
from nystra.sites.site import Site
from nystra.sites.substitution import Sites, find_sites
from nystra.windows.geometry import WindowGeometry

Call = tuple[Tensor, Tensor, Tensor, WindowGeometry]

CANDIDATES: tuple[Kernel, ...] = (
    ContentPooling(),
    LandmarkPooling(16, 64, "cross"),
    LandmarkPooling(16, 16, "cross"),
    LandmarkPooling(4, 16, "cross"),
    LandmarkPooling(16, 16, "own"),
    LandmarkPooling(4, 16, "own"),
    LandmarkPooling(4, 16, "none"),
)
"""Kernels that `plan` tries at every site, beside exact attention."""


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
    """Kernels for the sites of a net, as `substitute` takes them.

    Attributes:
        choices: by site.
        fidelity_db: PSNR of the planned net's output against the exact net's on the sample, peak `peak`; infinite if
            nothing was substituted.
        seconds: median time of the planned net on the sample.
        exact_seconds: median time of the exact net.

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
    """

    choices: Mapping[str, Choice]
    fidelity_db: float
    seconds: float
    exact_seconds: float

    @property
    def kernels(self) -> dict[str, Kernel]:
        """Name of the site → kernel."""
        return {name: choice.kernel for name, choice in self.choices.items()}

    def __str__(self) -> str:
        """A line per site, and the whole net's time and fidelity."""
        width = max(map(len, self.choices))
        lines = [
            f"{name:{width}} {1e3 * choice.seconds:8.1f} ms, exact {1e3 * choice.exact_seconds:8.1f} ms {choice.kernel}"
            for name, choice in self.choices.items()
        ]
        net = f"whole net: {self.seconds:.3f} s, exact {self.exact_seconds:.3f} s; fidelity {self.fidelity_db:.1f} dB"
        return "\n".join([*lines, net])


def plan(
    net: nn.Module,
    sample: Tensor,
    *,
    budget_db: float,
    candidates: Sequence[Kernel] = CANDIDATES,
    sites: Sites = None,
    peak: float = 1.0,
    repeats: int = 3,
) -> Plan:
    """Choose kernels that make a net as fast as possible within a loss of fidelity, and never slower than it was.

    Every candidate that is faster than exact attention at a site, on that site's inputs, is tried there alone. Its
    error is the change of the net's output. Squared errors of small changes at different sites nearly add up. So as
    long as the budget holds, the replacement that saves most time for its error is taken. Then the whole net is run:
    while it misses the budget or is slower than the exact net, the site with the largest error goes back to exact
    attention.

    Args:
        net: host with exact attention; has the same kernels afterwards.
        sample: an input of the net, typical in size and content.
        budget_db: fidelity to keep, above 0: PSNR of the output against the exact net's, in dB.
        candidates: kernels to try; those that refuse a site's window are left out there.
        sites: which window attentions; None: all.
        peak: largest value of the output, for the PSNR: 1; DehazeFormer's range [-1, 1]: 2.
        repeats: timings of each, of which the median counts.

    Returns:
        The choice at every site; give `substitute` its `kernels`.

    Raises:
        ValueError: if there are no sites, or a number is out of range.

    Examples:
        >>> import torch
        >>> from nystra import LandmarkPooling, SwinIR, find_sites, plan, substitute
        >>> net = SwinIR(img_size=32, embed_dim=8, depths=[1], num_heads=[2], window_size=16).eval()
        >>> chosen = plan(net, torch.rand(1, 3, 32, 32), budget_db=40, candidates=[LandmarkPooling(4, 16)], repeats=1)
        >>> list(chosen.kernels) == list(find_sites(net)), chosen.fidelity_db >= 40
        (True, True)
        >>> substitute(net, chosen.kernels).sites[0].tokens
        256
    """
    if not budget_db > 0 or not peak > 0 or repeats < 1:
        raise ValueError(
            f"budget_db ({budget_db}) and peak ({peak}) must be above 0, and repeats ({repeats}) at least 1"
        )
    found = find_sites(net, sites)
    kernels = {name: site.kernel for name, site in found.items()}
    try:
        with torch.no_grad():
            return _Planner(net, sample, found, peak, repeats).plan(budget_db, candidates)
    finally:
        for name, site in found.items():
            site.kernel = kernels[name]
            site.forget_tables()


class _Planner:
    def __init__(self, net: nn.Module, sample: Tensor, sites: Mapping[str, Site], peak: float, repeats: int) -> None:
        self.net = net
        self.sample = sample
        self.sites = sites
        self.peak = peak
        self.repeats = repeats
        self.use({})
        self.exact = net(sample)

    def use(self, kernels: Mapping[str, Kernel]) -> None:
        for name, site in self.sites.items():
            site.kernel = kernels.get(name, Softmax())

    def error(self, kernels: Mapping[str, Kernel]) -> float:
        """Sum of squared differences that kernels make in the output."""
        self.use(kernels)
        return float((self.net(self.sample).double() - self.exact.double()).square().sum())

    def fidelity(self, error: float) -> float:
        mean = torch.tensor(error / self.exact.numel(), dtype=torch.float64)
        return float(10 * torch.log10(self.peak**2 / mean))

    def plan(self, budget_db: float, candidates: Sequence[Kernel]) -> Plan:
        choices = {name: self._options(name, candidates) for name in self.sites}
        chosen = {name: options[0] for name, options in choices.items()}
        budget = self.exact.numel() * self.peak**2 * 10 ** (-budget_db / 10)
        spent = 0.0
        while True:
            # The replacement that saves most time for what it adds to the error, of those that still fit.
            steps = [
                ((chosen[name].seconds - option.seconds) / max(option.error - chosen[name].error, 1e-30), name, option)
                for name, options in choices.items()
                for option in options
                if option.seconds < chosen[name].seconds and spent + option.error - chosen[name].error <= budget
            ]
            if not steps:
                break
            _, name, option = max(steps, key=lambda step: step[0])
            spent += option.error - chosen[name].error
            chosen[name] = option
        return self._settle(chosen, budget_db)

    def _settle(self, chosen: dict[str, Choice], budget_db: float) -> Plan:
        """Return sites to exact attention until the whole net keeps the budget and is not slower."""
        while True:
            kernels = {name: choice.kernel for name, choice in chosen.items()}
            seconds, exact_seconds = self._net_seconds(kernels)
            replaced = [name for name, choice in chosen.items() if not isinstance(choice.kernel, Softmax)]
            fidelity = self.fidelity(self.error(kernels)) if replaced else torch.inf
            if not replaced or (fidelity >= budget_db and seconds <= exact_seconds):
                return Plan(chosen, fidelity, seconds, exact_seconds)
            worst = max(replaced, key=lambda name: chosen[name].error)
            exact = chosen[worst].exact_seconds
            chosen = {**chosen, worst: Choice(Softmax(), exact, exact, 0.0)}

    def _net_seconds(self, kernels: Mapping[str, Kernel]) -> tuple[float, float]:
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(self.repeats):
            for choice, seconds in zip((kernels, {}), times, strict=True):
                self.use(choice)
                seconds.append(self._seconds(lambda: self.net(self.sample)))
        return statistics.median(times[0]), statistics.median(times[1])

    def _seconds(self, run: Callable[[], object]) -> float:
        """Time of a call, until an accelerator has finished the work that the call gave it."""
        self._synchronize()
        start = time.perf_counter()
        run()
        self._synchronize()
        return time.perf_counter() - start

    def _synchronize(self) -> None:
        if self.sample.device.type != "cpu":
            torch.accelerator.synchronize(self.sample.device)

    def _options(self, name: str, candidates: Sequence[Kernel]) -> list[Choice]:
        """Exact attention, then the candidates that fit a site's window and are faster there, with their errors."""
        site = self.sites[name]
        calls: list[Call] = []
        self.use({})
        with observed({name: site}, lambda _, *call: calls.append(call)):
            self.net(self.sample)
        if not calls:
            return [Choice(Softmax(), 0.0, 0.0, 0.0)]
        fitting = []
        for kernel in candidates:
            try:
                kernel.cost(site.window_size, calls[0][0].shape[3])
            except ValueError:
                continue
            fitting.append(kernel)
        seconds = self._call_seconds([Softmax(), *fitting], calls)
        exact = seconds[0]
        options = [Choice(Softmax(), exact, exact, 0.0)]
        for kernel, own in zip(fitting, seconds[1:], strict=True):
            if own < exact:
                options.append(Choice(kernel, own, exact, self.error({name: kernel})))
        return options

    def _call_seconds(
        self, kernels: Sequence[Kernel], calls: Sequence[tuple[Tensor, Tensor, Tensor, WindowGeometry]]
    ) -> list[float]:
        """Median time of each kernel over a site's calls, in turn, after one call each that makes its tables."""
        times: list[list[float]] = [[] for _ in kernels]
        for turn in range(self.repeats + 1):
            for kernel, counted in zip(kernels, times, strict=True):
                seconds = self._seconds(lambda: [kernel(*call) for call in calls])  # noqa: B023  # called at once
                if turn:
                    counted.append(seconds)
        return [statistics.median(counted) for counted in times]
