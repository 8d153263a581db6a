"""Where MILE's decoherence length comes from: quality with this rule and with that of the paper.

    python benchmarks/decoherence.py --data DATA_FOLDER [--sets energy ...] [--seeds 1 2 3]

Splits, network and start are those of ``uci_stochastic.py``, with ``--rows`` training rows at most.
The runs of a set and a seed are paired: only the L that the draws are taken with differs.
``paper`` looks at the parameters, however few effective draws they have; ``functions`` at the
median log probability of some rows; a number is an L that is given. Prints test LPPD and RMSE,
L (median over the chains), where it comes from and the effective sample sizes that were found (of
the parameters, of the slowest function value), then the differences from the first rule, paired.
"""

from __future__ import annotations

import argparse
import warnings
from typing import Any

import equinox as eqx
import numpy as np
from common import save_result
from uci_stochastic import START, split

import mirth
from mirth.evaluation import effective_sample_size
from mirth.samplers import MILETuner, TunerState


class PaperTuner(MILETuner):
    """L from the effective sample size of the parameters, whatever it is."""

    def end_trajectory(
        self, state: TunerState, kept: np.ndarray, thin: int, log_prob: np.ndarray | None = None
    ) -> TunerState:
        """Set L as the paper does."""
        ess = [effective_sample_size(chain[None]) for chain in kept]
        steps = np.array([np.nanmean(kept.shape[1] * thin / each) for each in ess])
        return _with_L(state, self.L_factor * np.asarray(state.sampler.step_size) * steps)


class FunctionTuner(MILETuner):
    """L from the effective sample size of the median function value, whatever it is."""

    def end_trajectory(
        self, state: TunerState, kept: np.ndarray, thin: int, log_prob: np.ndarray | None = None
    ) -> TunerState:
        """Set L by what the chains predict."""
        assert log_prob is not None
        ess = [effective_sample_size(chain[None]) for chain in log_prob]
        steps = np.array([np.nanmedian(kept.shape[1] * thin / each) for each in ess])
        return _with_L(state, self.L_factor * np.asarray(state.sampler.step_size) * steps)


class GivenTuner(MILETuner):
    """An L that is given."""

    L: float = 1.0

    def end_trajectory(
        self, state: TunerState, kept: np.ndarray, thin: int, log_prob: np.ndarray | None = None
    ) -> TunerState:
        """Set L to the number."""
        return _with_L(state, np.full(len(kept), self.L))


def _with_L(state: TunerState, L: np.ndarray) -> TunerState:
    kind = np.asarray(state.sampler.L).dtype
    return state._replace(sampler=eqx.tree_at(lambda s: s.L, state.sampler, L.astype(kind)))


def tuner_of(rule: str) -> MILETuner:
    """Give the tuner of a rule."""
    known = {"mirth": MILETuner(), "paper": PaperTuner(), "functions": FunctionTuner()}
    return known[rule] if rule in known else GivenTuner(L=float(rule))


def fit(
    model: mirth.Model, parts: list[mirth.Dataset], rule: str, seed: int, args: Any
) -> dict[str, Any]:
    """Run once and score the test rows."""
    train, validation, test = parts
    method = mirth.MILE(
        n_warmup=args.warmup,
        n_samples=args.draws,
        n_thinning=10,
        tuner=tuner_of(rule),
        use_validation_rows=False,
        start=mirth.DeepEnsemble(**START),
    )
    posterior = mirth.infer(
        model, train, method, num_chains=args.members, seed=seed, validation=validation
    )
    dist = mirth.make_predictive(model, posterior.draws, test.x)
    return {
        "rule": rule,
        "lppd": float(dist.log_prob(test.y.astype(float)).mean()),
        "rmse": float(np.sqrt(np.mean((dist.mean() - test.y) ** 2))),
        "L": posterior.tuning.L.tolist(),
        "L_from": posterior.tuning.L_from.tolist(),
        "ess_parameters": posterior.tuning.ess_parameters.tolist(),
        "ess_function": posterior.tuning.ess_function.tolist(),
        "step_size": posterior.tuning.step_size.tolist(),
        "seconds": posterior.seconds["tuning"] + posterior.seconds["sampling"],
    }


def summarise(table: list[dict[str, Any]], sets: list[str], rules: list[str]) -> None:
    """Print the differences from the first rule, paired by set and seed."""
    for name in sets:
        lppd = {rule: np.array([r["lppd"] for r in table if (r["set"], r["rule"]) == (name, rule)])
                for rule in rules}  # fmt: skip
        for rule in rules[1:]:
            gain = lppd[rule] - lppd[rules[0]]
            print(
                f"{name:12s} {rule} - {rules[0]}: LPPD {gain.mean():+.3f} "
                f"({', '.join(f'{g:+.3f}' for g in gain)})  of {lppd[rules[0]].mean():.3f}"
            )


def main() -> None:
    """Run all rules."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder with the benchmark files")
    parser.add_argument("--sets", nargs="+", default=["energy", "airfoil", "bikesharing"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--rules", nargs="+", default=["paper", "mirth"], help="or numbers")
    parser.add_argument("--warmup", type=int, default=2000, help="steps of two gradients")
    parser.add_argument("--draws", type=int, default=100, help="per chain, ten steps apart")
    parser.add_argument("--rows", type=int, default=1500, help="most training rows")
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--save", help="name of the result file")
    args = parser.parse_args()
    warnings.simplefilter("ignore", mirth.MirthWarning)
    model = mirth.Model(
        mirth.MLP((16, 16, 16), num_outputs=1, activation="relu"),
        mirth.likelihoods.HomoscedasticNormal(),
    )
    table = []
    for name in args.sets:
        for seed in args.seeds:
            train, *others = split(name, args.data, seed)
            train = mirth.Dataset(train.x[: args.rows], train.y[: args.rows])
            for rule in args.rules:
                row = {"set": name, "seed": seed}
                row |= fit(model, [train, *others], rule, seed, args)
                table.append(row)
                print(
                    f"{name:12s} seed {seed} {rule:6s} LPPD {row['lppd']:7.3f}  "
                    f"RMSE {row['rmse']:.3f}  eps {np.median(row['step_size']):.3g}  "
                    f"L {np.median(row['L']):.3g} {sorted(set(row['L_from']))}  "
                    f"ESS {np.median(row['ess_parameters']):.0f} "
                    f"and {np.median(row['ess_function']):.0f}  {row['seconds']:.1f} s",
                    flush=True,
                )
    summarise(table, args.sets, args.rules)
    if args.save:
        print(save_result(args.save, {"arguments": vars(args), "table": table}))


if __name__ == "__main__":
    main()
