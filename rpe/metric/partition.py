"""Compare groups with the truth on its foreground: errors of the embedding, or of the loops?"""

import numpy as np
from jaxtyping import Int64


def adjusted_rand_index(truth: Int64[np.ndarray, " pixel"], groups: Int64[np.ndarray, " pixel"]) -> float:
    """Return 1 for equal partitions, about 0 for unrelated ones; NaN without pixels.

    Hubert and Arabie, 1985.
    """
    from sklearn.metrics import adjusted_rand_score  # a second to import, and a prediction needs none

    return float(adjusted_rand_score(truth, groups)) if len(truth) else float("nan")
