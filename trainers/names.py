"""What recipes and options may name: classes of this package, of a few rooms of its libraries, and of the user's own.

A recipe is data, but it names classes, and to look for a name is to import, and so to execute, the module that it is
in. Names of the standard library, of the libraries that this package stands on, and of tools that run code are
therefore refused before anything is imported. A class must besides fit the option that takes it.
"""

import sys
from argparse import ArgumentError
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

from jsonargparse import ArgumentParser, set_parsing_settings

T = TypeVar("T")

OWN = ("glmha", "nystra", "datamodules", "trainers", "__main__")
LIBRARIES = (
    "torch.nn",
    "torch.optim",
    *(
        f"{lightning}.{room}"
        for lightning in ("lightning.pytorch", "pytorch_lightning", "lightning.fabric")
        for room in ("callbacks", "loggers", "plugins", "profilers", "strategies", "accelerators")
    ),
    "torchmetrics",
    "albumentations",
)
"""Rooms of libraries whose classes serve in recipes."""
TOOLS = frozenset({
    *("torch", "lightning", "pytorch_lightning", "lightning_fabric", "jsonargparse", "yaml", "fsspec", "numpy"),
    *("scipy", "cv2", "h5py", "safetensors", "matplotlib", "skimage", "rich", "tensorboard", "lazy_loader"),
    *("pip", "setuptools", "pkg_resources", "wheel", "distutils", "build", "pytest", "py", "hypothesis", "mypy"),
    *("IPython", "ipykernel", "jupyter", "cffi", "Cython", "pyximport", "numba", "triton", "torchgen", "functorch"),
    *("sympy", "mpmath", "jinja2", "dill", "cloudpickle", "joblib", "requests", "urllib3", "aiohttp", "ninja"),
})  # fmt: skip
"""Modules that hold no class for a recipe, or run what they are given."""


def restrict_names() -> None:
    """Refuse in this process what no recipe and no option may name.

    Allowed are `OWN`, `LIBRARIES`, and packages and modules that somebody has put in place for it: in the working
    directory, or installed beside this package, unless they are of the standard library or of `TOOLS`.

    Addresses in the place of a file of options are not fetched.
    """
    if "lightning.pytorch" in sys.modules:
        # Its import switches the fetching on, so it must not come later, with a class that is named.
        import_module("lightning.pytorch.cli")
    allowed = sorted({*_users_own(), *OWN})
    denied = ["*", *sys.stdlib_module_names, *(f"{name}.__main__" for name in allowed)]
    set_parsing_settings(
        import_path_denylist=denied,
        import_path_allowlist=[*allowed, *LIBRARIES],
        config_read_mode_fsspec_enabled=False,
        config_read_mode_urls_enabled=False,
    )


def import_class(path: str, base: type[T]) -> type[T]:
    """Import a class that an option names as a plain string, under the same rules as a recipe's.

    Args:
        path: import path of the class.
        base: what it must be a subclass of.

    Raises:
        ImportError, AttributeError: if there is no such class.
        ValueError: if it may not be named, or is no subclass.
    """
    restrict_names()
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--path", type=type[base])
    try:
        found: type[T] = parser.parse_object({"path": path}).path
    except ArgumentError as error:
        raise ValueError(
            f"got no subclass of {base.__name__} in this package, in torch.nn, in a package that you installed beside, "
            "or in a module in the working directory, and nothing else is imported"
        ) from error
    return found


def import_factory(path: str) -> Callable[[], Any]:
    """Import a function or class that makes a network, named as package.module:name, under the rules of a recipe.

    Args:
        path: import path; a dot may stand in the place of the colon.

    Raises:
        ImportError, AttributeError: if there is no such name.
        ValueError: if it may not be named, or cannot be called without arguments.
    """
    restrict_names()
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--path", type=Callable[[], Any])
    module, _, name = path.rpartition(":" if ":" in path else ".")
    try:
        parser.parse_object({"path": f"{module}.{name}"})
    except ArgumentError as error:
        raise ValueError(
            "got no function or class in a package that you installed beside this one, or in a module in the working "
            "directory, and nothing else is imported"
        ) from error
    made: Callable[[], Any] = attrgetter(name)(import_module(module))
    return made


def _users_own() -> Iterator[str]:
    """Names of the top modules that can be imported, but for those which no recipe may name."""
    for name in _top_modules():
        public = name.isidentifier() and not name.startswith("_")
        if public and name not in sys.stdlib_module_names and name not in TOOLS:
            yield name


def _top_modules() -> Iterator[str]:
    standard = Path(sys.modules["os"].__file__ or "").parent
    for folder in map(Path, dict.fromkeys(sys.path)):
        # A folder that is gone, an archive, or one that may not be read holds nothing to name.
        with suppress(OSError):
            if folder != standard:
                yield from [path.name.partition(".")[0] for path in folder.iterdir()]
    for finder in sys.meta_path:
        # What `pip install --editable` put in place lies in no such folder: setuptools' finder maps names to folders.
        module = sys.modules.get(getattr(finder, "__module__", ""))
        for names in ("MAPPING", "NAMESPACES"):
            yield from (name.partition(".")[0] for name in getattr(module, names, ()))
