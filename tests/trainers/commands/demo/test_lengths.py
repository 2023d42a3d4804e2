"""Trainings of the demonstration, as long as they are by default, end with a validation."""

import pytest
import yaml

from trainers.commands.demo import command, finetuning, learned, spectral, substitution, video

PARTS = {
    "learned": learned,
    "spectral": spectral,
    "substitution": substitution,
    "finetune": finetuning,
    "video": video,
}


class Reached(Exception):
    """Raised where a training would begin; its argument is the options of it."""


@pytest.fixture
def stopped(monkeypatch):
    """Every training of the demonstration stops before it begins."""

    def stop(options):
        raise Reached(options)

    for module in PARTS.values():
        monkeypatch.setattr(module, "fit", stop)


@pytest.mark.parametrize("part", command.PARTS)
def test_a_training_of_the_default_length_ends_with_a_validation(stopped, lowrank, part, tmp_path, monkeypatch, capsys):
    # Fine-tuning is what the last part trains beside the miniature of the one before.
    monkeypatch.setattr(finetuning, "train_miniature", lambda output, steps: tmp_path / "last.ckpt")
    with pytest.raises(Reached) as reached:
        command.PARTS[part](tmp_path / part)
    capsys.readouterr()
    assert lowrank("fit", *reached.value.args[0], "--print_config") == 0
    config = yaml.safe_load(capsys.readouterr().out)
    trainer, data = config["trainer"], config["data"]["init_args"]
    assert trainer["val_check_interval"] in (None, 1.0)
    between = trainer["check_val_every_n_epoch"] * data["epoch_length"] // data["batch_size"]
    assert trainer["max_steps"] % between == 0, f"{trainer['max_steps']} steps, {between} between validations"
