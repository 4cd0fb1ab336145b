"""Check the values of a config against the annotations of the constructors, before anything is built."""

import inspect
import math
from collections.abc import Callable, Mapping
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from hydra.utils import get_object

from rpe.errors import UserError, did_you_mean

TYPE_NAMES: dict[Any, str] = {
    int: "an integer",
    float: "a number",
    bool: "true or false",
    str: "text",
    NoneType: "null",
}
"""The plain types that an annotation may name, in words."""


def check_options(target: Callable[..., Any], options: Mapping[str, Any], where: str) -> None:
    """Refuse options that the target does not have, or whose values its annotations do not allow.

    Args:
        target: a class or a function.
        options: plain values; keys that begin with _ are Hydra's.
        where: the path of the group in the config, for messages.

    Raises:
        UserError: the target has no such option, or its value is of another type.
    """
    parameters = inspect.signature(target).parameters
    hints = get_type_hints(target.__init__ if isinstance(target, type) else target)  # type: ignore[misc]
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    for name, value in options.items():
        if name.startswith("_"):
            continue
        if name not in parameters and not takes_any:
            known = [key for key in options if key in parameters]
            options_of_target = list(known or parameters)
            raise UserError(
                f"{where} must have options of {', '.join(options_of_target)}, "
                f"got {name}{did_you_mean(name, options_of_target)}"
            )
        if isinstance(value, dict) and isinstance(value.get("_target_"), str):
            check_options(get_object(value["_target_"]), value, f"{where}.{name}")
        elif name in hints and not matches_type(value, hints[name]):
            remedy = (
                f". Write [{value}]"
                if allows_list(hints[name]) and not isinstance(value, list) and value is not None
                else ""
            )
            raise UserError(
                f"{where}.{name} must be {name_type(hints[name])}, got {format_value(value)}{remedy}"
            )


def check_complete(target: Callable[..., Any], given: set[str], where: str) -> None:
    """Refuse to build without an option that has no default.

    Raises:
        UserError: an option is missing.
    """
    for name, parameter in inspect.signature(target).parameters.items():
        if (
            parameter.default is parameter.empty
            and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
            and name not in given
        ):
            raise UserError(
                f"{where}.{name} must have a value, got none. Keep the one in the YAML of {where}."
            )


def union_members(expected: Any) -> tuple[Any, ...]:
    """Return the types of a union; the type itself where it is not one."""
    return get_args(expected) if get_origin(expected) in (Union, UnionType) else (expected,)


def is_plain_type(expected: Any) -> bool:
    """Return whether a YAML value can be of that type."""
    return expected in TYPE_NAMES or get_origin(expected) in (list, tuple, dict, Literal)


def matches_type(value: Any, expected: Any) -> bool:
    """Return whether a plain value is of an annotated type.

    A type that YAML has no values of matches: the constructor checks it.
    """
    plain = [member for member in union_members(expected) if is_plain_type(member)]
    if not plain or (isinstance(value, dict) and "_target_" in value):
        return True
    return any(matches_member(value, member) for member in plain)


def matches_member(value: Any, expected: Any) -> bool:
    """Return whether a plain value is of a type that is not a union."""
    origin, parts = get_origin(expected), get_args(expected)
    if origin is Literal:
        return any(value == part and type(value) is type(part) for part in parts)
    if origin is list:
        return isinstance(value, list) and all(matches_type(item, parts[0]) for item in value)
    if origin is tuple:
        return isinstance(value, list) and len(value) == len(parts) and all(map(matches_type, value, parts))
    if origin is dict:
        return isinstance(value, dict)
    if expected is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, expected) and not (expected is int and isinstance(value, bool))


def allows_list(expected: Any) -> bool:
    """Return whether the type allows a list."""
    return any(get_origin(member) is list for member in union_members(expected))


def name_type(expected: Any) -> str:
    """Return the type in words: `an integer or null`."""
    plain = [member for member in union_members(expected) if is_plain_type(member)]
    words: list[str] = []
    for member in plain:
        origin, parts = get_origin(member), get_args(member)
        if origin is Literal:
            words += [format_value(part) for part in parts]
        elif origin is list:
            words.append(
                f"a list of {name_type(parts[0]).removeprefix('a ').removeprefix('an ')}s".replace(
                    "texts", "names"
                )
            )
        elif origin is tuple:
            words.append(f"a list of {len(parts)}")
        elif origin is dict:
            words.append("keys with values")
        elif not (member is int and float in plain):
            words.append(TYPE_NAMES[member])
    return " or ".join(dict.fromkeys(words))


def format_value(value: Any) -> str:
    """Return a value as YAML writes it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return repr(value)
