"""Messages on values that fit none of an option's types: in a user's words, whatever the parser makes of the value."""

import pytest


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--trainer.callbacks", "{class_path: torch.nn.Identity}"], "(torch.nn.Identity) must name a class that is a"),
        (["--model.loss", "{class_path: torch.optim.AdamW}"], "(torch.optim.AdamW) must name a class that is a"),
        (["--model.optimizer.lr", "PICTURE"], "must be a value, or the name of a recipe (a text file)"),
        (["--trainer.max_steps", "PICTURE"], "must be"),
    ],
)
def test_values_of_other_kinds_are_refused_without_python_s_words(lowrank, recipe, pairs, capsys, words, message):
    picture = str(next((pairs / "train/input").iterdir()))
    assert lowrank("fit", "--config", recipe, *(word.replace("PICTURE", picture) for word in words)) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: {words[0][2:]} (")
    assert message in told
    assert "<class" not in told


@pytest.mark.parametrize(
    ("net", "option"),
    [
        ("nystra.SwinIR", "img_size"),
        ("nystra.SwinIR", "embed_dim"),
        ("nystra.Uformer", "embed_dim"),
        ("nystra.Uformer", "img_size"),
        ("glmha.Restormer", "dim"),
        ("glmha.MSTPlusPlus", "in_channels"),
    ],
)
@pytest.mark.parametrize("size", [2**40, 2**63, 2**70])
def test_sizes_that_no_machine_holds_are_refused(lowrank, recipe, capsys, net, option, size):
    words = ["--model.net", net, f"--model.net.{option}", size]
    assert lowrank("fit", "--config", recipe, *words) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert "must" in told
    assert "Exception raised from" not in told
