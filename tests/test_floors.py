"""The shape of the packages: imports go down the floors, no circles, rooms and files of a bounded size.

Imports are read with `ast`; nothing is run. Arrows inside `TYPE_CHECKING` and inside functions count like any other.
"""

import ast
import collections
import functools
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("glmha", "nystra", "datamodules", "trainers")
LARGEST_FILE = 350
LARGEST_FOLDER = 10
UNCOUNTED = ("__init__.py", "__main__.py", "conftest.py")

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
        out_of_core
        pretrained
        warm_start
    """,
    "nystra": """
        functional
        windows
        programs
        kernels
        sites
        adoption
        hosts analysis
        pretrained
    """,
    "datamodules": """
        errors signals
        cassi loading files
        degradations
        pairs
        clips
        base
        restoration spectral video demo
        preparation
    """,
    "trainers": """
        errors losses schedules names
        networks metrics evaluation tuning devices
        runtimes
        tiling checkpoints
        figures
        reports
        tasks
        monitoring
        runs
        recipes
        reproduction
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
    """Modules that a file imports."""
    return imported(trees()[path])


def imported(tree: ast.Module) -> tuple[str, ...]:
    """Modules that are imported; `from a import b` is a.b where that is a module, else a."""
    modules = {module_of(other) for other in trees()}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"import from {node.module} must not be relative"
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


def test_imports_lead_to_modules_that_exist():
    modules = {module_of(path) for path in sources()}
    assert not [f"{module} imports {to}, which is nowhere" for module, to in arrows() if to not in modules]


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


def too_large(files: list[Path]) -> list[str]:
    """What is wrong with the sizes of files, and of the folders that they are in."""
    wrong = [
        f"{path}: {lines} lines, over {LARGEST_FILE}"
        for path in files
        if (lines := len(path.read_text().splitlines())) > LARGEST_FILE
    ]
    counted = collections.Counter(path.parent for path in files if path.name not in UNCOUNTED)
    return wrong + [
        f"{folder}: {count} files, over {LARGEST_FOLDER}" for folder, count in counted.items() if count > LARGEST_FOLDER
    ]


def test_files_and_folders_are_small():
    wrong = too_large([*sources(), *(ROOT / "tests").rglob("*.py")])
    assert not wrong, "\n".join(wrong)


def test_a_large_file_and_a_large_folder_are_found(tmp_path):
    files = [tmp_path / f"test_{number}.py" for number in range(LARGEST_FOLDER)] + [tmp_path / "conftest.py"]
    for file in files:
        file.write_text("\n" * LARGEST_FILE)
    assert not too_large(files)
    files[0].write_text("\n" * (LARGEST_FILE + 1))
    assert len(too_large(files)) == 1
    files.append(tmp_path / "one_more.py")
    files[-1].touch()
    assert len(too_large(files)) == 2


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
    wrong = [
        f"{module_of(path)} imports from the face {to}"
        for path in sources()
        if path.name != "__init__.py"
        for to in faces_used(module_of(path), imports(path))
    ]
    assert not wrong, "\n".join(wrong)


def faces_used(module: str, found: tuple[str, ...]) -> list[str]:
    """Faces among the modules that a module imports, but for those of the other packages, which are made for it.

    By its own package's every arrow upwards would pass.
    """
    faces = {module_of(path) for path in sources() if path.name == "__init__.py"}
    return [to for to in found if to in faces - set(PACKAGES) or to == module.split(".")[0]]


@pytest.mark.parametrize(
    ("line", "face"),
    [
        ("from glmha import GLMHA", "glmha"),
        ("import glmha", "glmha"),
        ("from glmha.low_rank import GLMHA", "glmha.low_rank"),
        ("from glmha import functional", None),
        ("from glmha.low_rank.glmha import GLMHA", None),
        ("from nystra import Softmax", None),
    ],
)
def test_a_module_that_imports_from_a_face_is_found(line, face):
    assert faces_used("glmha.layers", imported(ast.parse(line))) == ([] if face is None else [face])


@pytest.mark.parametrize("package", FREE_OF_LIGHTNING)
def test_attention_packages_know_no_lightning(package):
    for path in sources():
        if path.is_relative_to(ROOT / package):
            assert not [to for to in imports(path) if to.split(".")[0] in ("lightning", "pytorch_lightning")], path


def test_libraries_are_wrapped_in_one_place():
    for library, place in ONLY_PLACE.items():
        users = {path.relative_to(ROOT).as_posix() for path in sources() if library in imports(path)}
        assert users == {place}


def loads(tree: ast.Module) -> bool:
    """Whether `torch.load` is used, by that name or by one of its own."""
    return any(
        (isinstance(node, ast.Attribute) and ast.unparse(node) == "torch.load")
        or (
            isinstance(node, ast.ImportFrom)
            and node.module in ("torch", "torch.serialization")
            and any(alias.name == "load" for alias in node.names)
        )
        for node in ast.walk(tree)
    )


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import torch\ntorch.load(path)", True),
        ("from torch import load", True),
        ("from torch.serialization import load as read", True),
        ("from json import load", False),
        ("import torch\ntorch.save(1, path)", False),
    ],
)
def test_reading_pickles_is_found(text, found):
    assert loads(ast.parse(text)) is found


def test_one_file_reads_pickled_checkpoints():
    users = {path.relative_to(ROOT).as_posix() for path, tree in trees().items() if loads(tree)}
    assert users == {"glmha/shared/checkpoint_files.py"}
