from __future__ import annotations

import pytest

from mirth.core.outcomes import ChainVerdict, MirthWarning, Outcome, SamplingError


@pytest.mark.parametrize("member", [*ChainVerdict, *Outcome])
def test_every_outcome_is_a_full_sentence(member):
    assert member.value[0].isupper() and member.value.endswith(".")
    assert len(member.value.split()) > 4


@pytest.mark.parametrize("kind", [ChainVerdict, Outcome])
def test_no_two_outcomes_share_a_sentence(kind):
    # Two names with one value would be one member.
    assert len(kind) == len(kind.__members__)


def test_the_error_carries_the_outcome_and_what_was_seen():
    error = SamplingError(Outcome.NON_FINITE_TARGET, "Check y.")
    assert error.outcome is Outcome.NON_FINITE_TARGET
    assert str(error) == f"{Outcome.NON_FINITE_TARGET.value} Check y."
    assert isinstance(error, RuntimeError)


def test_the_warning_can_be_silenced_by_its_class():
    assert issubclass(MirthWarning, UserWarning)
