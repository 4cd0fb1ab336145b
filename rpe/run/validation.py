"""Values of a config against what the constructors say they take: one line for a slip, before anything is built."""

import inspect
import math
from collections.abc import Callable, Mapping
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from rpe.errors import UserError, did_you_mean

WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    NoneType: "null",
}
"""The plain types that an annotation may name, as a person says them."""


def check_options(target: Callable[..., Any], options: Mapping[str, Any], where: str) -> None:
    """Refuse options that the target does not have, or whose values its annotations do not allow.

    Args:
        target: a class or a function.
        options: plain values; keys that begin with _ are Hydra's.
        where: the config's path to them, for messages.

    Raises:
        UserError: naming the option and what it takes.
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
            remedy = f"it has {', '.join(options_of_target)}{did_you_mean(name, options_of_target)}"
            raise UserError(f"{where}.{name} is no option of {where}: {remedy}")
        if name in hints and not fits(value, hints[name]):
            remedy = (
                f": write [{value}]"
                if wants_list(hints[name]) and not isinstance(value, list) and value is not None
                else ""
            )
            raise UserError(f"{where}.{name} must be {wanted(hints[name])}, not {shown(value)}{remedy}")


def check_complete(target: Callable[..., Any], given: set[str], where: str) -> None:
    """Refuse to build without an option that has no default.

    Raises:
        UserError: naming the first that is missing.
    """
    for name, parameter in inspect.signature(target).parameters.items():
        if (
            parameter.default is parameter.empty
            and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
            and name not in given
        ):
            raise UserError(
                f"{where}.{name} is missing: every option has its value in the YAML of {where}, so leave it there"
            )


def members(expected: Any) -> tuple[Any, ...]:
    """The parts of a union, else the type alone."""
    return get_args(expected) if get_origin(expected) in (Union, UnionType) else (expected,)


def is_plain(expected: Any) -> bool:
    """Whether a value as YAML has them can be of that type."""
    return expected in WORDS or get_origin(expected) in (list, tuple, dict, Literal)


def fits(value: Any, expected: Any) -> bool:
    """Whether a plain value is of an annotated type; types that YAML has no values of are left to the constructor."""
    plain = [member for member in members(expected) if is_plain(member)]
    if not plain or (isinstance(value, dict) and "_target_" in value):
        return True
    return any(fits_one(value, member) for member in plain)


def fits_one(value: Any, expected: Any) -> bool:
    """The same for a type that is no union."""
    origin, parts = get_origin(expected), get_args(expected)
    if origin is Literal:
        return any(value == part and type(value) is type(part) for part in parts)
    if origin is list:
        return isinstance(value, list) and all(fits(item, parts[0]) for item in value)
    if origin is tuple:
        return isinstance(value, list) and len(value) == len(parts) and all(map(fits, value, parts))
    if origin is dict:
        return isinstance(value, dict)
    if expected is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, expected) and not (expected is int and isinstance(value, bool))


def wants_list(expected: Any) -> bool:
    """Whether a list is among what the type allows."""
    return any(get_origin(member) is list for member in members(expected))


def wanted(expected: Any) -> str:
    """The type in words: `a whole number or null`."""
    plain = [member for member in members(expected) if is_plain(member)]
    words: list[str] = []
    for member in plain:
        origin, parts = get_origin(member), get_args(member)
        if origin is Literal:
            words += [shown(part) for part in parts]
        elif origin is list:
            words.append(f"a list of {wanted(parts[0]).removeprefix('a ')}s".replace("texts", "names"))
        elif origin is tuple:
            words.append(f"a list of {len(parts)}")
        elif origin is dict:
            words.append("keys with values")
        elif not (member is int and float in plain):
            words.append(WORDS[member])
    return " or ".join(dict.fromkeys(words))


def shown(value: Any) -> str:
    """A value as YAML has it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return repr(value)
