"""Rank histograms of simulation-based calibration, all methods and models.

    python benchmarks/sbc.py [--simulations 200] [--cases linear] [--methods mile] [--save NAME]
    python benchmarks/sbc.py --figure docs/figures/sbc.png --saved sbc_linear sbc_network

Each simulation draws parameters from the prior and targets given these, samples the posterior
with ``mirth.infer`` from an ensemble on, and notes the rank of the true values among 31 draws that
are spread over four chains (``simulations.py``). A line has the p-value of a chi-square test of
uniform ranks, the shift of the truth in posterior deviations, the width of the posterior over the
right one, and the counts of eight bins. ``least ESS`` is the effective sample size that 99 % of the
simulations exceed: where it is far below 31 the picked draws are not independent and the outer bins
too full.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
import scipy.stats
from common import RESULTS, save_result
from simulations import BUDGETS, CASES, Found, histogram, methods, p_values, run_simulations

import mirth


def lines(case: str, method: str, names: tuple[str, ...], found: Found) -> list[dict[str, Any]]:
    """Tabulate and print the names of a case."""
    rows, of_all, num_picked = [], p_values(names, found), found.picked.shape[1]
    for name, p_value in of_all.items():
        own = [i for i, other in enumerate(names) if other == name]
        shift, width = found.shift_and_width()[:, own]
        counts = histogram(found.ranks()[:, own], num_picked)
        row = {
            "case": case,
            "method": method,
            "quantity": name,
            "p": p_value,
            "shift": float(shift[np.abs(shift).argmax()]),
            "width": float(1 / np.sqrt(np.mean(width**-2.0))),
            "least_ess": float(np.quantile(found.effective[:, own], 0.01)),
            "counts": counts.tolist(),
        }
        rows.append(row)
        print(
            f"{case:8s} {method:14s} {name:15s} p {p_value:8.2g}  shift {row['shift']:+.2f}  "
            f"width {row['width']:.2f}  least ESS {row['least_ess']:4.0f}  "
            + " ".join(f"{count:4d}" for count in counts),
            flush=True,
        )
    return rows


def draw(path: str, rows: list[dict[str, Any]]) -> None:
    """Draw a histogram for each line, with the band that holds 99 % of the bins of a right one."""
    import matplotlib.pyplot as plt

    labels = list(dict.fromkeys((row["case"], row["quantity"]) for row in rows))
    methods = list(dict.fromkeys(row["method"] for row in rows))
    size = (1.5 * len(labels) + 0.6, 1.3 * len(methods) + 0.4)
    figure, panels = plt.subplots(
        len(methods), len(labels), figsize=size, layout="constrained", squeeze=False, sharex=True
    )
    for axes in panels.flat:
        axes.set_axis_off()
    for row in rows:
        column, line = labels.index((row["case"], row["quantity"])), methods.index(row["method"])
        axes, counts = panels[line, column], np.array(row["counts"])
        total, num_bins = counts.sum(), len(counts)
        band = scipy.stats.binom.ppf([0.005, 0.995], total, 1 / num_bins) * num_bins / total
        edges = np.linspace(0, 1, num_bins + 1)
        axes.set_axis_on()
        axes.axhspan(*band, color="0.85", lw=0)
        axes.stairs(counts * num_bins / total, edges, fill=True, color="C0", alpha=0.6)
        axes.axhline(1.0, color="0.4", lw=0.8)
        axes.set(ylim=(0, 2), xlim=(0, 1), xticks=[0, 1], yticks=[0, 1, 2])
        axes.tick_params(labelsize=7, labelleft=column == 0)
        if line == 0:
            axes.set_title(f"{row['case']}\n{row['quantity']}", fontsize=8)
        if column == 0:
            axes.set_ylabel(row["method"], fontsize=8)
    figure.supxlabel("rank of the truth among posterior draws (share)", fontsize=8)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Simulate and print the table, or draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    known = list(methods(1000, 100, 10))
    parser.add_argument("--simulations", type=int, default=200)
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--methods", nargs="+", choices=known, default=known)
    parser.add_argument("--save", help="name of the result file")
    parser.add_argument("--figure", help="draw the histograms of --saved into this file, no run")
    parser.add_argument("--saved", nargs="+", default=["sbc"], help="names of result files")
    args = parser.parse_args()
    if args.figure:
        files = [json.loads((RESULTS / f"{name}.json").read_text()) for name in args.saved]
        table = [row for file in files for row in file["table"]]
        draw(args.figure, [row for row in table if row["method"] in args.methods])
        return
    mirth.configure_cpu_devices()
    rows = []
    for name in args.cases:
        case = CASES[name]()
        for label in args.methods:
            method, begin = methods(*BUDGETS[name])[label], time.perf_counter()
            found = run_simulations(case, method, args.simulations)
            rows += lines(name, label, case.names, found)
            print(f"{(time.perf_counter() - begin) / args.simulations:.2f} s a simulation")
            if args.save:
                save_result(args.save, {"arguments": vars(args), "table": rows})


if __name__ == "__main__":
    main()
