"""Runs of a fitted estimator: what it takes to go on with its chains."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

from mirth.core.validation import check_int
from mirth.data import Dataset
from mirth.inference import Posterior, Run, infer, join_chains
from mirth.inference.infer import split_rows
from mirth.inference.rows import Rows
from mirth.model import Model


class Part(NamedTuple):
    """Chains that were started together.

    Parameters
    ----------
    first, num_chains : int
        Number of the first chain, and how many were started; some may have been dropped since.
    posterior : Posterior
        Their draws.
    """

    first: int
    num_chains: int
    posterior: Posterior


@dataclasses.dataclass
class Session:
    """Rows and chains of a fit.

    Parameters
    ----------
    model : Model
        What is sampled.
    dataset : Dataset
        Scaled rows.
    seed : int
        Seed of all chains.
    validation_fraction : float
        Share of the rows to hold back.
    run : Run
        How the first chains run; those that are added later have a folder in its directory.
    parts : list of Part
        All chains.
    """

    model: Model
    dataset: Dataset
    seed: int
    validation_fraction: float
    run: Run
    parts: list[Part] = dataclasses.field(default_factory=list)

    def start(self, method: Any, num_chains: int, **options: Any) -> Posterior:
        """Run the first chains."""
        posterior = self._run(method, 0, num_chains, **options)
        self.parts = [Part(0, num_chains, posterior)]
        return posterior

    def rows(self) -> Rows:
        """Rows that the chains learnt from, and those that were held back."""
        return split_rows(self.model, self.dataset, self.validation_fraction, self.seed)

    def longer(self, method: Any, n_samples: int | None) -> Any:
        """Give the method with more draws.

        Raises
        ------
        ValueError, TypeError
            If it has no draws to add to, or the number is smaller than the present one.
        """
        if n_samples is None:
            return method
        present = getattr(method, "n_samples", None)
        if present is None:
            raise ValueError(
                f"n_samples={n_samples} cannot be reached: {type(method).__name__} has one draw "
                "per member. Give n_members."
            )
        check_int("n_samples", n_samples, minimum=present)
        return copy.copy(method).set_params(n_samples=n_samples)

    def more(self, method: Any, is_longer: bool, wanted: int | None, **options: Any) -> Posterior:
        """Run all chains as long as the method says, and add some.

        Parameters
        ----------
        method : method object
            The method of the fit, maybe with more draws.
        is_longer : bool
            Whether it has more draws.
        wanted : int or None
            Chains in the end; None adds none.
        **options
            Display.

        Raises
        ------
        ValueError, TypeError
            If there is nothing to do, or fewer chains are wanted.
        """
        present = sum(part.num_chains for part in self.parts)
        wanted = present if wanted is None else check_int("n_members", wanted, minimum=present)
        if not is_longer and wanted == present:
            raise ValueError(
                f"nothing to add: there are {present} members. Give a larger n_samples or "
                "n_members, the total in the end."
            )
        parts = self.parts
        if is_longer:
            parts = [part._replace(posterior=self._run(method, *part, **options)) for part in parts]
        if wanted > present:
            added = self._run(method, present, wanted - present, **options)
            parts = [*parts, Part(present, wanted - present, added)]
        self.parts = parts
        return join_chains([p.posterior for p in parts]) if len(parts) > 1 else parts[0].posterior

    def _run(
        self,
        method: Any,
        first: int,
        count: int,
        before: Posterior | None = None,
        max_time: float | str | None = None,
        **options: Any,
    ) -> Posterior:
        """Run some chains, in a folder of their own or from where they stand in memory."""
        run = dataclasses.replace(self.run, first_chain=first, max_time=max_time)
        if run.directory is None:
            run = dataclasses.replace(run, go_on_from=before)
        elif first:
            store = run.draws_store
            run = dataclasses.replace(
                run,
                directory=Path(run.directory) / f"chains-{first}",
                draws_store=None if store is None else f"{store}-{first}",
            )
        return infer(
            self.model,
            self.dataset,
            method,
            num_chains=count,
            seed=self.seed,
            validation=self.validation_fraction,
            run=run,
            **options,
        )
