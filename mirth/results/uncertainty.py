"""What a predictive uncertainty is made of."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class VarianceSplit(NamedTuple):
    """Predictive variance and its two parts, arrays of the shape of y in squared units of y.

    Parameters
    ----------
    total : array
        Variance of the predictive distribution, the sum of the two parts.
    aleatoric : array
        Noise that more data would not remove.
    epistemic : array
        Disagreement of the draws, which more data would remove.
    """

    total: np.ndarray
    aleatoric: np.ndarray
    epistemic: np.ndarray


class EntropySplit(NamedTuple):
    """Predictive entropy and its two parts, arrays of shape (rows,) in nats.

    Parameters
    ----------
    total : array
        Entropy of the averaged probabilities, the sum of the two parts.
    aleatoric : array
        Average entropy of the draws.
    epistemic : array
        Mutual information between the label and the draw.
    """

    total: np.ndarray
    aleatoric: np.ndarray
    epistemic: np.ndarray
