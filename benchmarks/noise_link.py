"""Link of the noise scale: softplus against exp, on the same starts, budgets and seeds.

python benchmarks/noise_link.py --data DATA_FOLDER
"""

from __future__ import annotations

import argparse

import numpy as np
from common import save_result, standardised_split

import mirth
from mirth.data import load_benchmark


def main() -> None:
    """Compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder with the benchmark files")
    parser.add_argument("--sets", nargs="+", default=["airfoil", "energy"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--warmup", type=int, default=10_000)
    parser.add_argument("--save", action="store_true", help="write benchmarks/results")
    args = parser.parse_args()
    table = []
    for name in args.sets:
        example = load_benchmark(name, args.data)
        scores: dict[str, list[float]] = {"softplus": [], "exp": []}
        for seed in args.seeds:
            x_train, x_test, y_train, y_test = standardised_split(example.x, example.y, seed)
            for link, values in scores.items():
                model = mirth.BNNRegressor(
                    likelihood=mirth.Normal(link=link),
                    prior="normal",
                    method=mirth.MILE(n_warmup=args.warmup, n_samples=200),
                    random_state=seed,
                )
                dist = model.fit(x_train, y_train).predict_dist(x_test)
                values.append(float(dist.log_prob(y_test).mean()))
                print(f"{name} seed {seed} {link}: LPPD {values[-1]:.4f}", flush=True)
        gain = np.subtract(scores["softplus"], scores["exp"])
        error = gain.std(ddof=1) / np.sqrt(len(gain)) if len(gain) > 1 else float("nan")
        print(f"{name}: softplus - exp = {gain.mean():+.4f} +- {error:.4f} nats per row")
        table.append({"set": name, **scores, "gain": float(gain.mean()), "error": float(error)})
    if args.save:
        print(save_result("noise_link", {"arguments": vars(args), "table": table}))


if __name__ == "__main__":
    main()
