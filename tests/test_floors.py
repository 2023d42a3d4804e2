"""The shape of the packages: imports go down the floors, no circles, rooms and files of a bounded size.

Imports are read with `ast`; nothing is run. Arrows inside `TYPE_CHECKING` and inside functions count like any other.
"""

import ast
import functools
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("glmha", "nystra", "datamodules", "trainers")
LARGEST_FILE = 350
LARGEST_FOLDER = 10

# From the ground up. A room is a folder or a file of its package; rooms of one line do not import each other.
FLOORS = {
    "glmha": """
        shared
        functional
        cpu
        layers
        conventions
        attention
        low_rank complexity spectrum
        hosts
        pretrained
        warm_start
    """,
    "nystra": """
        functional
        windows
        programs
        kernels
        sites
        hosts analysis
        pretrained
    """,
    "datamodules": """
        errors
        cassi loading files
        degradations
        pairs
        base
        restoration spectral demo
        preparation
    """,
    "trainers": """
        errors losses schedules
        networks metrics evaluation tuning devices
        tiling checkpoints
        reports
        tasks
        monitoring
        runs
        recipes
        commands
        cli
    """,
}

# Package → what it may import of the others.
BELOW = {
    "glmha": (),
    "nystra": ("glmha.shared",),
    "datamodules": (),
    "trainers": ("glmha", "nystra", "datamodules"),
}

# Import → the only place (file, or folder with all below it) for it.
ONLY_PLACE = {"albumentations": "datamodules/pairs/transforms.py"}
FREE_OF_LIGHTNING = ("glmha", "nystra")


def sources() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@functools.cache
def trees() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text()) for path in sources()}


@functools.cache
def imports(path: Path) -> tuple[str, ...]:
    """Modules that a file imports; `from a import b` is a.b where that is a module, else a."""
    modules = {module_of(other) for other in trees()}
    found = []
    for node in ast.walk(trees()[path]):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [name if name in modules else str(node.module) for name in names]
    return tuple(dict.fromkeys(found))


def room(module: str) -> str:
    """The folder or file of its package that a module is in; the package's own face and `__main__` are in none."""
    return "" if "." not in module or module.endswith("__main__") else module.split(".")[1]


def floor(package: str, name: str) -> int:
    for number, line in enumerate(FLOORS[package].split("\n")):
        if name in line.split():
            return number
    raise AssertionError(f"{package}/{name} has no floor: give it a line in {Path(__file__).name}")


def is_below(package: str, to: str, module: str) -> bool:
    return floor(package, room(to)) < floor(package, room(module))


def arrows() -> list[tuple[str, str]]:
    """(importing module, imported module) within the four packages; their lazy top-level faces are left out."""
    pairs = []
    for path in sources():
        module = module_of(path)
        pairs += [(module, to) for to in imports(path) if to.split(".")[0] in PACKAGES and to != module]
    return pairs


def test_imports_go_down_the_floors():
    wrong = []
    for module, to in arrows():
        package, other = module.split(".")[0], to.split(".")[0]
        if package != other:
            allowed = any(f"{to}.".startswith(f"{name}.") for name in BELOW[package])
            if not allowed:
                wrong.append(f"{module} imports {to}: {package} may import {BELOW[package] or 'no other package'}")
        elif room(module) and room(to) and room(module) != room(to) and not is_below(package, to, module):
            wrong.append(f"{module} imports {to}: {room(to)} is not below {room(module)}")
    assert not wrong, "\n".join(wrong)


def test_no_two_files_import_each_other_over_any_way():
    graph: dict[str, list[str]] = {}
    for module, to in arrows():
        graph.setdefault(module, []).append(to)
    circles, done = [], set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        if module in way:
            circles.append(" → ".join([*way[way.index(module) :], module]))
        elif module not in done:
            for to in graph.get(module, []):
                visit(to, (*way, module))
            done.add(module)

    for module in list(graph):
        visit(module, ())
    assert not circles, "\n".join(circles)


def test_every_room_has_one_floor():
    for package in PACKAGES:
        inside = {path.stem for path in (ROOT / package).glob("*.py")} | {
            path.name for path in (ROOT / package).iterdir() if (path / "__init__.py").is_file()
        }
        listed = FLOORS[package].split()
        assert sorted(listed) == sorted(inside - {"__init__", "__main__"})


def test_files_and_folders_are_small():
    wrong = [
        f"{path.relative_to(ROOT)}: {lines} lines, over {LARGEST_FILE}"
        for path in sources()
        if (lines := len(path.read_text().splitlines())) > LARGEST_FILE
    ]
    for folder in sorted({path.parent for path in sources()}):
        files = [path for path in folder.glob("*.py") if path.name not in ("__init__.py", "__main__.py")]
        if len(files) > LARGEST_FOLDER:
            wrong.append(f"{folder.relative_to(ROOT)}: {len(files)} files, over {LARGEST_FOLDER}")
    assert not wrong, "\n".join(wrong)


def test_every_folder_says_in_one_sentence_what_it_is_for():
    for path in sources():
        docstring = ast.get_docstring(trees()[path])
        assert docstring, f"{path} has no docstring"
        if path.name == "__init__.py":
            sentence = docstring.splitlines()[0]
            assert sentence.endswith("."), f"{path} begins with no sentence: {sentence}"


def test_faces_define_nothing():
    # A function of the module's own is only what imports on use (PEP 562).
    for path in sources():
        if path.name == "__init__.py":
            defined = [
                node.name
                for node in trees()[path].body
                if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name != "__getattr__"
            ]
            assert not defined, f"{path} defines {defined}"


def test_code_imports_from_where_a_name_is_defined():
    """A folder's face is for users: the package's own code names the file."""
    folders = {module_of(path) for path in sources() if path.name == "__init__.py"} - set(PACKAGES)
    wrong = [
        f"{module_of(path)} imports from the face {to}"
        for path in sources()
        if path.name != "__init__.py"
        for to in imports(path)
        if to in folders
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("package", FREE_OF_LIGHTNING)
def test_attention_packages_know_no_lightning(package):
    for path in sources():
        if path.is_relative_to(ROOT / package):
            assert not [to for to in imports(path) if to.split(".")[0] in ("lightning", "pytorch_lightning")], path


def test_libraries_are_wrapped_in_one_place():
    for library, place in ONLY_PLACE.items():
        users = {path.relative_to(ROOT).as_posix() for path in sources() if library in imports(path)}
        assert users == {place}


def test_one_file_reads_pickled_checkpoints():
    users = [
        path.relative_to(ROOT).as_posix()
        for path, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr == "load"
        and isinstance(node.value, ast.Name)
        and node.value.id == "torch"
    ]
    assert set(users) == {"glmha/shared/checkpoint_files.py"}
