"""Every public class and function shows an example in its docstring, and each example gives the value it shows."""

import doctest
import importlib
import inspect

import pytest

FACES = (
    "glmha",
    "glmha.complexity",
    "glmha.hosts",
    "glmha.spectrum",
    "glmha.shared.image_network",
    "nystra",
    "nystra.analysis",
    "nystra.kernels",
    "nystra.sites",
    "nystra.windows",
    "datamodules",
    "datamodules.cassi",
    "datamodules.degradations",
    "trainers",
    "trainers.metrics",
    "trainers.losses",
    "trainers.schedules",
)


def public(face: str) -> list[str]:
    module = importlib.import_module(face)
    names = getattr(module, "__all__", None) or [
        name for name, value in vars(module).items() if getattr(value, "__module__", None) == face and name[0] != "_"
    ]
    return [
        name for name in names if inspect.isclass(getattr(module, name)) or inspect.isfunction(getattr(module, name))
    ]


@pytest.mark.parametrize(("face", "name"), [(face, name) for face in FACES for name in public(face)])
def test_the_example_gives_what_it_shows(face, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    value = getattr(importlib.import_module(face), name)
    tests = doctest.DocTestFinder(recurse=True).find(value, name, globs={})
    assert any(test.examples for test in tests), f"{face}.{name} has no example (>>>) in its docstring"
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    for test in tests:
        runner.run(test)
    assert not runner.failures, f"{face}.{name}: see what was printed above"
