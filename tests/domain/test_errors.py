"""The error tree: three branches, a stable code for each leaf, drawn in its docstring."""

from __future__ import annotations

import inspect

import pytest

from paynode.domain import errors
from paynode.domain.errors import Fenced, PaynodeError, Poison, Rejected, Transient

LEAVES = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, PaynodeError) and kind is not PaynodeError
]


@pytest.mark.parametrize("kind", LEAVES)
def test_every_error_is_on_one_branch_and_in_the_drawing(kind: type[PaynodeError]) -> None:
    assert sum(issubclass(kind, branch) for branch in (Rejected, Transient, Poison)) == 1
    assert errors.__doc__ is not None
    assert kind.__name__ in errors.__doc__


def test_no_two_errors_share_a_code() -> None:
    codes = [kind.code for kind in LEAVES if kind is not Poison]
    assert len(codes) == len(set(codes))


def test_poison_names_its_reason_and_a_fenced_owner_its_partitions() -> None:
    poison = Poison("too_large", "70000 bytes")
    assert (poison.reason, poison.detail, str(poison)) == ("too_large", "70000 bytes", "too_large: 70000 bytes")
    assert str(Fenced(frozenset({3, 1}))) == "lost the lease on [1, 3]"
