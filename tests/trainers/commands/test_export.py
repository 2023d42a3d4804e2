"""`lowrank export`."""


def test_exports_are_pth_files(lowrank, released, tmp_path, capsys):
    assert lowrank("export", "--checkpoint", released, "--output", tmp_path / "net.onnx") == 2
    assert "must end in .pth or .pt" in capsys.readouterr().err
