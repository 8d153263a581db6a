"""Public names: a short top level, the rest by subject, and old spellings that still work."""

from __future__ import annotations

import importlib

import pytest

import mirth
from mirth import _RENAMED

SUBJECTS = ("likelihoods", "priors", "networks", "methods", "samplers", "monitors", "results")


def test_top_level_is_short() -> None:
    modules = {*SUBJECTS, "data", "evaluation", "prediction"}
    assert modules <= set(mirth.__all__)
    assert len(set(mirth.__all__) - modules) <= 28
    assert all(hasattr(mirth, name) for name in mirth.__all__)
    assert set(mirth.__all__) == set(dir(mirth))


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_subject_has_a_story_and_its_names(subject: str) -> None:
    module = importlib.import_module(f"mirth.{subject}")
    assert len(str(module.__doc__)) > 200
    assert len(module.__all__) == len(set(module.__all__))
    assert all(hasattr(module, name) for name in module.__all__)


@pytest.mark.parametrize("name", _RENAMED)
def test_old_names_work_and_name_the_new(name: str) -> None:
    home = importlib.import_module(f"mirth.{_RENAMED[name]}")
    new = f"mirth.{_RENAMED[name]}.{name}"
    with pytest.warns(FutureWarning, match=rf"^mirth.{name} is now {new}; .* until mirth 0.2"):
        found = getattr(mirth, name)
    assert found is getattr(home, name)
    assert name not in mirth.__all__ and name in home.__all__


def test_old_names_come_by_from_import() -> None:
    with pytest.warns(FutureWarning, match="mirth.likelihoods.Poisson"):
        from mirth import Poisson
    assert Poisson is mirth.likelihoods.Poisson


def test_unknown_names_are_unknown() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Poison'"):
        mirth.Poison  # noqa: B018
