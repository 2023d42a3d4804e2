"""Recipes of strangers: what they may name, and YAML that would not end."""

import contextlib
import sys
import types
from collections.abc import Callable, Iterator
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonargparse import ArgumentError
from torch import nn

import nystra
from tests.attack.inputs.recipes import put
from tests.attack.inputs.values import EFFECTS, FORBIDDEN, HOSTILE
from trainers.commands.bench.networks import load_baseline
from trainers.errors import UsageError
from trainers.names import import_class, restrict_names
from trainers.recipes.find import find_config, find_configs
from trainers.recipes.parser import RecipeParser
from trainers.recipes.yaml_text import bounded_yaml, require_recipe

ALLOWED = ("torch.nn.Identity", "torch.nn.L1Loss", "nystra.hosts.swinir.SwinIR", "mynets.Net")
OWN = "from torch import nn\n\n\nclass Net(nn.Identity):\n    pass\n"


@pytest.fixture
def parser(tmp_path, monkeypatch) -> RecipeParser:
    """A parser of the kinds of options that recipes have, beside a module of the user's."""
    (tmp_path / "mynets.py").write_text(OWN)
    (tmp_path / "torch.py").write_text("raise AssertionError('a file in the working directory hides torch')")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    restrict_names()
    parser = RecipeParser(exit_on_error=False)
    parser.add_subclass_arguments(nn.Module, "net")
    parser.add_argument("--factory", type=Callable[[int], nn.Module])
    parser.add_argument("--call", type=Callable)
    parser.add_argument("--either", type=Callable[[int], nn.Module] | list[Callable[[int], nn.Module]] | None)
    return parser


@pytest.mark.parametrize("name", FORBIDDEN)
def test_no_option_imports_what_recipes_may_not_name(parser, name):
    before = set(sys.modules)
    for option in ("net", "factory", "call", "either"):
        for value in (name, {"class_path": name}, {"class_path": name, "init_args": {"args": "exit 1"}}, [name]):
            with pytest.raises(ArgumentError):
                parser.parse_object({"net": {"class_path": "torch.nn.Identity"}, option: value})
    assert not {name.partition(".")[0] for name in EFFECTS} & (set(sys.modules) - before)


@pytest.mark.parametrize("name", ALLOWED)
def test_classes_of_this_package_of_torch_and_of_the_user_are_found(parser, name):
    values = parser.parse_object({"net": {"class_path": "torch.nn.Identity"}, "factory": name})
    assert values.factory is not None


def test_packages_of_an_editable_installation_are_found(tmp_path, monkeypatch):
    (tmp_path / "editable_nets.py").write_text(OWN)
    # As setuptools writes one: a class in a module of its own, beside the names that it finds.
    module = types.ModuleType("__editable___mine_finder")
    vars(module)["MAPPING"] = {"editable_nets": str(tmp_path / "editable_nets"), "subprocess": "", "torch": ""}
    find = classmethod(lambda cls, name, path=None, target=None: PathFinder.find_spec(name, [str(tmp_path)]))
    finder = type("Finder", (), {"__module__": module.__name__, "find_spec": find})
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, finder])
    assert import_class("editable_nets.Net", nn.Module).__name__ == "Net"
    for denied in ("subprocess.Popen", "torch.jit.ScriptModule"):
        with pytest.raises(ValueError, match="nothing else is imported"):
            import_class(denied, object)


def test_folders_that_cannot_be_read_are_passed_over(tmp_path, monkeypatch):
    closed = tmp_path / "closed"
    closed.mkdir()
    (tmp_path / "readable_nets.py").write_text(OWN)
    listed = Path.iterdir

    def iterdir(folder: Path) -> Iterator[Path]:
        if folder == closed:
            raise PermissionError(13, "Permission denied")
        return listed(folder)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    monkeypatch.setattr(sys, "path", [*sys.path, str(closed), str(tmp_path / "gone"), str(tmp_path)])
    assert import_class("readable_nets.Net", nn.Module).__name__ == "Net"


def test_a_class_must_fit_its_option(parser):
    with pytest.raises(ArgumentError):
        parser.parse_object({"net": {"class_path": "trainers.metrics.Protocol"}})


@pytest.mark.parametrize(
    "name", [*FORBIDDEN, "this", "tests.conftest", "torch.nn.functional.relu", "glmha.load_pretrained"]
)
def test_a_baseline_is_a_network_that_recipes_may_name(name):
    before = set(sys.modules)
    message = (
        rf"baseline \({name}\) must be the import path of a class like Linear: (got no subclass|.*no (module|attr))"
    )
    with pytest.raises(ValueError, match=f"(?i){message}"):
        load_baseline(name, nn.Linear(1, 1), args="exit 1")
    assert not {name.partition(".")[0] for name in EFFECTS} & (set(sys.modules) - before)


@pytest.mark.parametrize("name", ["tests.reference.swinir.SwinIR", "nystra.hosts.swinir.SwinIR"])
def test_a_baseline_of_the_working_directory_or_of_this_package_is_loaded(name):
    arguments: dict[str, Any] = {"embed_dim": 8, "depths": (2,), "num_heads": (2,), "window_size": 4}
    arguments |= {"upscale": 2, "upsampler": "pixelshuffledirect"}
    exact = nystra.hosts.swinir.SwinIR(**arguments)
    assert type(load_baseline(name, exact, **arguments)).__name__ == "SwinIR"


def test_what_is_not_allowed_is_named_with_what_is(lowrank, recipe, capsys):
    assert lowrank("fit", "--config", recipe, "--model.loss", "os.system") == 2
    message = capsys.readouterr().err
    assert message.startswith("error: model.loss (os.system) must name a class of this package, of torch.nn")
    assert "module in the working directory" in message


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_recipe_is_refused_by_its_name(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "hostile.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"config \(.*hostile\.yaml\) must (be YAML|hold options)"):
        require_recipe(path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("value", ["5", "other.yaml", "[other.yaml]", "null"])
def test_a_recipe_names_no_other_one(tmp_path, value):
    path = tmp_path / "recipe.yaml"
    path.write_text(f"config: {value}\n")
    with pytest.raises(UsageError, match=r"recipe\.yaml\) must hold options and their values, got another recipe"):
        require_recipe(path)


FORMS = [["--config", "{}"], ["--config={}"], ["-c", "{}"], ["-c={}"], ["-c{}"]]


@pytest.mark.parametrize("words", FORMS, ids=" ".join)
def test_recipes_are_found_and_checked_however_they_are_given(tmp_path, words):
    path = tmp_path / "hostile.yaml"
    path.write_text("trainer:\n\tmax_steps: 1")
    with pytest.raises(UsageError, match=r"config \(.*hostile\.yaml\) must be YAML"):
        find_configs([word.format(path) for word in words])
    installed = find_config("demo/swinir.yaml")
    assert find_configs([word.format("demo/swinir.yaml") for word in words])[-1].removeprefix("--config=") == installed


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1", "utf-32"])
def test_another_encoding_is_named(tmp_path, encoding):
    path = tmp_path / "recipe.yaml"
    path.write_bytes("# für Fotos\ntrainer: {max_steps: 1}\n".encode(encoding))
    with pytest.raises(UsageError, match=r"recipe\.yaml\) must be text in UTF-8"):
        require_recipe(path)


def test_a_recipe_with_the_mark_of_utf_8_is_read(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("\ufefftrainer: {max_steps: 1}\n")
    require_recipe(path)


def test_aliases_serve_where_they_stand_for_little():
    assert bounded_yaml("a: &a {b: [1, 2]}\nc: *a\nd: {<<: *a, e: 3}") == {
        "a": {"b": [1, 2]},
        "c": {"b": [1, 2]},
        "d": {"b": [1, 2], "e": 3},
    }


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(alphabet=st.sampled_from("a1&*:-[]{}<>!|'\"#,\n\t ?.%@"), max_size=60))
def test_any_text_is_read_or_refused(text):
    with contextlib.suppress(yaml.YAMLError):
        bounded_yaml(text)


def test_an_included_file_is_bounded_as_well(lowrank, recipe, tmp_path, capsys):
    (tmp_path / "net.yaml").write_text(HOSTILE["lists"])
    content = yaml.safe_load(recipe.read_text())
    content["model"]["init_args"]["net"] = str(tmp_path / "net.yaml")
    recipe.write_text(yaml.safe_dump(content))
    assert lowrank("fit", "--config", recipe) == 2
    assert Path("net.yaml").name in capsys.readouterr().err


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("watch", None, "watch (null) must hold options and their values; leave it out for the defaults"),
        ("watch", True, "watch (True) must hold options"),
        ("trainer", [[]], "trainer ([[]]) must hold options"),
        ("data", 3, "data (3) must be a class"),
        ("trainer.strategy", 0.5, "trainer.strategy (0.5) must be str or a class"),
        ("trainer.max_time", 3, "trainer.max_time (3) must be str or timedelta"),
        ("model.init_args.net.class_path", ["x"], "model.net ({'class_path': ['x'], "),
        ("model.init_args.net.class_path", 1, "model.net ({'class_path': 1, "),
        ("model.init_args.scheduler.init_args", None, "model.scheduler ({'class_path': "),
        ("data.init_args.batch_size", None, "data.batch_size (null) must be int; leave it out"),
        ("model.init_args.net.init_args.dim", None, "model.net.dim (null) must be int; leave it out"),
        ("trainer.max_steps", None, "trainer.max_steps (null) must be int; leave it out"),
        ("run.accept_changes", None, "run.accept_changes (null) must be bool; leave it out"),
        ("trainer.devices", "a b", "trainer must be made of options that Lightning takes, got: `devices` selected"),
    ],
)
def test_values_of_another_structure_are_refused_in_a_users_words(lowrank, recipe, capsys, place, value, message):
    content = yaml.safe_load(recipe.read_text())
    put(content, tuple(place.split(".")), value)
    recipe.write_text(yaml.safe_dump(content))
    assert lowrank("fit", "--config", recipe) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: {message}")
    assert "must be" in printed or "must hold" in printed


def test_a_word_in_the_place_of_a_number_is_named(lowrank, capsys):
    assert lowrank("analyze", "complexity", "7", "extra") == 2
    assert capsys.readouterr().err == "error: tables (extra) must be int\n"
