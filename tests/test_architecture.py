"""House rules that a machine can check: the rooms, the direction of imports, owners of facts, sizes."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

PACKAGE = REPOSITORY / "src" / "finrank"
# From the ground up: a room imports from rooms before it.
ROOMS = [
    "records", "errors", "console", "seeds", "store", "programs", "parallel", "page", "sources", "pools",
    "ranker", "integrations", "evaluation", "training", "generator", "proposer", "sampling", "serving", "export",
    "commands", "cli",
]  # fmt: skip
LEVEL = {room: level for level, room in enumerate(ROOMS)}
TORCH = {"torch", "transformers", "peft", "accelerate"}
ENTRY_POINTS = {"__init__.py", "__main__.py"}
FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if path.parent != PACKAGE or path.name not in ENTRY_POINTS]
# By what only its owner may use: the owner's room or file.
OWNERS = {
    r"\bexecute\(": ("programs",),
    r"\bfcntl\b": ("store",),
    r"\bJSONDecoder\b": ("store",),
    r"\bmodel_fields\b": ("records.py",),
    r"\btime\.time\(|\bdatetime\.now\(|\bst_mtime\b": (),  # clocks are set back: time.monotonic measures
}


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(tree: ast.Module) -> Iterator[str]:
    """Dotted names that a file imports, inside functions and under TYPE_CHECKING too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def climbing(room: str, tree: ast.Module) -> list[str]:
    """The imports of a file that go up, to a room after its own or to torch below the ranker."""
    bad = []
    for name in imported(tree):
        parts = name.split(".")
        climbs = parts[0] == "finrank" and len(parts) > 1 and LEVEL.get(parts[1], len(ROOMS)) > LEVEL[room]
        if climbs or (parts[0] in TORCH and LEVEL[room] < LEVEL["ranker"]):
            bad.append(name)
    return bad


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_between_rooms_run_one_way(path: Path) -> None:
    assert climbing(room_of(path), parsed(path)) == []


def test_an_import_that_climbs_is_seen() -> None:
    assert climbing("programs", ast.parse("from finrank.ranker import model")) == ["finrank.ranker.model"]
    assert climbing("pools", ast.parse("def f():\n    import torch")) == ["torch"]
    assert climbing("evaluation", ast.parse("from finrank.training import sft")) == ["finrank.training.sft"]
    assert climbing("commands", ast.parse("from finrank.training import sft")) == []


def module_graph(sources: dict[str, ast.Module]) -> dict[str, set[str]]:
    """Which modules each module imports; a name in a package counts for the package where it is not a module."""
    graph = {}
    for module, tree in sources.items():
        targets = {name if name in sources else name.rpartition(".")[0] for name in imported(tree)}
        graph[module] = (targets & set(sources)) - {module}
    return graph


def cycle_in(graph: dict[str, set[str]]) -> list[str]:
    """Modules that lie on a cycle, or lead only into one: what remains when leaves are taken off again and again."""
    remaining = dict(graph)
    while leaves := [module for module, targets in remaining.items() if not targets & set(remaining)]:
        for leaf in leaves:
            del remaining[leaf]
    return sorted(remaining)


def test_no_two_files_import_each_other() -> None:
    names = {path: ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in FILES}
    modules = {name.removesuffix(".__init__"): parsed(path) for path, name in names.items()}
    assert cycle_in(module_graph(modules)) == []


def test_a_cycle_is_seen_even_where_it_is_for_types_alone() -> None:
    sources = {
        "finrank.a": ast.parse("from finrank import b"),
        "finrank.b": ast.parse("if TYPE_CHECKING:\n    from finrank.a import A"),
        "finrank.c": ast.parse("import math"),
    }
    assert cycle_in(module_graph(sources)) == ["finrank.a", "finrank.b"]


def test_checking_data_starts_without_torch() -> None:
    code = (
        "import sys, finrank.cli, finrank.commands.check; print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_folders_stay_small() -> None:
    modules = Counter(path.parent for path in FILES if path.name != "__init__.py")
    loose = modules.pop(PACKAGE)
    assert loose <= 6
    del modules[PACKAGE / "commands"]  # one file per command
    assert {str(folder): count for folder, count in modules.items() if count > 12} == {}


def test_a_file_name_occurs_once() -> None:
    mirrors = {"commands", "generator"}  # named as what users type; as the ranker's files
    names = Counter(path.name for path in FILES if path.name != "__init__.py" and room_of(path) not in mirrors)
    assert [name for name, count in names.items() if count > 1] == []


def test_a_public_class_name_occurs_once() -> None:
    files = [path for path in FILES if room_of(path) != "integrations"]  # the same, once for each library
    names = [name for path in files for name in re.findall(r"^class ([A-Z]\w*)", path.read_text("utf-8"), re.MULTILINE)]
    assert [name for name, count in Counter(names).items() if count > 1] == []


@pytest.mark.parametrize("pattern", OWNERS)
def test_a_fact_has_one_owner(pattern: str) -> None:
    users = {path.relative_to(PACKAGE).parts[0] for path in FILES if re.search(pattern, path.read_text("utf-8"))}
    assert users <= set(OWNERS[pattern])


def functions_of(tree: ast.Module) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def parameters_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    spec = function.args
    names = [argument.arg for argument in (*spec.posonlyargs, *spec.args, *spec.kwonlyargs)]
    return [name for name in names if name not in ("self", "cls")]


def hands_on(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """True if all that a function does is to call another with its own two or more parameters."""
    body = [node for node in function.body if not isinstance(node, ast.Import | ast.ImportFrom)]
    if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        body = body[1:]
    if len(body) != 1 or not isinstance(body[0], ast.Return | ast.Expr) or not isinstance(body[0].value, ast.Call):
        return False
    call = body[0].value
    given = [*call.args, *(keyword.value for keyword in call.keywords)]
    names = [node.id for node in given if isinstance(node, ast.Name)]
    return len(names) == len(given) >= 2 and sorted(names) == sorted(parameters_of(function))


def offenders(broken: object) -> list[str]:
    return [
        f"{path.relative_to(PACKAGE)}: {function.name}"
        for path in FILES
        for function in functions_of(parsed(path))
        if broken(path, function)  # type: ignore[operator]
    ]


def test_no_function_only_hands_its_parameters_on() -> None:
    assert offenders(lambda _, function: hands_on(function)) == []


def test_a_function_has_at_most_six_parameters() -> None:
    assert offenders(lambda path, one: room_of(path) != "commands" and len(parameters_of(one)) > 6) == []


def test_functions_have_at_most_60_lines() -> None:
    assert offenders(lambda _, one: (one.end_lineno or one.lineno) - one.lineno >= 60) == []


def test_broken_functions_are_seen() -> None:
    relay, long = functions_of(ast.parse("def f(a, *, b):\n    return g(a, b=b)\n\ndef h(a, b):\n    return a(b)"))
    assert hands_on(relay)
    assert not hands_on(long)
    assert parameters_of(relay) == ["a", "b"]


def test_files_have_at_most_400_lines() -> None:
    code = [path for folder in ("src", "tests", "scripts") for path in (REPOSITORY / folder).rglob("*.py")]
    long = {str(path): count for path in code if (count := len(path.read_text(encoding="utf-8").splitlines())) > 400}
    assert long == {}
