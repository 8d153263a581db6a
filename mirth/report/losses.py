"""The picture of the optimisation, the warm start of the chains."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from mirth.report.style import GREY, colours_of, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def loss_figure(
    epochs: Int[np.ndarray, " points"],
    training: Float[np.ndarray, "members points"],
    validation: Float[np.ndarray, "members points"],
    best_epochs: Int[np.ndarray, " members"],
    best_losses: Float[np.ndarray, " members"],
) -> Figure:
    """Draw the losses of all members by epoch, and the weights that each of them has kept.

    Parameters
    ----------
    epochs : int array of shape (points,)
        Epoch of each point.
    training, validation : array of shape (members, points)
        Mean negative log likelihood in nats; NaN after a member has stopped.
    best_epochs : int array of shape (members,)
        Epoch whose weights were kept.
    best_losses : array of shape (members,)
        Their loss of the validation rows.

    Returns
    -------
    matplotlib.figure.Figure
    """
    (colour,) = colours_of(["deep ensemble"])
    with new_figure(7.2, 3.8) as (figure, (ax,)):
        for curves, shade, label in (
            (training, GREY, "training rows"),
            (validation, colour, "validation rows"),
        ):
            for k, curve in enumerate(curves):
                ax.plot(
                    epochs, curve, color=shade, alpha=0.6, linewidth=1, label=None if k else label
                )
        ax.plot(best_epochs, best_losses, "o", color=colour, markersize=5, label="weights kept")
        ax.set(xlabel="epoch", ylabel="loss (nats per row)")
        shown = np.concatenate([training.ravel(), validation.ravel()])
        shown = shown[np.isfinite(shown)]
        if shown.size:
            # The first epochs may be far above all that matters.
            low, high = shown.min(), np.quantile(shown, 0.98)
            margin = 0.05 * (high - low) or 0.1
            ax.set_ylim(low - margin, high + margin)
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
