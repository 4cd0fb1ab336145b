"""Agreement of groups with the truth on its foreground: which stage, embedding or loops, is still wrong."""

import numpy as np
from jaxtyping import Int64
from sklearn.metrics import adjusted_rand_score


def adjusted_rand_index(truth: Int64[np.ndarray, " pixel"], groups: Int64[np.ndarray, " pixel"]) -> float:
    """1 for the same partition, about 0 for an unrelated one (Hubert and Arabie, 1985); NaN without a pixel."""
    return float(adjusted_rand_score(truth, groups)) if len(truth) else float("nan")
