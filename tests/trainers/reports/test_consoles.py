"""Names of files and images are printed as they are: brackets in them are no markup."""

import ast
from pathlib import Path

import trainers

PRINTERS = ("Console", "TextColumn")


def test_no_console_reads_markup():
    reading = []
    for path in Path(trainers.__file__).parent.rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in PRINTERS:
                options = {option.arg: option.value for option in call.keywords}
                if not (isinstance(value := options.get("markup"), ast.Constant) and value.value is False):
                    reading.append(f"{path.name}:{call.lineno}")
    assert reading == []
