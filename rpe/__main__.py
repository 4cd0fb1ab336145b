"""Run a command of the installed package: `rpe train`, `rpe predict`, ...; `rpe` alone lists them."""

import ast
import contextlib
import io
import os
import runpy
import sys
from pathlib import Path

from rpe.errors import spell_commands

COMMANDS = {
    "train": "train a network, or a sweep of them; alone it lists the experiments",
    "evaluate": "score a run, or a results file of any method",
    "predict": "segment images",
    "report": "compare the jobs of a sweep on one HTML page",
    "gallery": "show a run's or a prediction's objects on one HTML page",
    "dynamics": "draw the loops of mean shift and the gradient through them",
    "packing": "tabulate how far apart groups can be on a sphere",
    "advice": "say which images a dimension and a margin can serve",
    "doctor": "look at a dataset before a training",
    "ranking": "fit a trained run's ranker again",
    "calibrate": "map a run's scores to expected IoUs",
    "tune": "choose a run's inference settings on its validation split",
    "export": "write network and loops for torch.export.load",
    "weights": "make a small copy of a run for a repository",
    "download": "fetch a public dataset",
}


def main() -> None:
    """Run `rpe <command> ...` as `python -m rpe.tools.<command> ...`.

    Lightning starts the ranks of a training by the name of the main module, so they run the same command.
    """
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help"):
        try:
            print(
                "\n".join(
                    [
                        "rpe <command> [key=value ...]",
                        *(f"  {key:<10} {text}" for key, text in COMMANDS.items()),
                    ]
                ),
                flush=True,
            )
        except BrokenPipeError:  # the reader, such as head, has closed our output
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    if name not in COMMANDS:
        raise SystemExit(f"error: command must be one of {', '.join(COMMANDS)}, got {name}")
    del sys.argv[1]
    if not {"-h", "--help"} & set(sys.argv[1:]):
        start_tool(name)
    elif (usage := read_usage(name)) is not None:
        print(spell_commands(usage.strip()), flush=True)
    else:
        printed = io.StringIO()
        try:
            with contextlib.redirect_stdout(printed):
                start_tool(name)
        finally:
            print(spell_commands(printed.getvalue()), end="", flush=True)


def start_tool(name: str) -> None:
    """Run `python -m rpe.tools.<name>` in this process."""
    runpy.run_module(f"rpe.tools.{name}", run_name="__main__", alter_sys=True)


def read_usage(name: str) -> str | None:
    """Return the constant `USAGE` of a tool without importing it, as that imports torch; None without one."""
    tool = Path(__file__).parent / "tools" / name
    for file in (tool.with_suffix(".py"), tool / "__main__.py"):
        for node in ast.parse(file.read_text()).body if file.is_file() else []:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "USAGE":
                return str(node.value.value) if isinstance(node.value, ast.Constant) else None
    return None


if __name__ == "__main__":
    main()
