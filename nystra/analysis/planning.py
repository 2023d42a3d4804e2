"""Choice of a kernel for every site by error and time on a sample."""

from __future__ import annotations

import contextlib
import copy
import itertools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from glmha.shared import clock
from nystra.adoption.site import AdoptedSite, as_host
from nystra.analysis.plan import Choice, Plan, Precision, keep_channels_last
from nystra.kernels.base import Kernel
from nystra.kernels.content_pooling import ContentPooling
from nystra.kernels.landmark_pooling import LandmarkPooling
from nystra.kernels.nystrom import Nystrom
from nystra.kernels.pnp_nystra import PublishedNystrom
from nystra.kernels.softmax import Softmax
from nystra.programs.operators import plain_torch
from nystra.sites.observation import observed
from nystra.sites.site import Site
from nystra.sites.substitution import Sites, find_sites
from nystra.windows.geometry import WindowGeometry

Key = TypeVar("Key")
Call = tuple[Tensor, Tensor, Tensor, WindowGeometry]

CANDIDATES: tuple[Kernel, ...] = (
    ContentPooling(),
    LandmarkPooling(16, 64, "cross"),
    LandmarkPooling(16, 16, "cross"),
    LandmarkPooling(4, 16, "cross"),
    LandmarkPooling(16, 16, "own"),
    LandmarkPooling(4, 16, "own"),
    LandmarkPooling(4, 16, "none"),
    Nystrom(16, 32),
    PublishedNystrom(16, 2),
)
"""Kernels that `plan` tries at every site, beside exact attention."""
LEAST_TIGHTENING_DB = 1.0
"""Steps of the budget in which a plan that does not keep it is chosen anew."""


def plan(
    net: nn.Module,
    sample: Tensor,
    *,
    budget_db: float,
    others: Sequence[Tensor] = (),
    candidates: Sequence[Kernel] = CANDIDATES,
    precisions: Sequence[Precision] = ("float32",),
    sites: Sites = None,
    peak: float = 1.0,
    repeats: int = 3,
    seconds: float = 600.0,
) -> Plan:
    """Choose kernels that make a net as fast as possible within a loss of fidelity, and never slower than it was.

    Every candidate that is faster than exact attention at a site, on that site's inputs, is tried there alone. Its
    error is the change of the net's output. Squared errors of small changes at different sites nearly add up. So as
    long as the budget holds, the replacement that saves most time for its error is taken. Then the whole net is run,
    on other images, too: while it misses the budget or is slower than the exact net (an adopted one also than its
    authors' arithmetic), the site with the largest error goes back to exact attention. Last, the whole net is tried
    with weights channels last and in the other precisions.

    Which kernel is best depends on the network and on its windows: none is best everywhere.

    Args:
        net: host of `nystra.hosts`, or any net after `nystra.adopt`; has the same kernels afterwards.
        sample: an input of the net, typical in size and content.
        budget_db: fidelity to keep, above 0: PSNR of the output against the exact net's, in dB.
        others: further inputs, on which nothing is chosen but on which the budget must hold, too.
        candidates: kernels to try; those that refuse a site's window are left out there.
        precisions: "float32" and "bf16" (autocast), of which the fastest within the budget is taken.
        sites: which attentions; None: all.
        peak: largest value of the output, for the PSNR: 1; DehazeFormer's range [-1, 1]: 2.
        repeats: timings of each, of which the median counts; with one thread on a processor, of its own time.
        seconds: after which no more sites are tried; those that were not stay exact.

    Returns:
        The choice at every site; give `substitute` its `kernels`, or call its `apply`.

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
    if not budget_db > 0 or not peak > 0 or not seconds > 0 or repeats < 1:
        raise ValueError(
            f"budget_db ({budget_db}), peak ({peak}) and seconds ({seconds}) must be above 0, and repeats ({repeats}) "
            "at least 1"
        )
    if not precisions or set(precisions) - {"float32", "bf16"}:
        raise ValueError(f"precisions ({', '.join(precisions)}) must be float32, bf16 or both")
    found = find_sites(net, sites)
    kernels = {name: site.kernel for name, site in found.items()}
    try:
        with torch.no_grad():
            planner = _Planner(net, [sample, *others], found, peak, repeats)
            return planner.plan(budget_db, candidates, precisions, time.monotonic() + seconds)
    finally:
        for name, site in found.items():
            site.kernel = kernels[name]
            site.forget_tables()


class _Planner:
    def __init__(
        self, net: nn.Module, inputs: Sequence[Tensor], sites: Mapping[str, Site], peak: float, repeats: int
    ) -> None:
        self.net = net
        self.inputs = inputs
        self.sample = inputs[0]
        self.sites = sites
        self.peak = peak
        self.repeats = repeats
        self.use({})
        self.exact = [net(each) for each in inputs]

    def use(self, kernels: Mapping[str, Kernel]) -> None:
        for name, site in self.sites.items():
            site.kernel = kernels.get(name, Softmax())

    def error(self, kernels: Mapping[str, Kernel]) -> float:
        """Sum of squared differences that kernels make in the output of the sample."""
        self.use(kernels)
        return _squared_error(self.net(self.sample), self.exact[0])

    def fidelities(self, net: nn.Module) -> list[float]:
        """Fidelity of a net's outputs, by input."""
        errors = [
            _squared_error(net(each), exact) / exact.numel()
            for each, exact in zip(self.inputs, self.exact, strict=True)
        ]
        return [float(10 * torch.log10(self.peak**2 / torch.tensor(each, dtype=torch.float64))) for each in errors]

    def plan(
        self, budget_db: float, candidates: Sequence[Kernel], precisions: Sequence[Precision], deadline: float
    ) -> Plan:
        """Choose at every site, then loosen what the whole net does not stand."""
        tried = {name: self._options(name, candidates, deadline) for name in self.sites}
        untried = tuple(name for name, options in tried.items() if options is None)
        options_of = {name: options or [_nothing_tried()] for name, options in tried.items()}
        allowed = self.exact[0].numel() * self.peak**2 * 10 ** (-budget_db / 10)
        chosen = _within(allowed, options_of)
        while True:
            kernels = {name: choice.kernel for name, choice in chosen.items()}
            replaced = [name for name, choice in chosen.items() if not isinstance(choice.kernel, Softmax)]
            self.use(kernels)
            missing = budget_db - min(self.fidelities(self.net)) if replaced else 0.0
            times = self._net_seconds(kernels) if missing <= 0 else {}
            if times and (not replaced or times["planned"] <= min(times[name] for name in times if name != "planned")):
                return self._as_a_whole(chosen, budget_db, precisions, times, untried)
            if missing > 0:
                # Another image, or what errors add up to, needs more: kernels that err less may still pay.
                spent = sum(choice.error for choice in chosen.values())
                allowed = min(allowed, spent) * 10 ** (-max(missing, LEAST_TIGHTENING_DB) / 10)
                tighter = _within(allowed, options_of)
                if tighter != chosen:
                    chosen = tighter
                    continue
            worst = max(replaced, key=lambda name: chosen[name].error)
            options_of[worst] = [Choice(Softmax(), chosen[worst].exact_seconds, chosen[worst].exact_seconds, 0.0)]
            chosen = {**chosen, worst: options_of[worst][0]}

    def _as_a_whole(
        self,
        chosen: dict[str, Choice],
        budget_db: float,
        precisions: Sequence[Precision],
        times: dict[str, float],
        untried: tuple[str, ...],
    ) -> Plan:
        """Choose precision and memory format of the whole net, of those that keep the budget the fastest."""
        self.use({name: choice.kernel for name, choice in chosen.items()})
        changed = any(not isinstance(choice.kernel, Softmax) for choice in chosen.values())
        ways: dict[tuple[Precision, bool], tuple[Callable[[], object], list[float]]] = {}
        for precision, channels_last in itertools.product(dict.fromkeys(precisions), (False, True)):
            net = copy.deepcopy(self.net)
            if channels_last:
                keep_channels_last(net)
            run = _Run(net, self.sample, precision)
            with run.context():
                fidelities = self.fidelities(net)
            if min(fidelities) >= budget_db or (precision, channels_last) == (precisions[0], False):
                ways[precision, channels_last] = run, fidelities
        seconds = self._medians({way: run for way, (run, _) in ways.items()})
        # A format that gains nothing but the noise of the clock is not worth a conversion.
        plain = (precisions[0], False)
        way = min(seconds, key=lambda each: seconds[each] * (1.0 if each == plain else 1.03))
        fidelities = ways[way][1]
        if not changed and way == plain and way[0] == "float32":
            fidelities = [torch.inf] * len(self.inputs)
        return Plan(
            chosen,
            fidelities[0],
            times["planned"] * seconds[way] / seconds[plain],
            times["exact"],
            times["fused"],
            times.get("host"),
            *way,
            min(fidelities[1:]) if len(fidelities) > 1 else None,
            untried,
        )

    def _net_seconds(self, kernels: Mapping[str, Kernel]) -> dict[str, float]:
        """Median times of the planned net, of exact attention here and in torch, and of an adopted net as it was."""

        def run(choice: Mapping[str, Kernel], context: Callable[[], contextlib.AbstractContextManager[object]]) -> None:
            self.use(choice)
            with context():
                self.net(self.sample)

        runs: dict[str, Callable[[], object]] = {
            "planned": lambda: run(kernels, contextlib.nullcontext),
            "exact": lambda: run({}, contextlib.nullcontext),
            "fused": lambda: run({}, plain_torch),
        }
        if any(isinstance(site, AdoptedSite) for site in self.sites.values()):
            runs["host"] = lambda: run({}, lambda: as_host(self.net))
        return self._medians(runs)

    def _medians(self, runs: Mapping[Key, Callable[[], object]]) -> dict[Key, float]:
        """Median times of some calls, in turn, after one of each."""
        times: dict[Key, list[float]] = {name: [] for name in runs}
        for turn in range(self.repeats + 1):
            for name, run in runs.items():
                seconds = self._seconds(run)
                if turn:
                    times[name].append(seconds)
        return {name: statistics.median(each) for name, each in times.items()}

    def _seconds(self, run: Callable[[], object]) -> float:
        """Time of a call, until an accelerator has finished the work that the call gave it."""
        start = clock.seconds(self.sample.device)
        run()
        return clock.seconds(self.sample.device) - start

    def _options(self, name: str, candidates: Sequence[Kernel], deadline: float) -> list[Choice] | None:
        """Exact attention, then the candidates that fit a site's window and are faster there, with their errors.

        None: the time was up.
        """
        if time.monotonic() > deadline:
            return None
        site = self.sites[name]
        calls: list[Call] = []
        self.use({})
        with observed({name: site}, lambda _, *call: calls.append(call)):
            self.net(self.sample)
        if not calls:
            return [_nothing_tried()]
        fitting = [kernel for kernel in candidates if _fits(kernel, calls)]
        seconds = self._medians(
            {kernel: lambda kernel=kernel: [kernel(*call) for call in calls] for kernel in (Softmax(), *fitting)}  # type: ignore[misc]
        )
        exact = seconds.pop(Softmax())
        options = [Choice(Softmax(), exact, exact, 0.0)]
        for kernel, own in seconds.items():
            if own < exact:
                options.append(Choice(kernel, own, exact, self.error({name: kernel})))
        return options


class _Run:
    """A call of a net in a precision."""

    def __init__(self, net: nn.Module, sample: Tensor, precision: Precision) -> None:
        self.net, self.sample, self.precision = net, sample, precision

    def context(self) -> contextlib.AbstractContextManager[object]:
        if self.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.sample.device.type, torch.bfloat16)

    def __call__(self) -> object:
        with self.context():
            return self.net(self.sample)


def _within(allowed: float, options_of: Mapping[str, Sequence[Choice]]) -> dict[str, Choice]:
    """Choose of each site's options, the first of which is exact attention, as long as the errors' sum is allowed.

    The replacement is taken that saves most time for what it adds to the error, of those that still fit.
    """
    chosen = {name: options[0] for name, options in options_of.items()}
    spent = 0.0
    while True:
        steps = [
            ((chosen[name].seconds - option.seconds) / max(option.error - chosen[name].error, 1e-30), name, option)
            for name, options in options_of.items()
            for option in options
            if option.seconds < chosen[name].seconds and spent + option.error - chosen[name].error <= allowed
        ]
        if not steps:
            return chosen
        _, name, option = max(steps, key=lambda step: step[0])
        spent += option.error - chosen[name].error
        chosen[name] = option


def _nothing_tried() -> Choice:
    return Choice(Softmax(), 0.0, 0.0, 0.0)


def _squared_error(output: Tensor, exact: Tensor) -> float:
    return float((output.double() - exact.double()).square().sum())


def _fits(kernel: Kernel, calls: Sequence[Call]) -> bool:
    try:
        for query, *_, geometry in calls:
            kernel.cost(geometry.window, query.shape[3])
    except ValueError:
        return False
    return True
