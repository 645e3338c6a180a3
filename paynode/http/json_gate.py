"""Bodies as strict JSON (`domain.strict_json`), with all that is wrong with them as flaws of a problem."""

from __future__ import annotations

from paynode.domain import strict_json
from paynode.domain.strict_json import Malformed, pointer
from paynode.http.problem import Flaw

__all__ = ["Malformed", "parse", "pointer"]


def parse(raw: bytes, *, depth_max: int) -> tuple[object, list[Flaw]]:
    """The value, and what is wrong with it whatever its schema.

    Raises: Malformed.
    """
    value, misfits = strict_json.read(raw, depth_max=depth_max)
    return value, [Flaw(detail=misfit.detail, pointer=pointer(misfit.place)) for misfit in misfits]
