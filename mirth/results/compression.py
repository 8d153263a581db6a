"""Fewer draws in fewer bits.

Held-out rows with targets say which draws predict best together. Without them the draws that are
kept are equally spaced: choosing them by how well they imitate the predictive distribution of all
draws, at the rows of the fit, was no better on other rows (``docs/keeping.md``).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import ml_dtypes  # a part of JAX: the 16-bit type that NumPy does not have
import numpy as np
from jaxtyping import Float, Int
from scipy.special import logsumexp

from mirth.core.trees import full_precision
from mirth.core.validation import check_int, check_name
from mirth.inference import Posterior
from mirth.results._checks import check_posterior, check_rows
from mirth.results.stacking import predict_dist

DTYPES = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}
"""Types of the draws by name."""

_MAX_TARGETS = 2000  # a choice takes a second or two


@dataclasses.dataclass(frozen=True)
class CompressionReport:
    """What a compression has cost; prints as one sentence.

    Parameters
    ----------
    n_draws, n_draws_before : int
        Draws kept per chain, and those that there were.
    dtype : str
        Type of the draws.
    lppd_all : float
        Log pointwise predictive density of all draws, nats per row, scaled targets. If none were
        given, the targets are drawn from the predictive distribution of all draws.
    lppd_equal_spacing : float
        The same of as many draws that were equally spaced.
    lppd : float
        The same of the draws that were kept, rounding included.
    is_held_out : bool
        Whether targets were given. The draws were then chosen by these very rows, so on others
        they predict a little worse.

    Examples
    --------
    >>> report = CompressionReport(20, 200, "float16", -0.5, -0.53, -0.51, is_held_out=True)
    >>> f"{report.loss:.2f}"
    '0.01'
    >>> print(report)
    Compressed to 20 of 200 draws per chain, float16: LPPD -0.5100 on held-out rows, against -0.5000
    with all draws and -0.5300 with equal spacing (nats per row).
    """

    n_draws: int
    n_draws_before: int
    dtype: str
    lppd_all: float
    lppd_equal_spacing: float
    lppd: float
    is_held_out: bool

    @property
    def loss(self) -> float:
        """LPPD that was lost, nats per row; negative if the kept draws predict better."""
        return self.lppd_all - self.lppd

    def __str__(self) -> str:
        """Say it in one sentence."""
        rows = "held-out rows" if self.is_held_out else "targets drawn from the predictive"
        return (
            f"Compressed to {self.n_draws} of {self.n_draws_before} draws per chain, {self.dtype}: "
            f"LPPD {self.lppd:.4f} on {rows}, against {self.lppd_all:.4f} with all draws and "
            f"{self.lppd_equal_spacing:.4f} with equal spacing (nats per row)."
        )


def compress(
    posterior: Posterior,
    n_draws: int = 20,
    *,
    x: Any,
    y: Any = None,
    dtype: str = "float16",
    seed: int = 0,
) -> tuple[Posterior, CompressionReport]:
    r"""Keep some draws of every chain, in fewer bits.

    The same number of draws is kept of every chain, so that the chains weigh what they did, equally
    or by their weights. Without targets they are equally spaced. With targets the set A of all that
    are kept raises

    .. math:: \sum_n \log \frac1{|A|} \sum_{s \in A} p(y_n \mid x_n, \theta_s)

    by exchanging every draw once for the best of its chain, from equal spacing on; weights of
    chains count in the mean. More rounds were no better on other rows. Predictions compute in
    float32 all the same.

    Parameters
    ----------
    posterior : Posterior
        Draws.
    n_draws : int, default=20
        Draws to keep per chain.
    x : array of shape (rows, features) or (rows, ...), or pytree of arrays
        Inputs, scaled as in the fit, of rows on which the loss is measured; with ``y`` of rows that
        were not fitted. Of more than 2000 rows as many are used, equally spaced.
    y : array of shape (rows,) or (rows, targets), optional
        Their targets, scaled as in the fit, or class indices.
    dtype : {"float16", "bfloat16", "float32"}, default="float16"
        Type of the draws that are kept. ``"bfloat16"`` has three digits less, for weights above
        65504.
    seed : int, default=0
        Seed of the targets that the loss is measured on if none are given.

    Returns
    -------
    posterior : Posterior
        The draws that were kept, in their order.
    report : CompressionReport
        What it has cost.

    Raises
    ------
    TypeError
        If ``posterior`` is none.
    ValueError
        If there are not so many draws, a number is too large for ``dtype``, or the rows are not
        finite or do not fit the model.

    Examples
    --------
    >>> import numpy as np, mirth
    >>> x = np.linspace(-1, 1, 40)[:, None]
    >>> model = mirth.Model(mirth.MLP((4,), num_outputs=2), mirth.Normal())
    >>> method = mirth.MILE(n_warmup=100, n_samples=5)
    >>> posterior = mirth.infer(model, mirth.Dataset(x, x[:, 0]), method, num_chains=2)
    >>> small, report = compress(posterior, 2, x=x)
    >>> small.num_draws, report.n_draws_before, small.positions().shape
    (2, 5, (2, 2, 18))
    """
    check_posterior(posterior)
    check_name("dtype", dtype, list(DTYPES))
    if check_int("n_draws", n_draws, minimum=1) > posterior.num_draws:
        raise ValueError(
            f"n_draws={n_draws} is more than the {posterior.num_draws} draws that each chain has; "
            "give fewer."
        )
    x, y = _some_rows(check_rows(posterior, x), y)
    targets = _draw_targets(posterior, x, seed) if y is None else y[None]
    log_prob = _log_prob(posterior, x, targets)
    equal = np.tile(_equally_spaced(posterior.num_draws, n_draws), (posterior.num_chains, 1))
    kept = posterior.take_draws(equal if y is None else exchange(log_prob, equal))
    rounded = jax.tree.map(lambda leaf: _rounded(leaf, dtype), kept.draws)
    kept = dataclasses.replace(kept, draws=rounded)
    report = CompressionReport(
        n_draws=n_draws,
        n_draws_before=posterior.num_draws,
        dtype=dtype,
        lppd_all=_lppd(log_prob),
        lppd_equal_spacing=_lppd(np.take_along_axis(log_prob, equal[..., None], axis=1)),
        lppd=_lppd(_log_prob(kept, x, targets)),
        is_held_out=y is not None,
    )
    return dataclasses.replace(kept, notes=(*kept.notes, str(report))), report


def exchange(
    log_prob: Float[np.ndarray, "chains draws data"], start: Int[np.ndarray, "chains kept"]
) -> Int[np.ndarray, "chains kept"]:
    """Exchange every draw once, one after the other, for the best of its chain.

    Parameters
    ----------
    log_prob : array of shape (chains, draws, data)
        Log probability of each target under each draw.
    start : int array of shape (chains, kept)
        Draws of each chain to begin with.

    Returns
    -------
    int array of shape (chains, kept)
        Draws, in their order.

    Examples
    --------
    >>> log_prob = np.log([[[0.9, 0.1], [0.8, 0.1], [0.1, 0.9]]])
    >>> exchange(log_prob, np.array([[0, 1]])).tolist()
    [[0, 2]]
    """
    # Relative to the best draw nothing overflows; in float32 the logarithms take half the time.
    probability = np.exp(log_prob - log_prob.max(axis=(0, 1))).astype(np.float32)
    tiny = np.finfo(np.float32).tiny
    chosen = start.copy()
    for chain, slot in np.ndindex(*chosen.shape):
        others = np.delete(chosen[chain], slot)
        rest = sum(
            probability[k, others if k == chain else picks].sum(axis=0)
            for k, picks in enumerate(chosen)
        )
        score = np.log(probability[chain] + rest + tiny).sum(axis=1, dtype=np.float64)
        score[others] = -np.inf  # no draw twice
        chosen[chain, slot] = score.argmax()
    return np.sort(chosen, axis=1)


def _some_rows(x: Any, y: Any) -> tuple[Any, np.ndarray | None]:
    """Give as many rows as a choice takes a second for, and check that there is a target each."""
    num_rows = len(jax.tree.leaves(x)[0])
    few = slice(None, None, -(-num_rows // _MAX_TARGETS))
    if y is not None:
        y = np.asarray(y)
        if not y.ndim or len(y) != num_rows:
            raise ValueError(
                f"y has shape {y.shape}, but x has {num_rows} row(s); pass a target for each."
            )
        if y.dtype.kind not in "fiub" or not np.isfinite(y).all():
            raise ValueError(
                "y has values that are no finite numbers; leave these rows out of x and y."
            )
        y = y[few]
    return jax.tree.map(lambda leaf: leaf[few], x), y


def _equally_spaced(num_draws: int, n_draws: int) -> np.ndarray:
    """Indices of draws with equal distances, the last one included."""
    return np.arange(1, n_draws + 1) * num_draws // n_draws - 1


def _draw_targets(posterior: Posterior, x: Any, seed: int) -> np.ndarray:
    """Draw targets from the predictive distribution, shape (repetitions, rows)."""
    predictive = predict_dist(posterior, x, seed=seed)
    return predictive.sample(max(1, _MAX_TARGETS // len(jax.tree.leaves(x)[0])))


def _log_prob(
    posterior: Posterior, x: Any, targets: np.ndarray
) -> Float[np.ndarray, "chains draws data"]:
    """Log probability of every target under every draw, all repetitions side by side.

    The mean over all draws is that by the weights of the chains, which are a part of each.
    """
    predictive = predict_dist(posterior, x)
    log_prob = np.concatenate([predictive.log_prob_per_draw(y) for y in targets], axis=-1)
    if posterior.chain_weights is not None:
        with np.errstate(divide="ignore"):  # a chain of weight 0
            log_prob += np.log(posterior.num_chains * posterior.chain_weights)[:, None, None]
    return log_prob


def _lppd(log_prob: Float[np.ndarray, "chains draws data"]) -> float:
    num_draws = log_prob.shape[0] * log_prob.shape[1]
    return float(np.mean(logsumexp(log_prob, axis=(0, 1)) - np.log(num_draws)))


def _rounded(leaf: np.ndarray, dtype: str) -> np.ndarray:
    """Round draws to a type."""
    values = full_precision(leaf)
    largest, limit = float(np.abs(values).max()), float(ml_dtypes.finfo(DTYPES[dtype]).max)
    if largest > limit:
        raise ValueError(
            f"dtype={dtype!r} ends at {limit:g}, but a draw holds {largest:g}; use 'bfloat16'."
        )
    return values.astype(DTYPES[dtype])
