from collections.abc import Callable
from typing import Any, Literal

import pytest

from rpe.run.validation import check_complete, check_options, format_value, matches_type, name_type
from rpe.structures import UserError


class Anything:
    """What no YAML holds."""


@pytest.mark.parametrize(
    ("expected", "good", "bad"),
    [
        (int, [0, -3], [1.0, True, "1", None, [1], float("nan")]),
        (float, [0, 1.5], [True, "1", None, float("inf"), float("nan")]),
        (bool, [True], [0, 1, "true", None]),
        (str, ["", "a"], [1, None, ["a"]]),
        (int | None, [1, None], [1.5, "null"]),
        (list[float], [[], [0.3, 1]], [0.3, ["a"], None, [None]]),
        (list[str] | None, [["a"], None], ["a", [1]]),
        (tuple[float, float], [[0.9, 0.99]], [[0.9], 0.9]),
        (dict[str, int], [{"a": 1}], [1]),
        (Literal["warn"] | bool, ["warn", True], ["other", 1]),
        (Literal[16, "16"], [16, "16"], [16.0, True]),
        (float | Anything, [0.5, {"_target_": "x"}], ["abc", None]),
        (Anything, ["abc", 5], []),
        (Callable[[float], float], [5], []),
        (Any, [5, "a"], []),
    ],
)
def test_plain_values_against_annotations(expected: Any, good: list[Any], bad: list[Any]) -> None:
    assert [value for value in good if not matches_type(value, expected)] == []
    assert [value for value in bad if matches_type(value, expected)] == []


def test_types_and_values_in_words() -> None:
    assert name_type(int | float | None) == "a number or null"
    assert name_type(list[int] | str | int) == "a list of integers or text or an integer"
    assert name_type(list[str]) == "a list of names"
    assert name_type(bool | Literal["warn"]) == "true or false or 'warn'"
    assert [format_value(value) for value in (None, True, 1.5, "a", ["a"])] == [
        "null",
        "true",
        "1.5",
        "'a'",
        "['a']",
    ]


def test_names_and_completeness() -> None:
    def stage(width: int, depth: int = 2) -> None: ...

    def open_end(width: int, **others: Any) -> None: ...

    with pytest.raises(UserError, match="net must have options of width, depth, got widht"):
        check_options(stage, {"widht": 3, "_target_": "x"}, "net")
    check_options(open_end, {"width": 3, "tags": ["a"]}, "net")
    with pytest.raises(UserError, match="net.width must have a value, got none"):
        check_complete(stage, {"depth"}, "net")
    check_complete(open_end, {"width"}, "net")
