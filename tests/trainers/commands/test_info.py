"""What the installation has, for people and for programs."""

import json

import torch

from nystra.programs.cpu import library


def test_versions_and_native_programs_are_told(lowrank, capsys):
    assert lowrank("info") == 0
    lines = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    assert lines["torch"].strip() == torch.__version__
    path, phrase = library.object_file()
    assert (str(path) if path else phrase) in lines["native programs"]


def test_missing_programs_are_told_with_the_reason(lowrank, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(library, "FOLDER", tmp_path)
    monkeypatch.setattr(library, "_LIBRARY", None)
    assert lowrank("info", "--json", "true") == 0
    assert json.loads(capsys.readouterr().out)["native programs"].startswith("none")
