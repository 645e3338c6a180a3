"""What most values of paynode are: slotted, named, never changed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

Class = TypeVar("Class")


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
def record(cls: type[Class]) -> type[Class]:
    """A frozen dataclass whose being frozen is looked after by the type checker, not at run time.

    For values that are made with every message, some twenty of them: to make one of twelve fields takes 1.7 us when
    each field goes past the guard of a frozen class, and 0.6 us without.
    """
    return dataclass(slots=True, kw_only=True, unsafe_hash=True)(cls)
