"""Whole numbers stay whole: one batch is not the whole of them."""

import functools
import operator
from typing import Union, get_args

import pytest
from torch import nn

from trainers.recipes.parser import RecipeParser
from trainers.recipes.parser_messages import whole_numbers_first

# Lightning writes Optional[Union[int, float]]; where typing has met the other order before, this is what comes of it.
FLOAT_FIRST = Union[float, int, None]  # noqa: UP007


class Limited(nn.Identity):
    """A network with a limit."""

    def __init__(self, limit: FLOAT_FIRST = None) -> None:
        super().__init__()


@pytest.mark.parametrize(("word", "value"), [("1", 1), ("0.5", 0.5), ("1.0", 1.0), ("null", None)])
def test_a_number_is_taken_as_it_is_written(word, value):
    assert get_args(FLOAT_FIRST)[0] is float
    parser = RecipeParser(exit_on_error=False)
    parser.add_argument("--limit", type=FLOAT_FIRST)
    parser.add_class_arguments(Limited, "of")
    parser.add_subclass_arguments(nn.Module, "net")
    options = [f"--limit={word}", f"--of.limit={word}", f"--net={__name__}.Limited", f"--net.limit={word}"]
    parsed = parser.parse_args(options)
    for found in (parsed.limit, parsed.of.limit, parsed.net.init_args.limit):
        assert found == value
        assert type(found) is type(value)


@pytest.mark.parametrize("types", [[int, float], [str, float, int], [float, str, int], [bool, None, float]])
def test_other_types_stay_where_they_are(types):
    members = list(get_args(whole_numbers_first(functools.reduce(operator.or_, types))))
    types = [type(None) if each is None else each for each in types]
    assert [each for each in members if each not in (int, float)] == [e for e in types if e not in (int, float)]
    assert sorted(map(str, members)) == sorted(map(str, types))
    if int in members:
        assert members.index(int) < members.index(float)
