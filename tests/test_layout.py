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
MODULES = sorted(
    path.relative_to(ROOT) for path in (ROOT / "rpe").rglob("*.py") if path.name != "__init__.py"
)
# The rooms from the lowest to the highest: a room imports only rooms before it.
# `errors` and `run_files` need no torch, so that commands which only read what runs have left start at once.
# `pairs` (all pairs in tiles) serves grouping and loss. `__main__` is the command `rpe`, which runs the tools.
# `sweep` trains one job of a sweep. `run/sweep_record.py` (names, records) and `run/run_name.py` stay in `run` as long as `run/messages.py` reports how a sweep ended.
ORDER = [
    "errors",
    "older_runs",
    "run_files",
    "progress",
    "structures",
    "rle",
    "overlay",
    "sphere",
    "sphere_packing",
    "pairs",
    "data",
    "grouping",
    "loss",
    "metric",
    "network",
    "segment",
    "picture",
    "task",
    "callbacks",
    "run",
    "sweep",
    "tools",
    "__main__",
]
FORBIDDEN = {
    ("loss", "grouping"),
    ("loss", "data"),
    ("grouping", "data"),
    ("network", "data"),
    ("network", "loss"),
    ("network", "metric"),
    ("segment", "loss"),
    ("segment", "metric"),
}
MAY_USE = {
    "pycocotools": {"rle", "metric"},  # masks go through `rle`; the metrics compare with COCOeval
    "lightning": {"data", "task", "callbacks", "run"},
    "hydra": {"run", "sweep"},
    "omegaconf": {"run", "sweep", "tools"},
}
# where the target of a config group lies, unless in the room of its name; the ranker is a group of its own, so that the ablation is one word
PLACE = {
    "backbone": "network.backbone",
    "embedding": "network.embedding",
    "head": "network.head",
    "ranker": "segment",
    "proposal": "segment",
    "detection": "segment.boundary_map",
    "schedule": "task.schedule",
    "optimizer": "task.optimizer",
}
GIVEN_BY_RUN = {
    "embedding": {"channels"},
    "head": {"channels", "dimension", "stages"},
    "ranker": {"channels"},
    "proposal": {"ranker"},
    "optimizer": {"network"},
    "task": {"model", "loss", "proposal", "detection", "optimizer", "schedule"},
}
# the group `sweep` holds overrides and builds nothing
OPTIONS = sorted(
    path
    for path in (ROOT / "conf").rglob("*.yaml")
    if path.parent.name != "sweep" and PLACE.get(path.parent.name, path.parent.name).split(".")[0] in ORDER
)


def stage(module: Path) -> str:
    return module.parts[1].removesuffix(".py")


def imports(module: Path) -> set[str]:
    nodes = ast.walk(ast.parse((ROOT / module).read_text()))
    return {
        name
        for node in nodes
        for name in (
            [a.name for a in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
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
    if group == "callbacks":
        for name in node:
            check(node[name], f"rpe.{group}", set())
    else:
        check(
            node,
            f"rpe.{PLACE.get(group, group)}",
            GIVEN_BY_RUN.get(group, {"progress"} if group == "schedule" else set()),
        )


def check(node, prefix: str, given: set[str]) -> None:
    target = node["_target_"]
    assert target.startswith(prefix), target
    parameters = inspect.signature(
        get_method(target) if node.get("_partial_") else get_class(target).__init__
    ).parameters
    assert all(parameter.default is inspect.Parameter.empty for parameter in parameters.values()), (
        "numbers live in the YAML"
    )
    keys = {key for key in OmegaConf.to_container(node, resolve=False) if not str(key).startswith("_")}
    assert keys == set(parameters) - {"self"} - given
