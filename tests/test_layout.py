"""The rules of the house: a test per module, imports one way, a config group per stage whose keys are the constructor's."""

import ast
import inspect
import re
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import get_class, get_method
from omegaconf import OmegaConf

ROOT = Path(__file__).parent.parent
MODULES = sorted(path.relative_to(ROOT) for path in (ROOT / "rpe").rglob("*.py") if path.name != "__init__.py")
# `run` is a folder, as what surrounds a training outgrew a file: arguments and slips (door, options), objects (building), run folders (folder),
# and the two commands (training, evaluation); `rpe.run.train`, `evaluate` and `enter` are all that the doors know of it.
# in the order in which data flow; a stage imports only stages before it. `pairs` (all pairs in tiles) serves grouping and loss, `thinning` data and metric.
# `slip`, `record` and `command` need no torch, so that commands which only read what runs have left start at once.
# `weights` is a command beside the doors: it makes a run small.
# `tiling` cuts images and joins what was found in their tiles, before any task uses it; `overlay` paints that in bytes, as `picture`'s figures would not hold an image
# of any size.
ORDER = [
    "slip",
    "record",
    "command",
    "structures",
    "sphere",
    "sphere_packing",
    "pairs",
    "thinning",
    "data",
    "backbone",
    "embedding",
    "grouping",
    "head",
    "detection",
    "loss",
    "schedule",
    "proposal",
    "tiling",
    "metric",
    "picture",
    "overlay",
    "model",
    "task",
    "callback",
    "run",
    "packing",
    "doctor",
    "export",
    "dynamics",
    "page",
    "report",
    "gallery",
    "weights",
]
FORBIDDEN = {("loss", "grouping"), ("model", "data"), ("metric", "proposal")}
MAY_USE = {"lightning": {"data", "task", "callback", "run"}, "hydra": {"run"}, "omegaconf": {"run"}}
# the ranker is a group of its own, so that the ablation is one word, and a part of the proposals, which it orders
PLACE = {"ranker": "proposal"}
GIVEN_BY_RUN = {
    "embedding": {"channels"},
    "head": {"channels", "dimension", "stages"},
    "ranker": {"channels"},
    "task": {"model", "detector", "loss", "proposal", "detection", "optimizer", "schedule"},
}
OPTIONS = sorted(path for path in (ROOT / "conf").rglob("*.yaml") if PLACE.get(path.parent.name, path.parent.name) in ORDER)


def stage(module: Path) -> str:
    return module.parts[1].removesuffix(".py")


def imports(module: Path) -> set[str]:
    nodes = ast.walk(ast.parse((ROOT / module).read_text()))
    return {
        name
        for node in nodes
        for name in (
            [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        )
    }


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_every_module_has_its_test(module: Path) -> None:
    assert (ROOT / "tests" / Path(*module.parts[1:-1]) / f"test_{module.name}").is_file()


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_imports_run_one_way(module: Path) -> None:
    here = stage(module)
    for name in imports(module):
        package, *rest = name.split(".")
        if package == "rpe":
            assert ORDER.index(rest[0]) <= ORDER.index(here), f"{module} imports {name}"
            assert (here, rest[0]) not in FORBIDDEN, f"{module} must not know {name}"
        assert here in MAY_USE.get(package, {here}), f"{module} imports {package}"
    assert not re.search(r"utils|misc|helper|common", module.stem)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_config_keys_are_the_constructors(option: Path) -> None:
    group = option.parent.name
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        node = compose("train", [f"{group}={option.stem}"])[group]
    if group == "callback":
        for name in node:
            check(node[name], f"rpe.{group}", set())
    else:
        check(node, f"rpe.{PLACE.get(group, group)}", GIVEN_BY_RUN.get(group, {"progress"} if group == "schedule" else set()))


def check(node, prefix: str, given: set[str]) -> None:
    target = node["_target_"]
    assert target.startswith(prefix), target
    parameters = inspect.signature(get_method(target) if node.get("_partial_") else get_class(target).__init__).parameters
    assert all(parameter.default is inspect.Parameter.empty for parameter in parameters.values()), "numbers live in the YAML"
    keys = {key for key in OmegaConf.to_container(node, resolve=False) if not str(key).startswith("_")}
    assert keys == set(parameters) - {"self"} - given
