"""Arguments of functions and classes, read from their source: help needs neither torch nor Lightning."""

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from inspect import cleandoc
from pathlib import Path

from docstring_parser import Docstring, DocstringStyle, parse

_VALUES = {"int": "INT", "float": "FLOAT", "str": "TEXT", "Path": "PATH", "bool": "[true|false]"}
_LISTS = ("Sequence", "list", "tuple")


@dataclass(frozen=True)
class Argument:
    """An argument as help shows it.

    Attributes:
        name: its name.
        metavar: a word for its values: INT, PATH, {one,of,these}, {NAME: TEXT}, CLASS of an object with options of its
            own.
        default: the default as a command line would give it; None if there is none, or it is null.
        required: whether it must be given.
        description: the text of the docstring's "Args", on one line.
    """

    name: str
    metavar: str
    default: str | None
    required: bool
    description: str

    @property
    def described(self) -> str:
        """The description, with the default or the word "required" behind it."""
        note = "required" if self.required else "" if self.default is None else f"default: {self.default}"
        return f"{self.description} ({note})" if note else self.description

    @property
    def is_class(self) -> bool:
        """Whether its values are objects, whose own options `--NAME.help` shows."""
        return "CLASS" in self.metavar


@dataclass(frozen=True)
class Signature:
    """A function's or a class's docstring and arguments.

    Attributes:
        paragraphs: the docstring's text before "Args", each paragraph on one line.
        arguments: in their order.
    """

    paragraphs: tuple[str, ...]
    arguments: tuple[Argument, ...]


def read_signature(module: str, name: str) -> Signature:
    """Read a function's arguments from its source, or those of a class's constructor.

    Args:
        module: the module that defines it, which is not imported.
        name: of the function or class.

    Returns:
        Its text and arguments, without those that are gathered by `*` and `**`.

    Raises:
        LookupError: if the module defines no such function or class.
    """
    node = next((node for node in _tree(module).body if getattr(node, "name", None) == name), None)
    if not isinstance(node, ast.FunctionDef | ast.ClassDef):
        raise LookupError(f"{module} must define {name}, got no such function or class")
    text = parse(cleandoc(ast.get_docstring(node) or ""), style=DocstringStyle.GOOGLE)
    function = node if isinstance(node, ast.FunctionDef) else _constructor(node)
    blocks = "\n\n".join(block for block in (text.short_description, text.long_description) if block).split("\n\n")
    arguments = () if function is None else tuple(_arguments(function, text, module))
    return Signature(tuple(" ".join(block.split()) for block in blocks), arguments)


def _constructor(node: ast.ClassDef) -> ast.FunctionDef | None:
    return next((item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"), None)


def _arguments(function: ast.FunctionDef, text: Docstring, module: str) -> Iterator[Argument]:
    described = {entry.arg_name: " ".join((entry.description or "").split()) for entry in text.params}
    ordered, named = function.args.args, function.args.kwonlyargs
    required: list[ast.expr | None] = [None] * (len(ordered) - len(function.args.defaults))
    defaults = [*required, *function.args.defaults, *function.args.kw_defaults]
    for argument, default in zip([*ordered, *named], defaults, strict=True):
        if argument.arg != "self" and argument.annotation is not None:
            yield Argument(
                argument.arg,
                _metavar(argument.annotation, module),
                None if default is None else _written(default, module),
                default is None,
                described.get(argument.arg, ""),
            )


def _metavar(node: ast.expr, module: str) -> str:
    if isinstance(node, ast.BinOp):
        sides = [_metavar(side, module) for side in (node.left, node.right)]
        return "|".join(side for side in sides if side)
    if isinstance(node, ast.Constant):
        return ""  # the None of a union
    if isinstance(node, ast.Subscript):
        outer = ast.unparse(node.value)
        inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if outer == "Literal":
            return "{" + ",".join(str(ast.literal_eval(value)) for value in inner) + "}"
        if outer == "dict":  # `--data.root DIR`: a name of one's own behind the option's
            return f"{{NAME: {_metavar(inner[1], module)}}}"
        return f"[{_metavar(inner[0], module)},...]" if outer in _LISTS else "CLASS"
    name = ast.unparse(node)
    if name in _VALUES:
        return _VALUES[name]
    alias = _definition(name, module)
    return "CLASS" if alias is None else _metavar(*alias)


def _written(node: ast.expr, module: str) -> str | None:
    if isinstance(node, ast.Name) and (constant := _definition(node.id, module)) is not None:
        return _written(*constant)
    if isinstance(node, ast.Tuple | ast.List):
        return " ".join(str(_written(item, module)) for item in node.elts) or None
    if isinstance(node, ast.Call):  # Path("logs")
        return " ".join(str(_written(item, module)) for item in node.args)
    value = ast.literal_eval(node)
    return None if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _definition(name: str, module: str) -> tuple[ast.expr, str] | None:
    """The value that a module assigns to a name, or imports under it, and where; None if it is no plain value."""
    for node in _tree(module).body:
        if isinstance(node, ast.Assign) and name in map(ast.unparse, node.targets):
            return node.value, module
        if isinstance(node, ast.ImportFrom) and node.module and name in [alias.name for alias in node.names]:
            # Of other libraries nothing but classes is taken.
            own = node.module.split(".")[0] in ("trainers", "datamodules", "glmha", "nystra")
            return _definition(name, node.module) if own else None
    return None


@functools.cache
def _tree(module: str) -> ast.Module:
    return ast.parse(_file(module).read_text(encoding="utf-8"))


def _file(module: str) -> Path:
    # Of a dotted name `find_spec` would import the packages around it.
    package, *inner = module.split(".")
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise LookupError(f"package ({package}) must be installed, got none of that name")
    path = Path(spec.origin).parent.joinpath(*inner)
    return path / "__init__.py" if path.is_dir() else path.with_name(f"{path.name}.py")
