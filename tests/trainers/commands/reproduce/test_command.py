"""`lowrank reproduce` lists, prints, plans and refuses; miniatures are trained once."""

import dataclasses
import functools
import json

import pytest
import torch
from torch import nn

from datamodules import DemoDataModule
from tests.test_documents import unknown_options
from trainers.cli.main import main
from trainers.cli.verbs import FUNCTION_VERBS, TRAINER_VERBS
from trainers.commands.reproduce import miniature
from trainers.reproduction.items import ITEMS


def test_all_tables_and_figures_are_listed(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce"]) == 0
    printed = capsys.readouterr().out
    assert [name for name in ITEMS if name not in printed] == []


@pytest.mark.parametrize("item", [item for item in ITEMS.values() if item.how], ids=lambda item: item.name)
def test_the_command_of_an_item_exists(item):
    words = item.how.split()
    assert words[0] == "lowrank"
    assert " ".join(words[1:3]) in FUNCTION_VERBS or words[1] in FUNCTION_VERBS | TRAINER_VERBS
    assert unknown_options(item.how) == []


def test_a_table_is_printed_and_written(tmp_path, capsys):
    assert main(["reproduce", "glmha-table8", f"--output={tmp_path}"]) == 0
    assert "33.86" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {f"glmha-table8.{suffix}" for suffix in ("json", "csv", "tex")}


def test_the_plan_has_the_commands_of_every_row(tmp_path, capsys):
    assert main(["reproduce", "glmha-table7", "glmha-table9", "--plan", "--data.root=R", f"--output={tmp_path}"]) == 0
    printed = capsys.readouterr().out
    # Full attention and 50 % are in both tables.
    assert printed.count("lowrank fit") == printed.count("lowrank test") == 8
    assert "sbatch --array=1-8 docs/guides/slurm_array.sh glmha-table7 glmha-table9 --data.root=R" in printed
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["glmha-table"], "did you mean glmha-table"),
        (["glmha-table7", "--pretrained.glmha-55=a"], "did you mean glmha-"),
        (["pnp-table4", "--data.sid=a"], "did you mean sidd"),
        (["glmha-table7", "--run"], "data.root must be given"),
        (["glmha-table7", "--pretrained.csa=a"], "data.root must be given"),
        (["pnp-table3", "--run", "--data.root=R"], "pretrained.dehazeformer-reside-out"),
        (["glmha-table7", "--job=1"], "job (1) must be given with --run"),
        (["glmha-table7", "--run", "--job=6", "--data.root=R"], "1 to 5"),
        (["glmha-table7", "--run", "--plan"], "plan must be given without --run"),
        (["glmha-table7", "--steps=2"], "steps must be given with --scale mini"),
        (["glmha-table7", "--scale=mini", "--seeds=0"], "seeds (0) must be at least 1"),
        (["glmha-table2", "--scale=mini"], "names (glmha-table2) must have a miniature"),
        (["--scale=mini"], "scale (mini) must be given with names"),
        (["--run"], "must be given with names"),
        (["glmha-table7", "--run", "--data.root=R", "--changes=nowhere.yaml"], "config (nowhere.yaml)"),
    ],
)
def test_what_does_not_fit_together_is_refused(arguments, message, tmp_path, capsys):
    assert main(["reproduce", *arguments, f"--output={tmp_path}"]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


class Brighter(nn.Module):
    """Adds a number to an image."""

    def __init__(self, number: float) -> None:
        super().__init__()
        self.number = nn.Parameter(torch.tensor(number))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image + self.number


def test_a_miniature_trains_every_row_once_with_the_same_seeds(tmp_path, capsys, monkeypatch):
    trained = []

    def train(recipe, name, output, steps, options):
        trained.append((output.name, name, next(word for word in options if word.startswith("--data.seed"))))
        return Brighter(0.01 * len(trained))

    data = functools.partial(DemoDataModule, eval_size=16)
    for number in (8, 9):
        monkeypatch.setitem(miniature.SETTINGS, number, dataclasses.replace(miniature.RAIN, train=train, data=data))
    command = ["reproduce", "--scale=mini", "--steps=1", f"--output={tmp_path}"]
    assert main([*command, "--seeds=1", "glmha-table8"]) == 0
    assert len(trained) == 5
    # What is there is not trained again, 50 % of another table included.
    assert main([*command, "--seeds=2", "glmha-table8", "glmha-table9"]) == 0
    assert len(trained) == len(set(trained)) == 5 + 5 + 2 * 4
    assert "of the paper's 9 pairs of unequal rows" in capsys.readouterr().out
    content = json.loads((tmp_path / "glmha-table8-mini.json").read_text())
    assert [len(row["values"]) for row in content["results"]] == [2] * 5


@pytest.mark.slow
def test_miniatures_train_and_substitute(tmp_path, capsys):
    names = ["glmha-table1", "glmha-table9", "pnp-table6"]
    assert main(["reproduce", *names, "--scale=mini", "--steps=1", "--seeds=1", f"--output={tmp_path}"]) == 0
    assert capsys.readouterr().out.count("MINIATURE") == 4
    drops = json.loads((tmp_path / "pnp-table6-landmarks-mini.json").read_text())["results"]
    assert [row["label"] for row in drops] == ["1", "4", "16", "64"]
