"""Compute proven values for n points on S^(D-1): closed forms, and lower bounds on the largest similarity.

Paper, section 3.3; Rankin 1955; Fejes Toth 1943.
"""

import math

from scipy.special import betaincinv

from rpe.structures import check_count


def exact_similarity(groups: int, dimension: int) -> float | None:
    """Return the smallest possible largest similarity of `groups` unit vectors where it is proven, else None.

    It is 0 for a single group. D = 1 holds two points, D = 2 the regular polygon, n <= D + 1 the simplex
    (paper, Prop. 1), n <= 2 D the cross-polytope (Rankin), n = 12 in D = 3 the icosahedron (Fejes Toth).

    Raises:
        UserError: a number below 1.
    """
    check_count("groups", groups, 1, "it is the number of points")
    check_count("dimension", dimension, 1, "it is the number of coordinates of a point")
    if groups == 1:
        return 0.0
    if groups <= dimension + 1:
        return (1 - 1 / (groups - 1)) / 2
    if dimension == 1:
        return 1.0
    if dimension == 2:
        return (1 + math.cos(2 * math.pi / groups)) / 2
    if groups <= 2 * dimension:
        return 0.5
    return fejes_toth_bound(groups) if (groups, dimension) == (12, 3) else None


def fejes_toth_bound(groups: int) -> float:
    """Return csc^2(n pi / (6 (n - 2))) / 4, a lower bound in D = 3, n >= 3; exact for n = 3, 4, 6, 12."""
    return 1 / (4 * math.sin(groups * math.pi / (6 * (groups - 2))) ** 2)


def cap_bound(groups: int, dimension: int) -> float:
    """Return a lower bound in D >= 2: caps of half the smallest angle do not overlap.

    Their areas therefore sum to at most the sphere's.
    """
    # share of a half sphere, which is the whole of the regularised incomplete beta function
    share = min(1.0, 2 / groups)
    squared_sine = float(betaincinv((dimension - 1) / 2, 0.5, share))
    return 1 - squared_sine  # half the smallest angle is phi: s = (1 + cos 2 phi) / 2 = cos^2 phi


def similarity_bound(groups: int, dimension: int) -> float:
    """Return the best known lower bound on the largest similarity; the exact value where there is one."""
    exact = exact_similarity(groups, dimension)
    if exact is not None:
        return exact
    # 0.5: for n > 2 D some angle is acute (Rankin). The paper's propositions 1 and 2 are never larger
    at_least = max(cap_bound(groups, dimension), 0.5)
    return max(at_least, fejes_toth_bound(groups)) if dimension == 3 else at_least
