"""Check the structure of a MATLAB 5 file before scipy reads it. Wrong lengths can crash scipy.

Format: MathWorks, "MAT-File Format", chapter 1. An element begins with a tag of 8 bytes, its type and length.
Up to 4 bytes of content are stored in the tag.
"""

import struct
from math import prod
from typing import NamedTuple

import numpy as np

HEADER, TAG = 128, 8
"""Bytes of a file's header, and of an element's tag."""

MATRIX, COMPRESSED = 14, 15
"""Types of elements that hold an array or compressed elements."""

WIDTHS = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8, 16: 1, 17: 2, 18: 4}
"""Bytes of a value by the element's type."""

CELL, STRUCT, CHAR, SPARSE, NUMBERS = 1, 2, 4, 5, range(6, 16)
"""Classes of arrays that are accepted. The others are objects and functions."""

COMPLEX = 8
"""Bit of an array's flags for complex numbers."""

DEEPEST_NESTING = 20
"""Most levels of cells and structs inside each other."""


class Element(NamedTuple):
    """Type and content of an element."""

    kind: int
    content: memoryview

    def integers(self, order: str) -> list[int]:
        """Return the content as 4-byte integers.

        Raises:
            ValueError: it holds something else.
        """
        if self.kind not in (5, 6):
            raise ValueError(f"an element of type {self.kind} instead of integers")
        return list(
            struct.unpack(f"{order}{len(self.content) // 4}i", self.content[: len(self.content) // 4 * 4])
        )

    def count_values(self) -> int:
        """Return the number of values in the content.

        Raises:
            ValueError: the type is unknown, or does not divide the content.
        """
        if self.kind not in WIDTHS or len(self.content) % WIDTHS[self.kind]:
            raise ValueError(f"values of type {self.kind} in {len(self.content)} bytes")
        return len(self.content) // WIDTHS[self.kind]


class Elements:
    """A reader of the elements of a file or array, in order."""

    def __init__(self, content: memoryview, order: str) -> None:
        self.content, self.order, self.place = content, order, 0

    def __bool__(self) -> bool:
        return self.place < len(self.content)

    def next(self) -> Element:
        """Return the next element.

        Raises:
            ValueError: it extends beyond the content.
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
        # some writers do not pad the last element
        if start + length > len(self.content):
            raise ValueError(f"an element of {length} bytes, of which {len(self.content) - start} exist")
        return Element(kind, self.content[start : start + length])


def check_structure(content: bytes) -> None:
    """Check that lengths and sizes in a MATLAB 5 file fit each other.

    Raises:
        ValueError: naming the misfit.
    """
    order = {b"IM": "<", b"MI": ">"}.get(content[HEADER - 2 : HEADER])
    if order is None:
        raise ValueError("no MATLAB 5 header")
    elements = Elements(memoryview(content)[HEADER:], order)
    while elements:
        element = elements.next()
        if element.kind != COMPRESSED:  # which has a checksum
            check_array(element, order, 0)


def check_array(element: Element, order: str, depth: int) -> None:
    """Check that an array's sizes fit its content, also for arrays inside it.

    Raises:
        ValueError: naming the misfit.
    """
    if element.kind != MATRIX or depth > DEEPEST_NESTING:
        raise ValueError(f"an element of type {element.kind} instead of an array, or too many nested arrays")
    if not element.content:
        return
    parts = Elements(element.content, order)
    flags = parts.next().integers(order)
    kind, is_complex = (flags[0] & 255, bool(flags[0] >> 8 & COMPLEX)) if flags else (0, False)
    if kind not in (CELL, STRUCT, CHAR, SPARSE, *NUMBERS):
        raise ValueError("a MATLAB object or function instead of an array, cell or struct")
    sizes = parts.next().integers(order)
    if len(flags) != 2 or len(sizes) < 2 or min(sizes) < 0:
        raise ValueError(f"an array of flags {flags} and sizes {sizes}")
    parts.next().count_values()  # the name
    if kind in (CELL, STRUCT):
        check_parts(parts, prod(sizes) * (1 if kind == CELL else count_fields(parts, order)), depth)
    elif kind == SPARSE:
        check_sparse(parts, sizes, order, is_complex)
    else:
        counts = {parts.next().count_values() for _ in range(1 + is_complex)}
        if counts != {prod(sizes)} and kind != CHAR:  # text may have several bytes a letter
            raise ValueError(f"{max(counts)} values in an array of sizes {sizes}")


def check_parts(parts: Elements, count: int, depth: int) -> None:
    """Check the arrays of a cell or struct.

    Raises:
        ValueError: naming the misfit.
    """
    # each has a tag, so a huge count fails before the loop
    if count * TAG > len(parts.content):
        raise ValueError(f"{count} parts in {len(parts.content)} bytes")
    for _ in range(count):
        check_array(parts.next(), parts.order, depth + 1)


def count_fields(parts: Elements, order: str) -> int:
    """Return the number of a struct's fields.

    Raises:
        ValueError: the names do not fit their length.
    """
    lengths, names = parts.next().integers(order), parts.next()
    if len(lengths) != 1 or lengths[0] < 1 or len(names.content) % lengths[0]:
        raise ValueError("field names that do not fit their length")
    return len(names.content) // lengths[0]


def check_sparse(parts: Elements, sizes: list[int], order: str, is_complex: bool) -> None:
    """Check that the rows and columns of a sparse array lie inside it.

    Raises:
        ValueError: naming the misfit.
    """
    rows, ends = (np.array(parts.next().integers(order), dtype=np.int64) for _ in range(2))
    held = min(parts.next().count_values() for _ in range(1 + is_complex))
    if len(sizes) != 2 or len(ends) != sizes[1] + 1 or ends[0] != 0 or (np.diff(ends) < 0).any():
        raise ValueError("a sparse array whose columns do not fit")
    used = rows[: ends[-1]]
    if ends[-1] > min(len(rows), held) or (len(used) and not (used.min() >= 0 and used.max() < sizes[0])):
        raise ValueError("a sparse array whose rows do not fit")
