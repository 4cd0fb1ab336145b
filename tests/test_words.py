"""The project's words: none of a private dialect, no long line, no name that means two things."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

FORBIDDEN = re.compile(
    r"\b((?i:slips?|doors?|whoever|nobody|anybody|goes on|gone on|of no matter|thereof|therein|asked|said)|is none|is no)\b"
)
"""Words that a reader would have to learn, or read twice."""

HEADS = re.compile(r"^(What|Of|The same|How|Whether|Where)\b")
"""Beginnings of a first line that has no verb."""

COLUMNS = 110

SOURCES = sorted((ROOT / "rpe").rglob("*.py"))
TEXTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "conf").rglob("*.yaml"))]

ONE_ANSWER = {"main", "USAGE"}
"""Names whose meaning is the same in every module: the entry of a command, for instance."""


def name_of(file: Path) -> str:
    return str(file.relative_to(ROOT))


@pytest.mark.parametrize("file", [*SOURCES, *TEXTS], ids=name_of)
def test_words(file: Path) -> None:
    lines = file.read_text().splitlines()
    found = [(number, match[0]) for number, line in enumerate(lines, 1) for match in FORBIDDEN.finditer(line)]
    assert not found


@pytest.mark.parametrize("file", [*SOURCES, *TEXTS], ids=name_of)
def test_no_line_is_long(file: Path) -> None:
    """Rows of tables, addresses and commands may be long outside of code."""
    lines = file.read_text().splitlines()
    if file.suffix == ".md":
        lines = [line for line in lines if not line.startswith(("|", "    ")) and "](" not in line]
        lines = [line for line in lines if "python train.py" not in line]
    assert not [line for line in lines if len(line) > COLUMNS]


@pytest.mark.parametrize("file", SOURCES, ids=name_of)
def test_docstrings_begin_with_a_verb_or_a_noun(file: Path) -> None:
    nodes = [
        node
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module)
    ]
    docstrings = [(ast.get_docstring(node) or "").splitlines() for node in nodes]
    assert not [lines[0] for lines in docstrings if lines and HEADS.match(lines[0])]


FREE_ERRORS = {
    "{} must be JSON, got {}": "`explain_json_error` returns value and remedy",
    "logger.wandb: {}": "wandb's own words",
    "mask {}: {}": "becomes the cause in an error of `check_results`",
    "mask {}: a negative run": "becomes the cause in an error of `check_results`",
    "{} Or install {} (pip install 'rpe[imagenet]').": "adds a second remedy to an error",
    "{} cannot be downloaded ({}).": "a failure of the network, which constrains no key",
    "{} cannot be unpacked ({}: {})": "a failure of the archive, which constrains no key",
}
"""Beginnings of errors that do not show the form `<key> must be <constraint>, got <value>. <remedy>`, and the
reason."""


def template_of(node: ast.expr) -> str:
    """Return a text literal with {} for each value; "{}" for anything else."""
    if isinstance(node, ast.JoinedStr):
        return "".join(template_of(part) for part in node.values)
    return str(node.value) if isinstance(node, ast.Constant) else "{}"


ALL_VALUES = re.compile(
    r"[<>]|\bin [\[(]|\b(between|or|one of|options of|the shape|given (with|together))\b|^ be \{\}, $"
)
"""Constraints that are their own remedy, as they name all values that a key may have, or all keys to give:
ranges, choices, shapes, and constraints that are computed."""


def errors_in(file: Path) -> list[str]:
    """Return the templates of the errors that have the project's form."""
    calls = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]
    errors = [
        template_of(call.args[0])
        for call in calls
        if isinstance(call.func, ast.Name) and call.func.id == "UserError" and call.args
    ]
    return [text for text in errors if re.search("[a-z]", text) and not text.startswith(tuple(FREE_ERRORS))]


@pytest.mark.parametrize("file", SOURCES, ids=name_of)
def test_user_errors_name_the_constraint_and_the_value(file: Path) -> None:
    assert not [text for text in errors_in(file) if not re.search(r"\bmust\b.*\bgot\b", text)]


@pytest.mark.parametrize("file", SOURCES, ids=name_of)
def test_user_errors_end_with_a_remedy(file: Path) -> None:
    parts = [re.search(r"\bmust\b(.*?)\bgot\b(.*)", text) for text in errors_in(file)]
    assert not [
        part[0]
        for part in parts
        if part and not re.search(r"\. [^.]", part[2]) and not ALL_VALUES.search(part[1])
    ]


def walk_own(node: ast.AST) -> Iterator[ast.AST]:
    """Walk a function without the functions and classes inside it."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.ClassDef | ast.Lambda):
            yield child
            yield from walk_own(child)


@pytest.mark.parametrize("file", SOURCES, ids=name_of)
def test_a_public_function_names_the_user_errors_that_it_raises(file: Path) -> None:
    functions = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.FunctionDef)]
    raising = [
        function
        for function in functions
        if not function.name.startswith("_")
        and any(
            isinstance(node, ast.Raise) and node.exc is not None and "UserError(" in ast.unparse(node.exc)
            for node in walk_own(function)
        )
    ]
    assert not [
        function.name
        for function in raising
        if "UserError" not in (ast.get_docstring(function) or "").partition("Raises:")[2]
    ]


def test_no_name_means_two_things() -> None:
    defined = defaultdict(list)
    for file in SOURCES:
        for node in ast.parse(file.read_text()).body:
            names = []
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names = [node.name]
            elif isinstance(node, ast.Assign):
                names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            for name in names:
                defined[name].append(name_of(file))
    several = {
        name: files
        for name, files in defined.items()
        if len(files) > 1 and name not in ONE_ANSWER and not name.startswith("_")
    }
    assert not several
