"""The rooms of the package, read from the imports: downward only, no cycles, heavy libraries in their place."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import lru_cache
from importlib import metadata
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "evalkit"

ROOMS = (
    "core", "configs", "data", "prompts", "engines", "plan", "sandbox", "results", "agents", "execution", "scoring",
    "report", "doctor", "session", "api", "cli", "__main__",
)  # fmt: skip
"""The rooms from the lowest to the highest; each may import those before it. `builtin` holds data, no code."""
PUBLIC = "evalkit"
"""The package itself: it offers what `api` has, imported when first used."""
HEAVY = ("torch", "transformers")
HEAVY_HOME = "engines/hf/"
LATE = ("torch", "transformers", "pandas", "datasets", "evaluate", "numpy")
"""What a command that computes nothing must not import."""


@lru_cache(maxsize=1)
def modules() -> dict[str, Path]:
    """Dotted name -> file, for every module of the package."""
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(REPOSITORY).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def room(module: str) -> str:
    """The part of a dotted name that has a floor: `evalkit.engines.hf.load.load` -> `engines`."""
    return module.split(".")[1] if "." in module else module


def is_type_checking(node: ast.AST) -> bool:
    """Whether this is `if TYPE_CHECKING:`, whose imports never run."""
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def walk(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes below, functions included, but for the branches that only type checkers read."""
    for child in ast.iter_child_nodes(node):
        yield child
        if not is_type_checking(child):
            yield from walk(child)


def imported(module: str) -> set[str]:
    """Dotted names that a module imports, anywhere in it; `from package import module` counts as the module."""
    file = modules()[module]
    found: set[str] = set()
    for node in walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.update(_from(node, module, file))
    return found


def _from(node: ast.ImportFrom, module: str, file: Path) -> set[str]:
    base = node.module or ""
    if node.level:
        above = module.split(".") if file.name == "__init__.py" else module.split(".")[:-1]
        kept = above[: len(above) - node.level + 1]
        base = ".".join([*kept, base] if base else kept)
    names = {f"{base}.{alias.name}" for alias in node.names}
    inner = names & set(modules())
    return inner | ({base} if len(inner) < len(names) else set())


@lru_cache(maxsize=1)
def graph() -> dict[str, set[str]]:
    """Which module of evalkit imports which, itself left out."""
    return {name: (imported(name) & set(modules())) - {name} for name in modules()}


def test_every_module_has_a_room() -> None:
    found = {room(name) for name in modules()}
    assert found == {*ROOMS, PUBLIC}


def test_every_room_says_what_it_holds() -> None:
    silent = [r for r in ROOMS if (PACKAGE / r).is_dir() and not (PACKAGE / r / "__init__.py").read_text("utf-8")]
    assert not silent


def test_imports_go_downward() -> None:
    wrong = [
        f"{name} imports {other}"
        for name, others in graph().items()
        for other in sorted(others - {PUBLIC})
        if name != PUBLIC and ROOMS.index(room(other)) > ROOMS.index(room(name))
    ]
    assert not wrong, "\n".join(wrong)


def test_nothing_imports_the_public_face() -> None:
    assert not [name for name, others in graph().items() if PUBLIC in others and name != PUBLIC]


def reached(start: str) -> set[str]:
    """All modules that importing `start` may import in the end."""
    found: set[str] = set()
    ahead = set(graph()[start])
    while ahead:
        found |= ahead
        ahead = {other for name in ahead for other in graph()[name]} - found
    return found


def test_no_import_cycles() -> None:
    cyclic = {
        name: back
        for name, others in graph().items()
        if (back := sorted(other for other in others if name in reached(other)))
    }
    assert not cyclic, "these import each other: " + "; ".join(f"{n} -> {', '.join(b)}" for n, b in cyclic.items())


def test_heavy_libraries_stay_at_home() -> None:
    wrong = [
        f"{name} imports {other}"
        for name, file in modules().items()
        for other in sorted(imported(name))
        if other.split(".")[0] in HEAVY and not file.relative_to(PACKAGE).as_posix().startswith(HEAVY_HOME)
    ]
    assert not wrong, "\n".join(wrong)


def test_third_party_imports_are_declared() -> None:
    providers = metadata.packages_distributions()
    project = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    pinned = (REPOSITORY / "requirements.txt").read_text(encoding="utf-8")
    wrong = []
    for name in modules():
        for top in sorted({other.split(".")[0] for other in imported(name)} - set(sys.stdlib_module_names)):
            owners = [owner.lower().replace("_", "-") for owner in providers.get(top, [top])]
            extra = any(f'"{owner}' in project and f"{owner}==" not in pinned for owner in owners)
            if top != "evalkit" and not extra and not any(f"{o}==" in pinned and f'"{o}' in project for o in owners):
                wrong.append(f"{name} imports {top}")
    assert not wrong, "declare these in pyproject.toml and pin them in requirements.txt: " + ", ".join(wrong)


@pytest.mark.parametrize("arguments", [["--help"], ["list"], ["list", "datasets"], ["list", "models"]], ids=" ".join)
def test_light_commands_import_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import json, runpy, sys\n"
        "sys.argv = ['run.py', *json.loads(sys.argv[1])]\n"
        "try:\n    runpy.run_path('run.py', run_name='__main__')\n"
        "except SystemExit as stop:\n    status = stop.code\n"
        "else:\n    status = 0\n"
        "print('\\n' + json.dumps({'status': status, 'modules': sorted(sys.modules)}))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, json.dumps(arguments)], cwd=REPOSITORY, capture_output=True, text=True,
        timeout=240, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    report = json.loads(run.stdout.splitlines()[-1])
    assert not report["status"], run.stdout
    assert not set(LATE) & set(report["modules"])
