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
