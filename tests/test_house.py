"""The house: who may import whom, what is installed, and that every door opens."""

from __future__ import annotations

import ast
import os
import re
import resource
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOMS = ("mlip", "datasets", "training", "md", "configs")
ALLOWED = {
    "mlip": {"mlip"},
    "datasets": {"datasets", "mlip"},
    "training": {"training", "datasets", "mlip", "configs"},
    "md": {"md", "mlip"},
    "configs": {"configs", "mlip"},
}
ABOVE_ALL = {Path("mlip/__main__.py"), Path("mlip/demo_cli.py")}
# What a module is for, and is not installed with the package.
OPTIONAL = {"mlip.torchsim": "torch_sim", "mlip.ipi": "ipi"}
EXPORTS = {"Potential": "potential", "MLIPCalculator": "calculator", "AtomicGraph": "graph"}


def files(repository: Path, *folders: str) -> Iterator[Path]:
    """Every file below the folders, relative to the root; hidden folders are nobody's business."""
    for folder in folders:
        for place, inner, names in os.walk(repository / folder):
            inner[:] = sorted(name for name in inner if not name.startswith((".", "__pycache__")))
            yield from (Path(place, name).relative_to(repository) for name in sorted(names))


def sources(repository: Path, *folders: str) -> Iterator[tuple[Path, ast.Module]]:
    """Every module below the folders, with its syntax tree."""
    for folder in folders:
        for path in files(repository, folder):
            if path.suffix == ".py":
                yield path, ast.parse((repository / path).read_text(), str(path))


def imported(nodes: Iterator[ast.AST]) -> Iterator[str]:
    """Full names of what import statements name, `from a import b` as a.b."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(name: str) -> str | None:
    """The room of an imported name; None for what is not ours."""
    parts = name.split(".")
    if parts[0] != "mlip":
        return None
    return parts[1] if len(parts) > 1 and parts[1] in ROOMS[1:] else "mlip"


def test_rooms_import_only_what_they_may(repository):
    wrong = []
    for path, tree in sources(repository, *ROOMS):
        if path in ABOVE_ALL:
            continue
        names = [*imported(ast.walk(tree)), *named_in_strings(tree)]
        wrong += [f"{path}: {n}" for n in names if room_of(n) not in {None, *ALLOWED[path.parts[0]]}]
    assert not wrong


def named_in_strings(tree: ast.Module) -> Iterator[str]:
    """Modules handed to import_module and the like."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from re.findall(r"^mlip(?:\.\w+)+$", node.value)


def test_imports_are_absolute(repository):
    relative = [
        str(path)
        for path, tree in sources(repository, *ROOMS)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert not relative


def module_name(path: Path) -> str:
    parts = list(path.with_suffix("").parts)
    parts = parts if parts[0] == "mlip" else ["mlip", *parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def at_import_time(tree: ast.AST) -> Iterator[ast.AST]:
    """Statements that run when the module is imported: not those in functions or for type checkers."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from at_import_time(node)


def test_modules_do_not_import_in_circles(repository):
    trees = {module_name(path): tree for path, tree in sources(repository, *ROOMS)}
    graph = {}
    for name, tree in trees.items():
        found = set()
        for needed in imported(at_import_time(tree)):
            target = f"mlip.{EXPORTS[needed[5:]]}" if needed[5:] in EXPORTS else needed
            found.add(target if target in trees else target.rpartition(".")[0])
        graph[name] = found & set(trees)
    while leaves := {name for name, needs in graph.items() if not needs}:
        graph = {name: needs - leaves for name, needs in graph.items() if name not in leaves}
    assert not graph, f"in or behind a circle: {sorted(graph)}"


def test_installed_packages_are_those_of_the_tree(repository):
    project = tomllib.loads((repository / "pyproject.toml").read_text())
    listed = project["tool"]["setuptools"]["packages"]
    found = [module_name(path) for path in files(repository, *ROOMS) if path.name == "__init__.py"]
    assert sorted(listed) == sorted(found)
    assert len(listed) == len(set(listed))


def test_files_are_short(repository):
    """One idea per file: none longer than 450 lines."""
    lengths = {
        str(path): len((repository / path).read_text().splitlines())
        for path in files(repository, *ROOMS, "tests", "benchmarks", "examples")
        if path.suffix == ".py"
    }
    long = {path: length for path, length in lengths.items() if length > 450}
    assert not long


def test_nothing_global_is_set(repository):
    """No default dtype anywhere; no seed when a module is imported."""
    wrong = []
    for path, tree in sources(repository, *ROOMS):
        calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call)]
        wrong += [
            f"{path}: {n}" for n in map(called, calls) if n.endswith(("set_default_dtype", "set_default_device"))
        ]
        early = [n for n in at_import_time(tree) if isinstance(n, ast.Call)]
        wrong += [f"{path}: {n}" for n in map(called, early) if n.endswith(("manual_seed", "random.seed"))]
    assert not wrong


def called(node: ast.Call) -> str:
    return ast.unparse(node.func)


def test_input_is_not_checked_by_asserts(repository):
    """`python -O` removes asserts, and users cannot act on them."""
    assert not [
        str(path) for path, tree in sources(repository, *ROOMS) for n in ast.walk(tree) if isinstance(n, ast.Assert)
    ]


def run(*command: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | environment
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=120)


def python(code: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, "-c", code, cwd=cwd, **environment)


@pytest.mark.parametrize("heavy", ["torch", "numpy", "ase", "e3nn", "matplotlib"])
def test_importing_the_package_needs_nothing_heavy(tmp_path, heavy):
    code = f"import sys, mlip, mlip.__main__, mlip.errors; sys.exit({heavy!r} in sys.modules)"
    result = python(code, tmp_path)
    assert result.returncode == 0, result.stderr


def test_help_is_instant(tmp_path):
    """Half a second of processor time at most, the least of three runs."""
    times = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        result = run(sys.executable, "-m", "mlip", "--help", cwd=tmp_path)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert result.returncode == 0, result.stderr
    assert "phonons" in result.stdout
    assert min(times) <= 0.5


def test_every_module_imports(repository, tmp_path):
    """In one process, from a folder that is not the root."""
    names = [module_name(path) for path, _ in sources(repository, *ROOMS) if "recipe" not in path.parts]
    absent = {name for name, package in OPTIONAL.items() if find_spec(package) is None}
    names = [name for name in names if not name.endswith("__main__") and name not in absent]
    result = python(f"from importlib import import_module\nfor n in {names}: import_module(n)", tmp_path)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("place", ["root", "elsewhere"])
def test_rooms_open_from(repository, tmp_path, place):
    cwd = repository if place == "root" else tmp_path
    code = "import mlip, mlip.datasets, mlip.training, mlip.md, mlip.configs\n"
    code += "for m in (mlip, mlip.datasets, mlip.training, mlip.md, mlip.configs): print(m.__file__)"
    result = python(code, cwd)
    assert result.returncode == 0, result.stderr
    expected = [repository / room / "__init__.py" for room in ("mlip", "datasets", "training", "md", "configs")]
    assert [Path(line).resolve() for line in result.stdout.split()] == expected


@pytest.mark.parametrize("place", ["root", "elsewhere"])
def test_version(repository, tmp_path, place):
    result = run(sys.executable, "-m", "mlip", "--version", cwd=repository if place == "root" else tmp_path)
    assert result.returncode == 0, result.stderr
    assert re.fullmatch(r"mlip \d+\.\d+\.\d+\S*\n", result.stdout)


@pytest.fixture
def wheel(repository) -> Path:
    """The unpacked wheel that `make wheel` leaves."""
    folder = repository / "build" / "wheel"
    if not (folder / "mlip" / "__init__.py").is_file():
        pytest.skip("no wheel built: run `make wheel`")
    built = (folder / "mlip" / "__init__.py").stat().st_ctime
    if any(file.stat().st_mtime > built for room in ROOMS for file in (repository / room).rglob("*.py")):
        pytest.skip("the wheel is older than the sources: run `make wheel`")
    return folder


def test_rooms_open_from_the_wheel(wheel, tmp_path):
    code = "import mlip, mlip.datasets, mlip.training, mlip.md, mlip.configs, mlip.potential\n"
    code += "for m in (mlip, mlip.datasets, mlip.training, mlip.md, mlip.configs): print(m.__file__)"
    result = python(code, tmp_path, PYTHONPATH=str(wheel))
    assert result.returncode == 0, result.stderr
    assert all(Path(line).is_relative_to(wheel) for line in result.stdout.split())


def test_the_wheel_holds_every_module(repository, wheel):
    for room in ROOMS:
        target = wheel / "mlip" if room == "mlip" else wheel / "mlip" / room
        files = {file.relative_to(repository / room) for file in (repository / room).rglob("*.py")}
        assert not [file for file in files if not (target / file).is_file()]
    assert (wheel / "mlip" / "py.typed").is_file()
    assert (wheel / "mlip" / "md" / "phonon_page.html").is_file()


def test_a_namesake_stops_the_import(tmp_path):
    """Another distribution installs the import name `mlip`: say so instead of mixing the two."""
    namesake = tmp_path / "site" / "mlip-0.1.0.dist-info"
    namesake.mkdir(parents=True)
    (namesake / "METADATA").write_text("Metadata-Version: 2.1\nName: mlip\nVersion: 0.1.0\n")
    result = python("import mlip", tmp_path, PYTHONPATH=str(namesake.parent))
    assert result.returncode != 0
    assert "pip uninstall mlip" in result.stderr.strip().splitlines()[-1]


def test_the_repository_names_no_machine(repository):
    """No path of a machine it was written on."""
    texts = {".py", ".md", ".yaml", ".json", ".toml"}
    found = [
        str(path)
        for path in files(repository, *ROOMS, "tests", "benchmarks", "examples", "docs")
        if path.suffix in texts and path.name != "test_house.py"
        if re.search(r"/(work|home|root)/\w", (repository / path).read_text())
    ]
    assert not found
