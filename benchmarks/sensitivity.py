"""What the settings of MILE do to quality and time: each one varied alone around a small budget.

    python benchmarks/sensitivity.py --data DATA_FOLDER [--seeds 1 2] [--figure FILE.png]

Airfoil and 1 500 rows of bike sharing, 80/20 splits, network 16-16, targets standardised. Prints
test LPPD (mean over the seeds) and the processor time of a fit, and draws both. The time is the
least over the seeds, so that it holds no compilation: programs are cached between fits.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from typing import Any

import jax
import numpy as np
from common import save_result, standardised_split

import mirth
from mirth.data import load_benchmark

ROWS = 1500
BASE: dict[str, Any] = {
    "method__start__learning_rate": 1e-2,
    "method__start__weight_decay": 5e-3,
    "n_members": 4,
    "method__n_warmup": 3000,
    "method__tuner__energy_variance_start": 0.5,
    "method__tuner__energy_variance_end": 0.02,
    "method__tuner__trust": 1.5,
    "method__tuner__num_effective": 100.0,
    "method__n_thinning": 10,
}
OTHERS: dict[str, list[Any]] = {
    "method__start__learning_rate": [1e-3, 3e-2],
    "method__start__weight_decay": [0.0, 5e-2],
    "n_members": [2, 8],
    "method__n_warmup": [1000, 9000],
    "method__tuner__energy_variance_start": [0.1, 2.0],
    "method__tuner__energy_variance_end": [0.002, 0.1],
    "method__tuner__trust": [0.75, 3.0],
    "method__tuner__num_effective": [20.0, 400.0],
    "method__n_thinning": [2, 40],
}


def fit(rows: tuple[np.ndarray, ...], changes: dict[str, Any], seed: int) -> dict[str, float]:
    """Fit once and score the test rows; ``start_lppd`` is that of the ensemble."""
    x_train, x_test, y_train, y_test = rows
    method = mirth.MILE(n_samples=100)
    model = mirth.BNNRegressor(
        (16, 16), likelihood="normal", prior="normal", method=method, random_state=seed
    )
    model.set_params(**(BASE | changes))
    began = time.process_time()
    model.fit(x_train, y_train)
    seconds = time.process_time() - began
    lppd = {
        key: float(estimator.predict_dist(x_test).log_prob(y_test).mean())
        for key, estimator in (("lppd", model), ("start_lppd", model.as_deep_ensemble()))
    }
    return lppd | {"seconds": seconds}


def sweep(name: str, folder: str, seeds: list[int]) -> list[dict[str, Any]]:
    """Vary each setting of one data set, the defaults first."""
    example = load_benchmark(name, folder)
    keep = np.random.default_rng(0).permutation(len(example.x))[:ROWS]
    splits = {seed: standardised_split(example.x[keep], example.y[keep], seed) for seed in seeds}
    cases = [("base", None)] + [(key, value) for key, more in OTHERS.items() for value in more]
    table = []
    for key, value in cases:
        changes = {} if value is None else {key: value}
        found = [fit(splits[seed], changes, seed) for seed in seeds]
        lppd = np.array([one["lppd"] for one in found])
        row = {
            "set": name,
            "setting": key.removeprefix("method__"),
            "value": value,
            "lppd": lppd.tolist(),
            "start_lppd": [one["start_lppd"] for one in found],
            "seconds": min(one["seconds"] for one in found),
        }
        table.append(row)
        gain = lppd - np.array(table[0]["lppd"])
        print(
            f"{name:12s} {row['setting']:24s} {value if value is not None else '':<8} "
            f"LPPD {np.mean(row['start_lppd']):7.3f} -> {lppd.mean():7.3f}  against base "
            f"{gain.mean():+.3f} ({', '.join(f'{g:+.3f}' for g in gain)})  "
            f"{row['seconds']:5.1f} CPU s",
            flush=True,
        )
    return table


def draw(table: list[dict[str, Any]], path: str) -> None:
    """Draw LPPD and time of each setting, relative to the base, one row for each data set."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    sets = list(dict.fromkeys(row["set"] for row in table))
    keys = [key.removeprefix("method__") for key in OTHERS]
    figure, axes = plt.subplots(2, len(keys), figsize=(2 * len(keys), 5), sharey="row")
    for name, marker in zip(sets, "os", strict=False):
        mine = [row for row in table if row["set"] == name]
        base = mine[0]
        for column, (key, full) in enumerate(zip(keys, OTHERS, strict=True)):
            rows = [row for row in mine if row["setting"] == key]
            rows = sorted([base | {"value": BASE[full]}, *rows], key=lambda row: row["value"])
            ticks = range(len(rows))
            gains = np.array([np.subtract(row["lppd"], base["lppd"]) for row in rows])
            line = axes[0, column].plot(ticks, gains.mean(axis=1), marker=marker, label=name)
            axes[0, column].plot(ticks, gains, ".", color=line[0].get_color(), alpha=0.4)
            times = [row["seconds"] / base["seconds"] for row in rows]
            axes[1, column].plot(ticks, times, marker=marker)
            for axis in axes[:, column]:
                axis.set_xticks(ticks, [f"{row['value']:g}" for row in rows])
            axes[0, column].set_title(key.removeprefix("start__"), fontsize=9)
    axes[0, 0].set_ylabel("LPPD - base, nats per row")
    axes[1, 0].set_ylabel("processor time / base")
    axes[0, 0].legend(frameon=False, fontsize=8)
    for axis in axes.flat:
        axis.axhline(1.0 if axis in axes[1] else 0.0, color="0.8", zorder=0)
        axis.tick_params(labelsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Run the sweep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder with the benchmark files")
    parser.add_argument("--sets", nargs="+", default=["airfoil", "bikesharing"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--figure", help="file to draw")
    parser.add_argument("--save", help="name of the result file")
    args = parser.parse_args()
    warnings.simplefilter("ignore", mirth.MirthWarning)
    with tempfile.TemporaryDirectory() as cache:
        jax.config.update("jax_compilation_cache_dir", cache)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        table = [row for name in args.sets for row in sweep(name, args.data, args.seeds)]
    if args.figure:
        draw(table, args.figure)
    if args.save:
        print(save_result(args.save, {"arguments": vars(args), "base": BASE, "table": table}))


if __name__ == "__main__":
    main()
