"""Checks of what an estimator is given."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.utils.validation import _check_sample_weight

from mirth.core.outcomes import MirthWarning
from mirth.core.validation import find_name
from mirth.model import PRIORS, AutoPrior, Prior

ESTIMATOR_PRIORS: dict[str, type] = {"auto": AutoPrior, **PRIORS}
"""Priors that an estimator knows by name."""


def resolve_prior(prior: Any) -> Prior | AutoPrior:
    """Turn a name into a prior, or into the choice of one."""
    if isinstance(prior, str):
        found: Prior | AutoPrior = ESTIMATOR_PRIORS[find_name("prior", prior, ESTIMATOR_PRIORS)]()
        return found
    if not isinstance(prior, Prior | AutoPrior):
        raise TypeError(
            f"prior={prior!r} must be a name ({', '.join(ESTIMATOR_PRIORS)}) or a prior object "
            "such as mirth.priors.NormalPrior(scale=0.5)."
        )
    return prior


@contextlib.contextmanager
def text_explained() -> Iterator[None]:
    """Say what to do about text, where scikit-learn only says that it is no number."""
    try:
        yield
    except ValueError as error:
        if "could not convert string" not in str(error):
            raise
        raise ValueError(
            f"{error}. Encode text and categories as numbers first, for example by a Pipeline with "
            "sklearn.preprocessing.OneHotEncoder."
        ) from error


def note_constant_columns(x: np.ndarray, names: np.ndarray) -> None:
    """Warn of columns that cannot tell rows apart; they are harmless."""
    constant = np.flatnonzero(np.ptp(x, axis=0) == 0)
    if len(constant):
        shown = ", ".join(map(str, names[constant[:10]])) + (", ..." if len(constant) > 10 else "")
        warnings.warn(
            f"Columns {shown} of X are constant ({len(constant)} in all); they carry no "
            "information and could be dropped.",
            MirthWarning,
            stacklevel=4,
        )


def keep_weighted_rows(
    X: np.ndarray, y: np.ndarray, sample_weight: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray]:
    """Check the weights and leave out rows of weight zero; give the numbers of the others, too."""
    if sample_weight is None:
        return X, y, None, np.arange(len(X))
    sample_weight = _check_sample_weight(
        sample_weight, X, dtype=np.float64, ensure_non_negative=True
    )
    if not sample_weight.any():
        raise ValueError("sample_weight is zero for every row; there is nothing to fit.")
    rows = np.flatnonzero(sample_weight > 0)
    if len(rows) < 2:
        raise ValueError(
            "sample_weight is positive for one row only; at least two rows are needed."
        )
    return X[rows], y[rows], sample_weight[rows], rows
