"""The published order of rows is looked for in measured ones, pair by pair."""

import pytest

from trainers.reproduction.miniatures import MiniatureRow, MiniatureTable
from trainers.reproduction.orders import Order, beyond_chance, compare_order


def test_pairs_are_counted_by_their_order():
    # Of three seeds the last row is below the others by about 1, the first two differ by chance.
    measured = [(30.0, 31.0, 32.0), (30.1, 30.9, 32.1), (29.0, 30.0, 31.05)]
    assert compare_order([3.0, 2.0, 1.0], measured) == Order(same=2, other=1, certain_same=2, certain_other=0)
    assert compare_order([1.0, 2.0, 3.0], measured) == Order(same=1, other=2, certain_same=0, certain_other=2)


def test_equal_published_values_are_no_pair():
    assert compare_order([33.8, 33.8], [(1.0, 2.0), (3.0, 4.0)]) == Order()


@pytest.mark.parametrize(
    ("differences", "certain"),
    [
        ([1.0], False),
        ([1.0, 1.1, 0.9], True),
        ([1.0, -1.0, 1.0], False),
        ([-1.0, -1.1, -0.9], True),
        ([0.0, 0.0], False),
    ],
)
def test_a_difference_is_beyond_chance_by_students_test(differences, certain):
    assert bool(beyond_chance(differences)) is certain


def test_a_miniature_has_means_deviations_and_paired_differences():
    rows = (MiniatureRow("CSA", 33.94, 33.94, (30.0, 32.0)), MiniatureRow("GLMHA", 33.86, 33.86, (29.0, 31.5)))
    first, second = MiniatureTable("glmha-table7", "Table 7", "PSNR, dB", rows).results()
    assert (first["mean"], first["difference"]) == (31.0, None)
    assert second["difference"] == -0.75
    # Of the differences, −1 and −0.5, and not of the values.
    assert second["difference_deviation"] == pytest.approx(0.5 / 2**0.5)
