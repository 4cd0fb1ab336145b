"""Check the structure of a MATLAB 5 file before scipy reads it: scipy trusts what the file tells, and lengths that do not fit end the program.

Format: MathWorks, "MAT-File Format", chapter 1. Elements have a tag of 8 bytes, type and length; elements of at most 4 bytes lie within their tag.
"""

import struct
from math import prod
from typing import NamedTuple

import numpy as np

HEADER, TAG = 128, 8
"""Bytes of a file's header, and of what each element begins with."""

MATRIX, COMPRESSED = 14, 15
WIDTHS = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8, 16: 1, 17: 2, 18: 4}
"""Bytes of a value by the element's type."""

CELL, STRUCT, CHAR, SPARSE, NUMBERS = 1, 2, 4, 5, range(6, 16)
"""Classes of arrays that are read; the others are objects and functions."""

COMPLEX = 8
"""Of an array's flags."""

DEEPEST_NESTING = 20


class Element(NamedTuple):
    """Type and content of an element."""

    kind: int
    content: memoryview

    def integers(self, order: str) -> list[int]:
        """The content as numbers of 4 bytes."""
        if self.kind not in (5, 6):
            raise ValueError(f"an element of type {self.kind} instead of whole numbers")
        return list(
            struct.unpack(f"{order}{len(self.content) // 4}i", self.content[: len(self.content) // 4 * 4])
        )

    def values(self) -> int:
        """How many values the content holds."""
        if self.kind not in WIDTHS or len(self.content) % WIDTHS[self.kind]:
            raise ValueError(f"values of type {self.kind} in {len(self.content)} bytes")
        return len(self.content) // WIDTHS[self.kind]


class Elements:
    """The elements of a file or array, one after the other."""

    def __init__(self, content: memoryview, order: str) -> None:
        self.content, self.order, self.place = content, order, 0

    def __bool__(self) -> bool:
        return self.place < len(self.content)

    def next(self) -> Element:
        """Return the next element.

        Raises:
            ValueError: it does not lie within the content.
        """
        if self.place + TAG > len(self.content):
            raise ValueError("an element is cut off")
        kind, length = struct.unpack(f"{self.order}II", self.content[self.place : self.place + TAG])
        start = self.place + TAG
        if kind >> 16:
            kind, length, start = kind & 0xFFFF, kind >> 16, self.place + TAG // 2
            if length > TAG // 2:
                raise ValueError(f"a small element of {length} bytes")
            self.place += TAG
        else:
            self.place = start + length
            if kind != COMPRESSED:
                self.place += -length % TAG
        # the last element of some writers is not filled up
        if start + length > len(self.content):
            raise ValueError(f"an element of {length} bytes, of which {len(self.content) - start} are there")
        return Element(kind, self.content[start : start + length])


def check_structure(content: bytes) -> None:
    """Refuse a MATLAB 5 file whose lengths and sizes do not fit each other.

    Raises:
        ValueError: what does not fit.
    """
    order = {b"IM": "<", b"MI": ">"}.get(content[HEADER - 2 : HEADER])
    if order is None:
        raise ValueError("no MATLAB 5 header")
    elements = Elements(memoryview(content)[HEADER:], order)
    while elements:
        element = elements.next()
        if element.kind != COMPRESSED:  # its own checksum tells damage
            check_array(element, order, 0)


def check_array(element: Element, order: str, depth: int) -> None:
    """Refuse an array whose sizes do not fit its content; the arrays within it too.

    Raises:
        ValueError: what does not fit.
    """
    if element.kind != MATRIX or depth > DEEPEST_NESTING:
        raise ValueError(
            f"an element of type {element.kind} instead of an array, or too many within each other"
        )
    if not element.content:
        return
    parts = Elements(element.content, order)
    flags = parts.next().integers(order)
    kind, is_complex = (flags[0] & 255, bool(flags[0] >> 8 & COMPLEX)) if flags else (0, False)
    if kind not in (CELL, STRUCT, CHAR, SPARSE, *NUMBERS):
        raise ValueError("a MATLAB object or function: save plain arrays, cells and structs alone")
    sizes = parts.next().integers(order)
    if len(flags) != 2 or len(sizes) < 2 or min(sizes) < 0:
        raise ValueError(f"an array of flags {flags} and sizes {sizes}")
    parts.next().values()  # the name
    if kind in (CELL, STRUCT):
        check_parts(parts, prod(sizes) * (1 if kind == CELL else field_count(parts, order)), depth)
    elif kind == SPARSE:
        check_sparse(parts, sizes, order, is_complex)
    else:
        counts = {parts.next().values() for _ in range(1 + is_complex)}
        if counts != {prod(sizes)} and kind != CHAR:  # text may have several bytes a letter
            raise ValueError(f"{max(counts)} values in an array of sizes {sizes}")


def check_parts(parts: Elements, count: int, depth: int) -> None:
    """Refuse arrays in a cell or struct that are not there or do not fit.

    Raises:
        ValueError: what does not fit.
    """
    if count * TAG > len(
        parts.content
    ):  # each has a tag, so sizes without end are seen before they are counted
        raise ValueError(f"{count} parts in {len(parts.content)} bytes")
    for _ in range(count):
        check_array(parts.next(), parts.order, depth + 1)


def field_count(parts: Elements, order: str) -> int:
    """Return how many fields a struct has."""
    lengths, names = parts.next().integers(order), parts.next()
    if len(lengths) != 1 or lengths[0] < 1 or len(names.content) % lengths[0]:
        raise ValueError("names of fields that do not fit their length")
    return len(names.content) // lengths[0]


def check_sparse(parts: Elements, sizes: list[int], order: str, is_complex: bool) -> None:
    """Refuse a sparse array whose rows and columns lie outside it.

    Raises:
        ValueError: what does not fit.
    """
    rows, ends = (np.array(parts.next().integers(order), dtype=np.int64) for _ in range(2))
    held = min(parts.next().values() for _ in range(1 + is_complex))
    if len(sizes) != 2 or len(ends) != sizes[1] + 1 or ends[0] != 0 or (np.diff(ends) < 0).any():
        raise ValueError("a sparse array whose columns do not fit")
    used = rows[: ends[-1]]
    if ends[-1] > min(len(rows), held) or (len(used) and not (used.min() >= 0 and used.max() < sizes[0])):
        raise ValueError("a sparse array whose rows do not fit")
