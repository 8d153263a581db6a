"""The commands about runs that a configuration describes, from ``init`` to ``watch``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from mirth.cli.messages import clean_messages, show
from mirth.core.outcomes import RunInterrupted

runs = typer.Typer()

Run = Annotated[Path, typer.Argument(help="Run directory made by mirth run.")]


@runs.command()
def init(
    file: Annotated[Path, typer.Argument(help="YAML file to write.")] = Path("config.yaml"),
) -> None:
    """Write a configuration with all defaults, each explained."""
    with clean_messages():
        from mirth.experiments.config_files import example_yaml

        text = example_yaml()
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(file, "x", encoding="utf-8") as stream:
                stream.write(text)
        except FileExistsError:
            raise FileExistsError(f"the file {file} exists; give another name.") from None
        show(f"Set the path and the target in {file}, then: mirth run {file} --out runs/first")


@runs.command()
def schema() -> None:
    """Print the JSON schema of a configuration, for editors and programs."""
    from mirth.experiments.config import RunConfig

    print(json.dumps(RunConfig.model_json_schema(), indent=2))


@runs.command()
def run(
    config: Annotated[Path, typer.Argument(help="YAML file; see mirth init.")],
    out: Annotated[Path, typer.Option(help="Run directory to make.")],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="Another value, such as method.n_warmup=5000; may be repeated."),
    ] = None,
) -> None:
    """Fit a table as a configuration says; survives a kill.

    Ctrl-C stops after the present chunk of steps and keeps the state.
    """
    with clean_messages(), _resumable(out):
        from mirth.experiments import start_run
        from mirth.experiments.config_files import read_config

        start_run(read_config(config, overrides or []), out, verbose=1, show=show)
        _done(out)


@runs.command()
def resume(run: Run) -> None:
    """Go on with a run that was stopped or killed, to the very same draws."""
    with clean_messages(), _resumable(run):
        from mirth.experiments import resume_run

        if resume_run(run, verbose=1, show=show) is None:
            show(f"The run in {run} is finished already. For more draws: mirth extend {run}")
        else:
            _done(run)


@runs.command()
def extend(
    run: Run,
    n_samples: Annotated[int, typer.Option(help="Draws per chain in the end.")],
) -> None:
    """Go on with the chains of a finished run, and write model and scores anew."""
    with clean_messages(), _resumable(run):
        from mirth.experiments import extend_run

        extend_run(run, n_samples, verbose=1, show=show)
        _done(run)


@runs.command()
def status(
    run: Run,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Say how far a run is, from the files in its folder."""
    with clean_messages():
        from mirth.inference import read_status

        found = read_status(run)
        print(json.dumps(found.to_record(), indent=2) if as_json else found)


@runs.command()
def watch(run: Run) -> None:
    """Show a run until it ends; Ctrl-C leaves the run alone."""
    with clean_messages():
        from rich.console import Console

        from mirth.cli import status as reader

        try:
            reader.watch(run, Console())
        except KeyboardInterrupt:
            raise typer.Exit(130) from None


def _done(out: Path) -> None:
    show(f"Open {out / 'report.html'} in a browser; predict by: mirth predict {out} NEW.csv")


@contextmanager
def _resumable(out: Path) -> Iterator[None]:
    """Say how to go on with a run that was stopped."""
    try:
        yield
    except KeyboardInterrupt as stop:
        from mirth.inference.store.run_status import CONFIG

        if (out / CONFIG).is_file():
            print(f"Stopped; go on by: mirth resume {out}", file=sys.stderr)
        is_term = isinstance(stop, RunInterrupted) and stop.reason == "SIGTERM"
        raise typer.Exit(143 if is_term else 130) from None  # 128 + number of the signal
