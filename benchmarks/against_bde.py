"""mirth beside the peer ``bde`` (tabular MILE) on the same rows, network and budget.

The protocol is the peer's published one: airfoil, standardised, 80/20 split with seed 0, network
5-16-16-16-16-2, ten members, 50 000 warm-up steps, 1 000 steps thinned by 10. mirth has its default
activation, the peer its own (relu), and others by ``--peer-activations``. All are run in
alternation, each fit in a process of its own. In the end, mirth's budget grows until its NLL is the
peer's final one.

    python -m venv peer && peer/bin/pip install sklearn-contrib-bde
    python benchmarks/against_bde.py --data DATA_FOLDER --peer-python peer/bin/python

With ``--without-peer`` only mirth is run (the quality figures), with ``--smoke`` a tiny budget.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from common import moment_scores, save_result, standardised_split

MEMBERS = 10
HIDDEN = (16, 16, 16, 16)
BUDGETS = (500, 1_000, 1_500, 2_000, 2_500, 3_000, 5_000, 10_000, 20_000, 50_000)


def run_mirth(path: str, seed: int, warmup: int, sampling: int, thin: int, activation: str) -> None:
    """One fit of mirth in a process of its own; prints one line of JSON."""
    import time

    import mirth

    rows = np.load(path)
    method = mirth.MILE(n_warmup=warmup, n_samples=sampling // thin, n_thinning=thin)
    # The peer's model: N(0, 1) on all weights, a Normal.
    model = mirth.BNNRegressor(
        HIDDEN,
        activation=activation,
        likelihood="normal",
        prior="normal",
        method=method,
        n_members=MEMBERS,
        random_state=seed,
    )
    began = time.perf_counter()
    model.fit(rows["x_train"], rows["y_train"])
    fit_seconds = time.perf_counter() - began
    dist = model.predict_dist(rows["x_test"])
    seconds = model.posterior_.seconds
    result = {
        "mean": dist.mean().tolist(),
        "std": dist.std().tolist(),
        "lppd": float(dist.log_prob(rows["y_test"]).mean()),
        "fit_seconds": fit_seconds,
        "chain_seconds": seconds["tuning"] + seconds["sampling"],
    }
    print("RESULT " + json.dumps(result))


def run(command: list[str]) -> dict:
    """Run one fit and read its line of JSON."""
    done = subprocess.run(command, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode or not lines:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return json.loads(lines[-1][len("RESULT ") :])


def describe(name: str, runs: list[dict], num_steps: int) -> dict[str, float]:
    """Print and return means and medians of some fits."""
    summary = {
        "us_per_chain_step": float(
            np.median([r["chain_seconds"] / num_steps / MEMBERS * 1e6 for r in runs])
        ),
        "fit_seconds": float(np.median([r["fit_seconds"] for r in runs])),
        "nll": float(np.mean([r["nll"] for r in runs])),
        "nll_sd": float(np.std([r["nll"] for r in runs])),
        "rmse": float(np.mean([r["rmse"] for r in runs])),
        "rmse_sd": float(np.std([r["rmse"] for r in runs])),
    }
    if "lppd" in runs[0]:
        summary["lppd"] = float(np.mean([r["lppd"] for r in runs]))
    words = "  ".join(f"{key} {value:.4g}" for key, value in summary.items())
    print(f"{name:>12s}: {words}", flush=True)
    return summary


def time_to_reach(target: float, command: list[str], test: np.ndarray, activation: str) -> dict:
    """Time of the shortest of some growing budgets whose test NLL is at or below a target."""
    for warmup in BUDGETS:
        steps = max(100, min(1_000, warmup // 5))
        fit = run([*command, str(warmup), str(steps), "10", activation])
        scores = moment_scores(test, np.array(fit["mean"]), np.array(fit["std"]))
        print(f"  warm-up {warmup:6d}: {fit['fit_seconds']:6.1f} s, NLL {scores['nll']:.4f}")
        if scores["nll"] <= target:
            return {"warmup": warmup, "fit_seconds": fit["fit_seconds"], **scores}
    return {"warmup": None}


def compare(args: argparse.Namespace, rows: Path, y_test: np.ndarray) -> dict:
    """Run all fits in alternation; then the ratios, and the time to each peer's final NLL."""
    ours = [sys.executable, __file__, "--one", str(rows)]
    programs = {f"mirth {a}": (ours, a, args.seeds) for a in args.activations}
    if not args.without_peer:
        peer = [args.peer_python, str(Path(__file__).parent / "peer_bde.py"), str(rows)]
        programs |= {f"bde {a}": (peer, a, args.peer_seeds) for a in args.peer_activations}
    budget = [str(args.warmup), str(args.sampling), "10"]
    fits: dict[str, list[dict]] = {name: [] for name in programs}
    for seed in args.seeds:
        for name, (command, activation, seeds) in programs.items():
            if seed not in seeds:
                continue
            fit = run([*command, str(seed), *budget, activation])
            fit |= moment_scores(y_test, np.array(fit.pop("mean")), np.array(fit.pop("std")))
            fits[name].append({"seed": seed} | fit)
            print(f"{name:>12s} seed {seed}: {json.dumps(fit)}", flush=True)
    num_steps = args.warmup + args.sampling
    result: dict = {"fits": fits}
    result |= {name: describe(name, runs, num_steps) for name, runs in fits.items() if runs}
    main = f"mirth {args.activations[0]}"
    for name in [name for name in result if name.startswith("bde")]:
        ratios = {
            key: result[name][key] / result[main][key]
            for key in ("us_per_chain_step", "fit_seconds")
        }
        print(f"{main} against {name}, equal budget: per chain and step ", end="")
        print("{us_per_chain_step:.2f}, whole fit {fit_seconds:.2f} times faster".format(**ratios))
        reach = []
        for seed in args.reach_seeds:
            print(f"budget at which {main}, seed {seed}, reaches {result[name]['nll']:.4f}:")
            command = [*ours, str(seed)]
            reach.append(time_to_reach(result[name]["nll"], command, y_test, args.activations[0]))
            if reach[-1]["warmup"]:
                ratio = result[name]["fit_seconds"] / reach[-1]["fit_seconds"]
                print(f"time until the final NLL of {name}: {ratio:.1f} times sooner", flush=True)
        result[f"against {name}"] = ratios | {"reach": reach}
    return result


def main() -> None:
    """Compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="folder with airfoil/airfoil.data")
    parser.add_argument("--peer-python", help="interpreter that has sklearn-contrib-bde")
    parser.add_argument("--without-peer", action="store_true")
    parser.add_argument("--activations", nargs="+", default=["silu"], help="of mirth")
    parser.add_argument("--peer-activations", nargs="+", default=["relu"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--peer-seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--reach-seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--warmup", type=int, default=50_000)
    parser.add_argument("--sampling", type=int, default=1_000)
    parser.add_argument("--smoke", action="store_true", help="a tiny budget")
    parser.add_argument("--one", nargs=6, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        path, *numbers, activation = args.one
        run_mirth(path, *map(int, numbers), activation)
        return
    if not args.data or not (args.peer_python or args.without_peer):
        parser.error("give --data, and --peer-python or --without-peer")
    if args.smoke:
        args.warmup, args.sampling, args.seeds, args.reach_seeds = 500, 100, [0], [0]

    from mirth.data import load_benchmark

    example = load_benchmark("airfoil", args.data)
    x_train, x_test, y_train, y_test = standardised_split(example.x, example.y)
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.npz"
        np.savez(rows, x_train=x_train, x_test=x_test, y_train=y_train, y_test=y_test)
        result = compare(args, rows, y_test)
    if not args.smoke:
        save_result("against_bde" if args.peer_python else "airfoil_protocol", result)


if __name__ == "__main__":
    main()
