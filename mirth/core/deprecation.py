"""Old spellings, which work for one more version and say what they are called now."""

from __future__ import annotations

import warnings

LAST_VERSION = "0.2"
"""Version from which old spellings are gone."""


def warn_renamed(old: str, new: str, stacklevel: int = 3) -> None:
    """Warn that something is called otherwise now.

    A FutureWarning, because Python hides a DeprecationWarning from whoever does not test.

    Parameters
    ----------
    old, new : str
        The two spellings, as one writes them.
    stacklevel : int, default=3
        How many callers up the warning points; 3 is the caller of who calls this.

    Examples
    --------
    >>> import warnings
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     warn_renamed("mirth.Poisson", "mirth.likelihoods.Poisson")
    >>> print(caught[0].message)
    mirth.Poisson is now mirth.likelihoods.Poisson; the old spelling works until mirth 0.2.
    """
    warnings.warn(
        f"{old} is now {new}; the old spelling works until mirth {LAST_VERSION}.",
        FutureWarning,
        stacklevel=stacklevel,
    )
