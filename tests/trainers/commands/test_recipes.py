"""The list of recipes: one sentence for each file, which can be printed and run."""

import pytest
import yaml

from trainers.commands.recipes import headline
from trainers.recipes.find import installed_configs


@pytest.mark.parametrize("name", installed_configs())
def test_every_recipe_begins_with_a_short_sentence(name):
    path = installed_configs()[name]
    assert path.read_text().startswith("# ")
    sentence = headline(path)
    assert sentence.endswith(".")
    assert len(sentence) <= 88


def test_every_recipe_is_listed_under_its_folder(lowrank, capsys):
    assert lowrank("recipes") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines.index("demo") < lines.index("eval")
    listed = {line.split()[0]: line for line in lines if line.startswith("  ")}
    assert listed.keys() == installed_configs().keys()
    assert all(line.endswith(headline(installed_configs()[name])) for name, line in listed.items())


def test_a_recipe_is_printed_as_it_is(lowrank, capsys):
    assert lowrank("recipes", "configs/demo/swinir.yaml") == 0
    printed = capsys.readouterr().out
    assert printed == installed_configs()["demo/swinir.yaml"].read_text()
    assert yaml.safe_load(printed)["model"]["class_path"] == "trainers.RestorationTask"


def test_an_unknown_recipe_is_answered_with_the_nearest(lowrank, capsys):
    assert lowrank("recipes", "demo/swinr.yaml") == 2
    assert capsys.readouterr().err.rstrip().endswith("did you mean demo/swinir.yaml?")
