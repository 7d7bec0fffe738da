"""How the package is built: imports run one way, and only an architecture's own file knows its name."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from mygpt_cli.model.architectures import ARCHITECTURES

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mygpt_cli"
# Text to tokens to model to text again: a room may import from those before it.
ORDER = ["base", "text", "tokens", "model", "backends", "config", "training", "checkpoints", "generation"]
ORDER += ["inspection", "ui", "cli"]


def imports(path: Path) -> Iterator[str]:
    """Yield the modules of this package that a file imports, also lazily and for types."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "mygpt_cli":
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in MODULES else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@pytest.mark.parametrize("room", ORDER)
def test_a_room_imports_only_from_those_before_it(room: str) -> None:
    earlier = ORDER[: ORDER.index(room) + 1]
    for path in (PACKAGE / room).rglob("*.py"):
        for module in imports(path):
            parts = module.split(".")
            assert len(parts) == 1 or parts[1] in earlier, f"{path} imports {module}"


def test_every_module_has_a_room() -> None:
    assert {path.name for path in PACKAGE.glob("*.py")} == {"__init__.py", "__main__.py"}
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == set(ORDER)


def test_no_modules_import_one_another_in_a_circle() -> None:
    edges = {name: set(imports(path)) - {name} for name, path in MODULES.items()}
    while ends := [name for name, targets in edges.items() if not targets & edges.keys()]:
        for name in ends:
            del edges[name]
    assert not edges  # but for circles, and what leads into them


def test_no_architecture_is_compared_by_name_outside_its_file() -> None:
    for name, path in MODULES.items():
        if name.startswith("mygpt_cli.model.architectures"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Compare | ast.MatchValue):
                constants = {part.value for part in ast.walk(node) if isinstance(part, ast.Constant)}
                assert not constants & ARCHITECTURES.keys(), f"{path}:{node.lineno}"


def test_tests_do_not_import_one_another() -> None:
    for path in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                assert ".test_" not in f".{node.module}", f"{path}:{node.lineno}"


def test_every_test_file_is_named_after_what_it_tests() -> None:
    """In the folder of its room; few test a room as a whole."""
    as_a_whole = {"test_foreign_folders.py", "test_tokenizer_kinds.py"}
    as_a_whole |= {"test_inspect.py", "test_snapshots.py", "test_texts.py"}
    for path in (ROOT / "tests").rglob("test_*.py"):
        folder = path.relative_to(ROOT / "tests").parent
        if folder.parts and path.name not in as_a_whole:
            module = PACKAGE / folder / path.stem.removeprefix("test_")
            assert module.is_dir() or module.with_suffix(".py").exists(), path
