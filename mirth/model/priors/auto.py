"""A prior whose scale follows from how well a table can be predicted."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from mirth.core.config import Configurable
from mirth.core.validation import POSITIVE, Range, check_ranges
from mirth.model.priors.independent import FanInNormalPrior

_NOISY, _SMOOTH = 0.6, 0.75  # explained shares of the variance


@dataclasses.dataclass(frozen=True, kw_only=True)
class AutoPrior(Configurable):
    r"""Choice of a fan-in prior for a table: smooth functions where it is noisy, rough where not.

    .. math:: W_{ij} \sim \mathcal N(0, s^2 / n_\text{in}), \quad b_i \sim \mathcal N(0, 1)

    The fan-in makes the scale of the functions independent of the number of columns and the width.
    How rough they are is the scale :math:`s`, and no single one suits all tables
    (``docs/priors.md`` has the measurements): ``noisy_scale`` where simple models explain up to
    60 % of the target's variance, ``smooth_scale`` from 75 % on, and between them a line for its
    logarithm.

    It is a parameter of the estimators, which know the table; a :class:`~mirth.Model` takes the
    prior that it has chosen.

    Parameters
    ----------
    noisy_scale : float, default=1.0
        Scale s for noisy tables.
    smooth_scale : float, default=3.0
        Scale s for tables that can be predicted well.

    Raises
    ------
    ValueError
        If a scale is not positive.

    Examples
    --------
    >>> AutoPrior().choose(0.4).scale, AutoPrior().choose(0.9).scale
    (1.0, 3.0)
    """

    RANGES: ClassVar[Mapping[str, Range]] = {"noisy_scale": POSITIVE, "smooth_scale": POSITIVE}

    noisy_scale: float = 1.0
    smooth_scale: float = 3.0

    def __post_init__(self) -> None:
        check_ranges(self, self.RANGES)

    def choose(self, explained: float) -> FanInNormalPrior:
        """Choose the prior.

        Parameters
        ----------
        explained : float
            Share of the target's variance that simple models explain in rows that they were not
            fitted to, at most 1.

        Examples
        --------
        >>> round(AutoPrior(noisy_scale=1.0, smooth_scale=4.0).choose(0.675).scale, 6)
        2.0
        """
        place = min(max((explained - _NOISY) / (_SMOOTH - _NOISY), 0.0), 1.0)
        growth = (self.smooth_scale / self.noisy_scale) ** place
        return FanInNormalPrior(scale=self.noisy_scale * growth)
