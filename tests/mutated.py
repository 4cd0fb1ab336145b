"""JSON as broken tools and disks leave it: bytes that flipped, values and keys that are others, lists that are cut."""

import copy
import json
from typing import Any

import numpy as np

STRANGE: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        2,
        1.0,
        0.5,
        -0.0,
        1e300,
        2**31,
        2**63,
        10**30,
        10**400,
        float("nan"),
        float("inf"),
    ),
    *(
        "",
        "1",
        "a",
        "é",
        "e\u0301",
        "\0",
        "\ud800",
        ".",
        "..",
        "/",
        "../x.png",
        "a\\b",
        "0" * 300,
        "PPPP",
        "1" * 40,
    ),
    *(
        [],
        [[]],
        [[[]]],
        [1],
        ["a"],
        [1, 2, 3, 4],
        [[0, 0, 1, 1]],
        [[1, 2], [3, 4], [5, 6]],
        [[1, 2, 3, 4, 5, 6, 7]],
        [None],
        [48, 64],
    ),
    *(
        {},
        {"size": [48, 64]},
        {"size": [48, 64], "counts": [1]},
        {"size": [48, 64], "counts": ""},
        {"counts": []},
        {"id": 1},
    ),
]


def places(value: Any) -> list[tuple[Any, Any]]:
    """All (container, key) pairs of a JSON value."""
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [(value, key) for key in keys] + [place for key in keys for place in places(value[key])]


def mutate(value: Any, random: np.random.Generator) -> Any:
    """The value with one to three places set to something strange, taken away, doubled, wrapped, or exchanged."""
    value = [copy.deepcopy(value)]
    for _ in range(random.integers(1, 4)):
        found = places(value)
        container, key = found[random.integers(len(found))]
        other, elsewhere = found[random.integers(len(found))]
        kind = random.integers(6)
        if kind == 0 and container is not value:
            container.pop(key)
        elif kind == 1 and isinstance(container, list) and container is not value:
            container.append(copy.deepcopy(container[key]))
        elif kind == 2:
            container[key] = [container[key]]
        elif kind == 3:
            container[key] = copy.deepcopy(other[elsewhere])
        else:
            container[key] = copy.deepcopy(STRANGE[random.integers(len(STRANGE))])
    return value[0]


def flipped(text: bytes, random: np.random.Generator) -> bytes:
    """The text with one to four bytes changed, or cut short, or with a part of it twice."""
    broken = bytearray(text)
    for _ in range(random.integers(1, 5)):
        broken[random.integers(len(broken))] = (
            random.integers(256) if random.random() < 0.5 else random.choice(list(b'0123456789.-eE[]{},":'))
        )
    kind, (start, stop) = random.integers(8), sorted(random.integers(0, len(broken), 2))
    if kind == 0:
        return bytes(broken[:stop])
    if kind == 1:
        return bytes(broken[:stop] + broken[start:])
    return bytes(broken)


def broken(value: Any, random: np.random.Generator) -> bytes:
    """A JSON file that is wrong in some way."""
    if random.random() < 0.6:
        return json.dumps(mutate(value, random)).encode()
    return flipped(json.dumps(value).encode(), random)
