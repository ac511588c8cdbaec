"""Rooms import downward only, and importing binseg is cheap."""

import ast
import subprocess
import sys
from pathlib import Path

import binseg

ROOT = Path(binseg.__file__).parent

# Lower floors know nothing of higher ones. Rooms on one floor do not know each other.
FLOORS = {
    "errors": 0,
    "network_options": 0,
    "machine": 0.5,
    "malloc": 0,
    "openmp": 0,
    "atomic": 0.5,
    "hub": 0.5,
    "lock": 0.5,
    "model_card": 0.5,
    "shipped": 1,
    "fonts": 1,
    "shipped_configs": 1,
    "distributed": 1,
    "data": 1,
    "runtime": 1,
    "model_file": 1.2,
    "program": 1.5,
    "visualize": 2,
    "inference": 2.5,
    "evaluation": 3,
    "nn": 4,
    "compiler": 5,
    "loaded": 5.5,
    "smp_hook": 5,
    "training": 6,
    "predictor": 7,
    "summarize": 7,
    "export": 7,
    "prediction": 7.5,
    "ray": 7.8,
    "quickstart": 8,
    "bench": 8,
    "compare": 8.5,
    "demo": 8.5,
    "cli": 9,
    "__main__": 10,
}


def modules() -> dict[str, Path]:
    """Dotted name below binseg → file."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in ROOT.rglob("*.py")
        if path != ROOT / "__init__.py"
    }


def imports(path: Path, known: dict[str, Path]) -> set[str]:
    """Modules of binseg that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module and node.module.split(".")[0] == "binseg":
                base = node.module.removeprefix("binseg").lstrip(".")
                for alias in node.names:
                    name = f"{base}.{alias.name}".lstrip(".")
                    found.add(name if name in known else base)
        elif isinstance(node, ast.Import):
            found |= {
                alias.name.removeprefix("binseg.")
                for alias in node.names
                if alias.name.startswith("binseg.")
            }
    return found - {""}


def test_every_room_has_a_floor_and_imports_go_down():
    known = modules()
    wrong = []
    for name, path in known.items():
        room = name.split(".")[0]
        for target in imports(path, known):
            other = target.split(".")[0]
            if other != room and FLOORS[other] >= FLOORS[room]:
                wrong.append(f"{name} imports {target}")
    assert not wrong


def test_imports_inside_a_room_go_one_way():
    known = modules()
    graph = {name: imports(path, known) & known.keys() for name, path in known.items()}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, f"circle: {' → '.join([*trail[trail.index(name) :], name])}"
        if name in done:
            return
        for target in graph[name]:
            # a package's __init__ may gather what its own modules offer
            if target != name and not name.startswith(f"{target}."):
                visit(target, (*trail, name))
        done.add(name)

    for name in graph:
        visit(name, ())


def test_importing_binseg_loads_nothing_heavy():
    script = (
        "import sys, binseg; heavy = {'torch', 'lightning', 'cv2', 'albumentations', 'matplotlib',"
        " 'segmentation_models_pytorch'}; print(sorted(heavy & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_public_names_are_there():
    assert {name for name in dir(binseg) if getattr(binseg, name) is not None} == set(
        binseg.__all__
    )
