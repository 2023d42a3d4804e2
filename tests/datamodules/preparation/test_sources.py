"""The table of data sets is complete and leads to the data modules."""

import pytest

from datamodules.preparation.inventory import DATA_SETS
from datamodules.preparation.sources import published_sources


def test_every_set_that_can_be_prepared_is_in_it():
    table = published_sources()
    assert DATA_SETS.keys() <= table.keys()
    assert all(table[name].module == module.__name__ for name, module in DATA_SETS.items())


@pytest.mark.parametrize("entry", published_sources().values(), ids=lambda entry: entry.name)
def test_an_entry_has_places_terms_and_the_layout_of_its_module(entry):
    assert entry.title
    assert entry.terms
    # Vid4's layout is that of every video test set.
    assert "::\n" in entry.facts or entry.name == "vid4"
    assert "Args:" not in entry.facts
    for place in entry.sources:
        assert (place.address is None) != (place.page is None)
        assert str(place.address or place.page).startswith("http")
