"""The shape of the package: layers, rings, sizes, heavy imports, documentation.

Each rule is a function from sources to a list of violations. One test applies it to the package,
another to a planted violation, so that a rule which stopped seeing anything is noticed.
"""

from __future__ import annotations

import ast
import enum
import graphlib
import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[1] / "mirth"

# From the top down; parts on one line never import each other. The package itself ("mirth", with
# __main__) lists the public names and stands above everything.
MAP = (
    ("",),
    ("likelihoods", "methods", "monitors", "networks", "priors"),
    ("cli",),
    ("experiments",),
    ("estimators", "report"),
    ("results",),
    ("inference", "prediction"),
    ("model", "data", "samplers"),
    ("evaluation",),
    ("core",),
)
LEVEL = {part: level for level, line in enumerate(reversed(MAP)) for part in line}

# The rooms of inference, likewise; "door" are the modules beside them but infer, which is on top.
ROOMS = ("infer", "methods", "run", "chains", "start", "door", "store", "monitors", "engine")
FLOOR = {room: floor for floor, room in enumerate(reversed(ROOMS))}

MAX_MODULE_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_PARAMETERS = 10  # but for estimators, whose parameters are what is searched, and commands

ALLOWED_PARTS = {
    "matplotlib": {"report"},
    "sklearn": {"estimators", "data", "experiments"},
}
ONE_MODULE_ONLY = ("blackjax", "flax", "ray")

Sources = Mapping[str, str]  # dotted module name -> text; a package is named without __init__


def read_sources(root: Path) -> dict[str, str]:
    sources = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        sources[name] = path.read_text(encoding="utf-8")
    return sources


@pytest.fixture(scope="module")
def sources() -> dict[str, str]:
    found = read_sources(ROOT)
    assert "mirth" in found, f"no package to examine under {ROOT}"
    return found


def report(rule: str, violations: list[str]) -> str:
    return "\n  ".join([rule, *violations])


def part_of(module: str) -> str:
    """Second component of a module name; "" for the package itself and its __main__."""
    part = (module.split(".") + [""])[1]
    return "" if part == "__main__" else part


def imports_of(module: str, sources: Sources) -> Iterator[tuple[int, str]]:
    """Every import of a module, at any depth: its line and the module that it names."""
    is_package = any(other.startswith(module + ".") for other in sources)
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(sources[module])):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            for alias in node.names:
                inner = f"{base}.{alias.name}"  # `from package import module`
                yield node.lineno, inner if inner in sources else base


def is_own(name: str) -> bool:
    return name.split(".")[0] == "mirth"


def layer_violations(sources: Sources) -> list[str]:
    found = [
        f"{module}: '{part_of(module)}' is not on the map"
        for module in sources
        if part_of(module) not in LEVEL
    ]
    for module in sources:
        part = part_of(module)
        for line, target in filter(lambda pair: is_own(pair[1]), imports_of(module, sources)):
            to = part_of(target)
            if part != to and LEVEL.get(part, -1) <= LEVEL.get(to, -1):
                found.append(f"{module}:{line} imports {target}: '{to}' is not below '{part}'")
    return found


def room_of(module: str) -> str:
    """Room of a module of inference; the package itself stands above all."""
    name = (module.split(".") + ["", ""])[2]
    return name if name in FLOOR else "door" if name else ""


def room_violations(sources: Sources) -> list[str]:
    found = []
    for module in (name for name in sources if part_of(name) == "inference"):
        room = room_of(module)
        if not room:
            continue
        for line, target in imports_of(module, sources):
            if part_of(target) != "inference" or not is_own(target):
                continue
            to = room_of(target)
            if to != room and (not to or FLOOR[room] <= FLOOR[to]):
                found.append(f"{module}:{line} imports {target}: '{to}' is not below '{room}'")
    return found


def ring_violations(sources: Sources) -> list[str]:
    graph = {
        module: {target for _, target in imports_of(module, sources) if is_own(target)}
        for module in sources
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return [" <- ".join(error.args[1])]
    return []


def long_modules(sources: Sources) -> list[str]:
    sizes = {module: len(text.splitlines()) for module, text in sources.items()}
    return [f"{name}: {size} lines" for name, size in sizes.items() if size > MAX_MODULE_LINES]


def code_lines(node: ast.FunctionDef | ast.AsyncFunctionDef, lines: list[str]) -> int:
    """Lines of a function without its docstring, blank lines and comments."""
    documentation: set[int] = set()
    if ast.get_docstring(node, clean=False) is not None:
        documentation = set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    span = set(range(node.lineno, (node.end_lineno or 0) + 1)) - documentation
    texts = (lines[number - 1].strip() for number in span)
    return sum(bool(text) and not text.startswith("#") for text in texts)


def long_functions(sources: Sources) -> list[str]:
    found = []
    for module, text in sources.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                size = code_lines(node, text.splitlines())
                if size > MAX_FUNCTION_LINES:
                    found.append(f"{module}:{node.lineno} {node.name}: {size} lines of code")
    return found


def is_command(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether the parameters of a function are the options of a command."""
    return any("app.command" in ast.unparse(decorator) for decorator in node.decorator_list)


def crowded_functions(sources: Sources) -> list[str]:
    found = []
    for module, text in sources.items():
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or is_command(node):
                continue
            given = node.args
            names = [arg.arg for arg in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
            count = len([name for name in names if name not in ("self", "cls")])
            if count > MAX_PARAMETERS and part_of(module) != "estimators":
                found.append(f"{module}:{node.lineno} {node.name}: {count} parameters")
    return found


def library_violations(sources: Sources) -> list[str]:
    found = []
    users: dict[str, set[str]] = {library: set() for library in ONE_MODULE_ONLY}
    for module in sources:
        for line, target in imports_of(module, sources):
            library = target.split(".")[0]
            allowed = ALLOWED_PARTS.get(library)
            if allowed is not None and part_of(module) not in allowed:
                found.append(f"{module}:{line} imports {library}; allowed in {sorted(allowed)}")
            if library in users:
                users[library].add(module)
    for library, modules in users.items():
        if len(modules) > 1:
            found.append(f"{library} is imported in {sorted(modules)}; keep it in one adapter")
    return found


def missing_inits(root: Path) -> list[str]:
    folders = {path.parent for path in root.rglob("*.py")}
    return sorted(
        str(f.relative_to(root.parent)) for f in folders if not (f / "__init__.py").exists()
    )


def missing_documentation(namespace: object, names: list[str]) -> list[str]:
    found = []
    for name in names:
        if name == "__version__":
            continue
        thing = getattr(namespace, name)
        text = thing.__dict__.get("__doc__") if isinstance(thing, type) else inspect.getdoc(thing)
        if not text:
            found.append(f"{name} has no docstring")
            continue
        for section in wanted_sections(thing):
            if f"\n{section}\n{'-' * len(section)}" not in inspect.cleandoc(text):
                found.append(f"{name} has no section '{section}'")
        found += [f"{name}.{method} has no docstring" for method in silent_methods(thing)]
    return found


def silent_methods(thing: object) -> list[str]:
    """Public methods and properties that neither the class nor one of its bases documents."""
    if not isinstance(thing, type):
        return []
    public = [
        name
        for name in vars(thing)
        if not name.startswith("_")
        and (isinstance(vars(thing)[name], property) or callable(getattr(thing, name)))
    ]
    return [
        name
        for name in public
        if not any(getattr(vars(base)[name], "__doc__", None) for base in owners(thing, name))
    ]


def owners(thing: type, name: str) -> list[type]:
    return [base for base in thing.__mro__ if name in vars(base)]


def wanted_sections(thing: object) -> list[str]:
    """Sections the docstring must have: what can be called is shown, its arguments explained."""
    enumeration = isinstance(thing, type) and issubclass(thing, enum.Enum | Exception)
    function = inspect.isroutine(thing) or hasattr(thing, "__wrapped__")  # jit wraps
    if enumeration or getattr(thing, "_is_protocol", False):
        return []
    if not function and not isinstance(thing, type):
        return []
    return ["Parameters", "Examples"] if inspect.signature(thing).parameters else ["Examples"]


def test_imports_go_downwards(sources: Sources) -> None:
    found = layer_violations(sources)
    assert not found, report("imports go downwards only (map in CONTRIBUTING.md):", found)


def test_imports_between_rooms_go_downwards(sources: Sources) -> None:
    assert {room_of(name) for name in sources if part_of(name) == "inference"} >= set(ROOMS)
    found = room_violations(sources)
    assert not found, report("rooms of inference see those below them only:", found)


def test_no_import_ring(sources: Sources) -> None:
    found = ring_violations(sources)
    assert not found, report("modules import each other in a ring; move what they share:", found)


def test_modules_are_short(sources: Sources) -> None:
    found = long_modules(sources)
    assert not found, report(f"modules have at most {MAX_MODULE_LINES} lines; split:", found)


def test_functions_are_short(sources: Sources) -> None:
    found = long_functions(sources)
    assert not found, report(f"functions have at most {MAX_FUNCTION_LINES} lines of code:", found)


def test_functions_have_few_parameters(sources: Sources) -> None:
    found = crowded_functions(sources)
    assert not found, report(f"functions have at most {MAX_PARAMETERS} parameters; group:", found)


def test_heavy_libraries_stay_in_their_place(sources: Sources) -> None:
    found = library_violations(sources)
    assert not found, report("a heavy library is imported where it does not belong:", found)


def test_every_folder_is_a_package() -> None:
    found = missing_inits(ROOT)
    assert not found, report("folders with modules need an __init__.py:", found)


def test_public_names_are_documented() -> None:
    import mirth

    for module in (mirth, mirth.results):
        names = list(module.__all__)
        assert len(names) == len(set(names)), f"{module.__name__}.__all__ names something twice"
        found = missing_documentation(module, names)
        assert not found, report("every public name has a numpydoc docstring:", found)


GOOD = {
    "mirth": "from mirth.model import Model",
    "mirth.core": "",
    "mirth.core.keys": "import jax",
    "mirth.data": "",
    "mirth.model": "from .model import Model",
    "mirth.model.model": "from mirth.core import keys\nfrom ..core.keys import fold",
    "mirth.report": "import matplotlib.pyplot as plt",
    "mirth.samplers": "import blackjax.mcmc",
}


@pytest.mark.parametrize("rule", [layer_violations, ring_violations, library_violations])
def test_rules_accept_good_sources(rule: object) -> None:
    assert callable(rule)
    assert rule(GOOD) == []


@pytest.mark.parametrize(
    ("module", "text", "named"),
    [
        ("mirth.core.keys", "def f():\n    from mirth.model import Model", "mirth.core.keys:2"),
        ("mirth.model.model", "from ..data import Dataset", "'data' is not below 'model'"),
        ("mirth.model.model", "from mirth import Model", "imports mirth"),
        ("mirth.zoo", "", "'zoo' is not on the map"),
    ],
)
def test_layer_rule_sees(module: str, text: str, named: str) -> None:
    (found,) = layer_violations({**GOOD, module: text})
    assert named in found


@pytest.mark.parametrize(
    ("module", "text", "named"),
    [
        (
            "mirth.inference.run.stages",
            "from mirth.inference.methods.mile import MILE",
            "'methods'",
        ),
        ("mirth.inference.problem", "from mirth.inference.chains import chains", "'chains'"),
        ("mirth.inference.engine.loop", "from mirth.inference import infer", "imports mirth"),
    ],
)
def test_room_rule_sees(module: str, text: str, named: str) -> None:
    rooms = {f"mirth.inference.{name}": "" for name in ("chains.chains", "methods.mile", "chains")}
    (found,) = room_violations({"mirth.inference": "", **rooms, module: text})
    assert named in found


def test_ring_rule_sees_an_import_inside_a_function() -> None:
    ring = {
        "mirth.core.a": "import mirth.core.keys",
        "mirth.core.keys": "def f():\n from . import a",
    }
    (found,) = ring_violations({**GOOD, **ring})
    assert "mirth.core.a" in found and "mirth.core.keys" in found


def test_size_rules_see() -> None:
    body = "\n".join(["def f():", '    """One\n    two."""', "    # why", "", *["    x = 1"] * 59])
    assert long_functions({"mirth.core.a": body}) == []
    assert long_functions({"mirth.core.a": body + "\n    x = 2"}) == [
        "mirth.core.a:1 f: 61 lines of code"
    ]
    assert long_modules({"mirth.core.a": "x = 1\n" * 400}) == []
    assert long_modules({"mirth.core.a": "x = 1\n" * 401}) == ["mirth.core.a: 401 lines"]


def test_parameter_rule_sees() -> None:
    names = ", ".join(f"a{n}" for n in range(10))
    method = f"class A:\n    def f(self, {names}): ..."
    assert crowded_functions({"mirth.core.a": method}) == []
    crowded = f"def f({names}, *, b=0): ..."
    assert crowded_functions({"mirth.core.a": crowded}) == ["mirth.core.a:1 f: 11 parameters"]
    assert crowded_functions({"mirth.estimators.a": crowded}) == []
    assert crowded_functions({"mirth.cli": f"@app.command()\n{crowded}"}) == []


@pytest.mark.parametrize("library", ["matplotlib", "sklearn.base", "blackjax"])
def test_library_rule_sees(library: str) -> None:
    text = f"def f():\n    from {library} import something"
    (found,) = library_violations({**GOOD, "mirth.core.keys": text})
    assert library.split(".")[0] in found and "mirth.core.keys" in found


def test_folder_rule_sees(tmp_path: Path) -> None:
    inner = tmp_path / "mirth" / "core"
    inner.mkdir(parents=True)
    (tmp_path / "mirth" / "__init__.py").touch()
    (inner / "a.py").touch()
    assert missing_inits(tmp_path / "mirth") == [str(Path("mirth/core"))]


def test_documentation_rule_sees() -> None:
    def silent(x: int) -> None: ...

    def brief(x: int) -> None:
        """One sentence."""

    class Outcome(enum.Enum):
        """What happened."""

    class Base:
        """A base.

        Examples
        --------
        >>> Base()
        """

        def step(self) -> None:
            """Do it."""

    class Child(Base):
        __doc__ = Base.__doc__

        def step(self) -> None: ...

        @property
        def size(self) -> int: ...

    named = [silent, brief, Outcome, Base, Child]
    things = SimpleNamespace(module=ModuleType("m"), **{thing.__name__: thing for thing in named})
    assert missing_documentation(things, list(vars(things))) == [
        "module has no docstring",
        "silent has no docstring",
        "brief has no section 'Parameters'",
        "brief has no section 'Examples'",
        "Child.size has no docstring",
    ]
