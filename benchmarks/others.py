"""Other packages on the splits of ``uci20.py``, into the same file of results.

    python -m venv others && others/bin/pip install catboost ngboost scikit-learn
    others/bin/python benchmarks/others.py --data FOLDER [--models catboost gp] [--splits 0-4]

Needs no mirth. Each model gets the standardised inputs and target of the training rows; what stops
early holds a tenth of them back for that. Scores are in the units of the target.

- ``catboost``: a mixture of five models of mean and variance, apart in seed and held-back rows.
- ``ngboost``: boosted Normals.
- ``gp``: exact Gaussian process with one length scale for each input, up to 2 000 training rows.
- ``hgb``: scikit-learn's boosted trees, 19 quantiles and the mean. It has no density, so no NLL.
"""

from __future__ import annotations

import importlib.util
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import uci_splits

CATBOOST = {"models": 5, "iterations": 1000, "early_stopping_rounds": 50}
NGBOOST = {"n_estimators": 2000, "learning_rate": 0.01, "early_stopping_rounds": 50}
GP = {"max_rows": 2000}
HGB = {"quantiles": 19}
LEVEL_ENDS = (0.05, 0.95)
THREADS = 2


@dataclass(frozen=True)
class NormalMixture:
    """Equally likely Normals for each row; both arrays have shape (components, rows)."""

    means: np.ndarray
    stds: np.ndarray

    def log_prob(self, y: np.ndarray) -> np.ndarray:
        """Log density of the mixture."""
        from scipy.special import logsumexp
        from scipy.stats import norm

        densities = norm.logpdf(y, self.means, self.stds)
        return logsumexp(densities, axis=0) - np.log(len(self.means))

    def mean(self) -> np.ndarray:
        """Mean of the mixture."""
        return self.means.mean(axis=0)

    def std(self) -> np.ndarray:
        """Standard deviation of the mixture: noise and disagreement."""
        return np.sqrt((self.stds**2).mean(axis=0) + self.means.var(axis=0))

    def quantile(self, level: float) -> np.ndarray:
        """Quantile of the mixture, by bisection."""
        from scipy.special import ndtr, ndtri

        # It lies between those of the components.
        ends = self.means + self.stds * ndtri(level)
        low, high = ends.min(axis=0), ends.max(axis=0)
        for _ in range(60):
            middle = (low + high) / 2
            below = ndtr((middle - self.means) / self.stds).mean(axis=0) < level
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return (low + high) / 2

    def crps(self, y: np.ndarray) -> np.ndarray:
        """E|X - y| - E|X - X'| / 2 in closed form."""
        difference = self.means[:, None] - self.means[None]
        spread = np.hypot(self.stds[:, None], self.stds[None])
        among = _mean_distance(difference, spread).mean(axis=(0, 1))
        return _mean_distance(y - self.means, self.stds).mean(axis=0) - among / 2

    def scores(self, y: np.ndarray) -> dict[str, float | None]:
        """Score rows."""
        lower, upper = (self.quantile(level) for level in LEVEL_ENDS)
        return uci_splits.scores(
            y, self.log_prob(y), self.mean(), lower, upper, self.crps(y), self.std()
        )

    def rescaled(self, shift: float, scale: float) -> NormalMixture:
        """Give the mixture in the units of the target."""
        return NormalMixture(shift + scale * self.means, scale * self.stds)


def _mean_distance(mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """E|Z| of a Normal."""
    from scipy.special import ndtr
    from scipy.stats import norm

    ratio = mean / std
    return mean * (2 * ndtr(ratio) - 1) + 2 * std * norm.pdf(ratio)


@dataclass(frozen=True)
class Quantiles:
    """Quantiles at equally spaced levels, shape (levels, rows), and the mean of each row."""

    levels: np.ndarray
    values: np.ndarray
    mean: np.ndarray

    def crps(self, y: np.ndarray) -> np.ndarray:
        """Twice the integral of the pinball loss over the levels, by the trapezoid rule.

        The loss is taken as 0 at the levels 0 and 1; for a Normal the result is 0.4 % low.
        """
        error, levels = y - self.values, self.levels[:, None]
        pinball = np.maximum(levels * error, (levels - 1) * error)
        return 2 * pinball.sum(axis=0) * (self.levels[1] - self.levels[0])

    def scores(self, y: np.ndarray) -> dict[str, float | None]:
        """Score rows; there is no density."""
        lower, upper = self.values[0], self.values[-1]
        return uci_splits.scores(y, None, self.mean, lower, upper, self.crps(y))

    def rescaled(self, shift: float, scale: float) -> Quantiles:
        """Give the quantiles in the units of the target."""
        return Quantiles(self.levels, shift + scale * self.values, shift + scale * self.mean)


Prediction = NormalMixture | Quantiles


def hold_back(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Give nine tenths of the rows, and a tenth to stop by."""
    order = np.random.default_rng(seed).permutation(n)
    return order[n // 10 :], order[: n // 10]


def fit_catboost(x: np.ndarray, y: np.ndarray, x_test: np.ndarray, seed: int) -> Prediction:
    """Five models of mean and variance."""
    from catboost import CatBoostRegressor

    means, variances = [], []
    for member in range(CATBOOST["models"]):
        one_seed = CATBOOST["models"] * seed + member
        fit, stop = hold_back(len(y), one_seed)
        model = CatBoostRegressor(
            loss_function="RMSEWithUncertainty",
            iterations=CATBOOST["iterations"],
            random_seed=one_seed,
            thread_count=THREADS,
            allow_writing_files=False,
            verbose=False,
        )
        model.fit(
            x[fit],
            y[fit],
            eval_set=(x[stop], y[stop]),
            use_best_model=True,
            early_stopping_rounds=CATBOOST["early_stopping_rounds"],
        )
        mean, variance = model.predict(x_test).T
        means.append(mean)
        variances.append(variance)
    return NormalMixture(np.array(means), np.sqrt(variances))


def fit_ngboost(x: np.ndarray, y: np.ndarray, x_test: np.ndarray, seed: int) -> Prediction:
    """Boosted Normals."""
    from ngboost import NGBRegressor

    fit, stop = hold_back(len(y), seed)
    model = NGBRegressor(
        n_estimators=NGBOOST["n_estimators"],
        learning_rate=NGBOOST["learning_rate"],
        random_state=seed,
        verbose=False,
    )
    rounds = NGBOOST["early_stopping_rounds"]
    model.fit(x[fit], y[fit], X_val=x[stop], Y_val=y[stop], early_stopping_rounds=rounds)
    # The index of the best round; unless told, all rounds up to the stop are taken.
    dist = model.pred_dist(x_test, max_iter=model.best_val_loss_itr + 1)
    return NormalMixture(dist.params["loc"][None], dist.params["scale"][None])


def fit_gp(x: np.ndarray, y: np.ndarray, x_test: np.ndarray, seed: int) -> Prediction:
    """Gaussian process with a length scale for each input and a learnt noise."""
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    scales = RBF(np.ones(x.shape[1]), (1e-2, 1e4))
    kernel = ConstantKernel(1.0, (1e-3, 1e4)) * scales + WhiteKernel(0.1, (1e-8, 1e1))
    model = GaussianProcessRegressor(kernel, normalize_y=True, random_state=seed).fit(x, y)
    # The white part of the kernel is in this deviation, so it is that of a new observation.
    mean, std = model.predict(x_test, return_std=True)
    return NormalMixture(mean[None], std[None])


def fit_hgb(x: np.ndarray, y: np.ndarray, x_test: np.ndarray, seed: int) -> Prediction:
    """Boosted trees, a model for each quantile and one for the mean."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    def predict(**loss: Any) -> np.ndarray:
        return HistGradientBoostingRegressor(random_state=seed, **loss).fit(x, y).predict(x_test)

    count = HGB["quantiles"]
    levels = np.arange(1, count + 1) / (count + 1)
    values = np.array([predict(loss="quantile", quantile=float(level)) for level in levels])
    # Models of neighbouring levels know nothing of each other and may cross.
    return Quantiles(levels, np.sort(values, axis=0), predict(loss="squared_error"))


@dataclass(frozen=True)
class Peer:
    """A model, the module and the package it is from, and its settings."""

    fit: Callable[[np.ndarray, np.ndarray, np.ndarray, int], Prediction]
    module: str
    package: str
    settings: dict[str, Any]


PEERS = {
    "catboost": Peer(fit_catboost, "catboost", "catboost", CATBOOST),
    "ngboost": Peer(fit_ngboost, "ngboost", "ngboost", NGBOOST),
    "gp": Peer(fit_gp, "sklearn", "scikit-learn", GP),
    "hgb": Peer(fit_hgb, "sklearn", "scikit-learn", HGB),
}


def fit_one(peer: Peer, folder: str, name: str, split: int) -> dict[str, Any] | None:
    """Fit and score a split; None if the set is too large for the model."""
    x, y = uci_splits.load(name, folder)
    train, test = uci_splits.splits(name, len(y))[split]
    if len(train) > peer.settings.get("max_rows", np.inf):
        return None
    center, spread = x[train].mean(axis=0), x[train].std(axis=0)
    # Naval has constant columns, whose deviation need not be rounded to 0.
    x = (x - center) / np.where(spread > 1e-10 * np.abs(center), spread, 1.0)
    shift, scale = float(y[train].mean()), float(y[train].std())
    began, began_cpu = time.perf_counter(), time.process_time()
    prediction = peer.fit(x[train], (y[train] - shift) / scale, x[test], split)
    return {
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - began_cpu,
        "scores": prediction.rescaled(shift, scale).scores(y[test]),
    }


def report(name: str, split: int, model: str, found: dict[str, Any]) -> None:
    """Print the line of a split."""
    scores = found["scores"]
    nll = "      -" if scores["nll"] is None else f"{scores['nll']:7.3f}"
    print(
        f"{name:11s} split {split:2d}  {model:9s} NLL {nll}  RMSE {scores['rmse']:.4g}  "
        f"CRPS {scores['crps']:.4g}  90 % cover {scores['coverage']:.3f}  "
        f"{found['seconds']:6.1f} s",
        flush=True,
    )


def main() -> None:
    """Run and tabulate."""
    parser = uci_splits.parser(__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=list(PEERS), default=list(PEERS))
    args = parser.parse_args()
    if not args.data and not args.table_only:
        parser.error("give --data, or --table-only")
    results = uci_splits.Results(args.results)
    models = [] if args.table_only else list(args.models)
    for model in list(models):
        if importlib.util.find_spec(PEERS[model].module) is None:
            print(f"{model} is left out: {PEERS[model].package} is not installed here.")
            models.remove(model)
    for name, split in uci_splits.wanted(args) if models else []:
        for model in models:
            peer = PEERS[model]
            if not args.redo and results.has(name, split, model, peer.settings):
                continue
            with warnings.catch_warnings():
                # Length scales at a bound: the input is without effect.
                warnings.simplefilter("ignore")
                found = fit_one(peer, args.data, name, split)
            if found is None:
                print(f"{name:11s} {model} is left out: more than {GP['max_rows']} training rows")
                continue
            key = {"set": name, "split": split, "model": model, "settings": peer.settings}
            found["versions"] = uci_splits.versions(peer.package)
            results.add(key | found)
            report(name, split, model, found)
    print(uci_splits.table(uci_splits.Results(args.results).records))


if __name__ == "__main__":
    main()
