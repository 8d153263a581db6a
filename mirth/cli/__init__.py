"""The command line.

What takes long to import is imported inside the commands, so that ``mirth --help`` is quick.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mirth.cli.messages import clean_messages, show
from mirth.cli.runs import runs
from mirth.core.compiled_programs import keep_compiled_programs
from mirth.inference import MILE, configure_cpu_devices

app = typer.Typer(
    help="Bayesian neural networks by microcanonical sampling.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.add_typer(runs)

Resolution = Annotated[
    str | None,
    typer.Option(help="Step of a rounded target, or none; else found.", show_default=False),
]
Robust = Annotated[bool, typer.Option(help="Clip wild values, and scale without them.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
Seed = Annotated[int, typer.Option(help="Seed of every random number.")]


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Run directory.")] = Path("runs/demo"),
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Fit three small examples and write a page about them.

    Compares a linear model, the deep ensemble and MILE on the diabetes and breast cancer data of
    scikit-learn and on a one-dimensional example with a gap.
    """
    with clean_messages():
        from mirth.experiments import run_demo

        run_demo(out, overwrite=overwrite, seed=seed, verbose=1, show=show)
        show(f"Open {out / 'report.html'} in a browser; the numbers are in metrics.json.")


@app.command()
def fit(
    data: Annotated[Path, typer.Argument(help="CSV file.")],
    target: Annotated[str, typer.Option(help="Column to predict.")],
    out: Annotated[Path, typer.Option(help="Run directory to make.")],
    task: Annotated[str, typer.Option(help="auto, regression or classification.")] = "auto",
    drop: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Column to leave out, such as an id; may be repeated."),
    ] = None,
    test_fraction: Annotated[
        float, typer.Option(help="Share of rows held out for scores; 0 fits all rows.")
    ] = 0.2,
    seed: Seed = 0,
    n_members: Annotated[int, typer.Option(help="Networks, each with a chain.")] = 10,
    n_warmup: Annotated[
        int | None,
        typer.Option(help="Steps to tune a chain; by default 10000, more for large networks."),
    ] = MILE.n_warmup,
    n_samples: Annotated[int, typer.Option(help="Draws kept per chain.")] = MILE.n_samples,
    hidden: Annotated[
        str | None,
        typer.Option(help="Widths such as 16,16,16; by default chosen by the table's size."),
    ] = None,
    likelihood: Annotated[
        str | None,
        typer.Option(help="Distribution, such as normal, poisson, ordinal.", show_default=False),
    ] = None,
    weights: Annotated[str, typer.Option(help="Of the chains: equal or stacking.")] = "equal",
    resolution: Resolution = None,
    robust_scaling: Robust = True,
    bias_check: Annotated[
        bool, typer.Option("--bias-check", help="See if the chains' steps were too long.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Fit a table and report how well it predicts rows that were held out."""
    with clean_messages():
        from mirth.experiments import fit_table

        more: dict[str, Any] = {} if likelihood is None else {"likelihood": likelihood}
        more |= {} if resolution is None else {"resolution": _step(resolution)}
        fit_table(
            data,
            target,
            out,
            task=task,
            drop=drop or (),
            test_fraction=test_fraction,
            seed=seed,
            overwrite=overwrite,
            bias_check=bias_check,
            show=show,
            n_members=n_members,
            method=MILE(n_warmup=n_warmup, n_samples=n_samples),
            hidden_layer_sizes=None if hidden is None else _sizes(hidden),
            weights=weights,
            robust_scaling=robust_scaling,
            verbose=1,
            **more,
        )
        show(f"Open {out / 'report.html'} in a browser; predict by: mirth predict {out} NEW.csv")


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(help="Run directory made by mirth fit or mirth run.")],
    data: Annotated[Path, typer.Argument(help="CSV file with new rows.")],
    out: Annotated[Path, typer.Option(help="CSV file to write.")] = Path("predictions.csv"),
    interval: Annotated[float, typer.Option(help="Probability inside lower ... upper.")] = 0.9,
    overwrite: Overwrite = False,
) -> None:
    """Predict new rows with a fitted run."""
    with clean_messages():
        from mirth.experiments import predict_table

        predictions = predict_table(run, data, out, interval=interval, overwrite=overwrite)
        show(f"{len(predictions)} rows written to {out}.")


@app.command()
def version() -> None:
    """Print the versions of mirth, JAX and Python."""
    import importlib.metadata
    import platform

    names = {name: importlib.metadata.version(name) for name in ("mirth", "jax")}
    print(f"mirth {names['mirth']} (JAX {names['jax']}, Python {platform.python_version()})")


def main() -> None:
    """Run the command line."""
    configure_cpu_devices()
    keep_compiled_programs()
    app()


def _step(text: str) -> float | str | None:
    if text in ("auto", "none"):
        return None if text == "none" else text
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"--resolution {text!r} must be a number, auto or none.") from None


def _sizes(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise ValueError(f"--hidden {text!r} must be widths such as 16,16,16.") from None
