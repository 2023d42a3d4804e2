"""`lowrank export`."""

from pathlib import Path

import pytest
import torch

from tests.trainers.small_networks import restormer
from trainers.commands.export import export_weights


def test_exports_are_pth_files(lowrank, released, tmp_path, capsys):
    assert lowrank("export", "--checkpoint", released, "--output", tmp_path / "net.onnx") == 2
    assert "must end in .pth or .pt" in capsys.readouterr().err


@pytest.mark.parametrize("link", [None, Path.symlink_to, Path.hardlink_to])
def test_a_checkpoint_is_not_replaced_by_its_weights(tmp_path, link):
    checkpoint = output = tmp_path / "net.pth"
    torch.save({"params": restormer().state_dict(), "optimizer": 1}, checkpoint)
    if link is not None:
        output = tmp_path / "other.pth"
        link(output, checkpoint)
    with pytest.raises(ValueError, match="must not be the checkpoint itself"):
        export_weights(checkpoint, output=output)
    assert "optimizer" in torch.load(checkpoint, weights_only=True)
