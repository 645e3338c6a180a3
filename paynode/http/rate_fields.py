"""The fields `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import http_sf

from paynode.http.quotas import Standing


def of_quota(policy: str, standing: Standing, *, window_s: float) -> dict[str, str]:
    """What a merchant may ask for, and how much of it is left."""
    stated = {"q": standing.quota, "w": math.ceil(window_s)}
    return _fields(policy, stated, {"r": standing.remaining, "t": math.ceil(standing.reset_s)})


def of_places(policy: str, places: int, *, retry_after_s: int) -> dict[str, str]:
    """No place is left of those that all merchants share."""
    return _fields(policy, {"q": places, "qu": "concurrent-requests"}, {"r": 0, "t": retry_after_s})


def _fields(policy: str, stated: Mapping[str, int | str], left: Mapping[str, int]) -> dict[str, str]:
    return {"RateLimit-Policy": _written(policy, stated), "RateLimit": _written(policy, left)}


def _written(policy: str, parameters: Mapping[str, int | str]) -> str:
    # Any: the library's own types say that a list's items have no parameters, and its code takes them.
    members: Any = [(policy, dict(parameters))]
    return http_sf.ser(members)
