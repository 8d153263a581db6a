"""Loss curves of the optimisation, in a memory that does not grow with the epochs."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

MAX_POINTS = 1000
"""Most epochs of a curve; of longer optimisations every second, fourth, ... epoch is kept."""


class LossCurves:
    """Losses of all members by epoch, gathered on the host a few epochs at a time.

    With more than :data:`MAX_POINTS` epochs each second point is dropped and the stride doubled, so
    point i is that of epoch (i + 1) x stride, whatever the length of the pieces.

    Parameters
    ----------
    points : array of shape (members, points, 2)
        Losses of the training and of the validation rows; NaN where a member had stopped.
    stride : int, default=1
        Epochs between two points.
    num_epochs : int, default=0
        Epochs so far.

    Examples
    --------
    >>> curves = LossCurves.empty(num_members=1)
    >>> curves.append(np.array([[[3.0, 4.0], [1.0, 2.0]]]), np.array([1]))
    >>> curves.points[0, :, 0]  # the member had stopped after one epoch
    array([ 3., nan], dtype=float32)
    """

    def __init__(
        self, points: Float[np.ndarray, "members points 2"], stride: int = 1, num_epochs: int = 0
    ):
        self.points, self.stride, self.num_epochs = points, stride, num_epochs

    @classmethod
    def empty(cls, num_members: int) -> LossCurves:
        """Begin without an epoch."""
        return cls(np.zeros((num_members, 0, 2), np.float32))

    def append(
        self, piece: Float[np.ndarray, "members epochs 2"], lengths: Int[np.ndarray, " members"]
    ) -> None:
        """Add the next epochs.

        Parameters
        ----------
        piece : array of shape (members, epochs, 2)
            Losses; what is beyond the lengths means nothing.
        lengths : int array of shape (members,)
            Epochs that each member has run.
        """
        epoch = np.arange(piece.shape[1])
        known = np.where((epoch < lengths[:, None])[..., None], piece, np.nan).astype(np.float32)
        is_kept = (self.num_epochs + epoch + 1) % self.stride == 0
        self.points = np.concatenate([self.points, known[:, is_kept]], axis=1)
        self.num_epochs += piece.shape[1]
        while self.points.shape[1] > MAX_POINTS:
            self.points, self.stride = self.points[:, 1::2].copy(), 2 * self.stride
