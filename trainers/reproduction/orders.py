"""Whether the order of a published table's rows appears in measured ones."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean, stdev

from scipy.stats import t as student

CONFIDENCE = 0.95
"""Of the paired test that tells a difference from chance."""


@dataclass(frozen=True)
class Order:
    """Pairs of rows that differ as published, by what they do here.

    Attributes:
        same: pairs whose means have the published order.
        other: pairs whose means have the other order.
        certain_same: of the first, those whose difference is beyond chance.
        certain_other: of the second, likewise.
    """

    same: int = 0
    other: int = 0
    certain_same: int = 0
    certain_other: int = 0

    def __str__(self) -> str:
        """The verdict in a sentence."""
        pairs = self.same + self.other
        return (
            f"Order: {self.same} of the paper's {pairs} pairs of unequal rows are ordered as published here, "
            f"{self.certain_same} of them beyond chance; {self.other} the other way round, {self.certain_other} beyond "
            f"chance (paired over the seeds, {CONFIDENCE:.0%})."
        )


def compare_order(published: Sequence[float], measured: Sequence[Sequence[float]]) -> Order:
    """Compare the order of a table's rows with the published one, pair by pair.

    Args:
        published: value of each row, or its rank where the value is not known; pairs of equal ones are left out.
        measured: values of each row, those of the same seed at the same place.

    Returns:
        The numbers of pairs.
    """
    counts = {"same": 0, "other": 0, "certain_same": 0, "certain_other": 0}
    for first, second in combinations(range(len(published)), 2):
        wanted = published[first] - published[second]
        if wanted == 0:
            continue
        differences = [a - b for a, b in zip(measured[first], measured[second], strict=True)]
        name = "same" if fmean(differences) * wanted > 0 else "other"
        counts[name] += 1
        counts[f"certain_{name}"] += beyond_chance(differences)
    return Order(**counts)


def beyond_chance(differences: Sequence[float]) -> bool:
    """Tell whether the mean of differences is unlike 0 by Student's test; False for a single one."""
    if len(differences) < 2:
        return False
    error = stdev(differences) / math.sqrt(len(differences))
    return abs(fmean(differences)) > error * student.ppf((1 + CONFIDENCE) / 2, len(differences) - 1)
