"""The fields `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from typing import Any

import http_sf

from paynode.http.quotas import Standing


def of_quota(policy: str, standing: Standing, *, window_s: float) -> dict[str, str]:
    """What a merchant may ask for, and how much of it is left."""
    stated, name = _of_window(policy, standing.quota, math.ceil(window_s))
    # Every request has one, and integers are written as they are: the library takes 15 us for it.
    left = f"{name};r={standing.remaining};t={math.ceil(standing.reset_s)}"
    return {"RateLimit-Policy": stated, "RateLimit": left}


def of_places(policy: str, places: int, *, retry_after_s: int) -> dict[str, str]:
    """No place is left of those that all merchants share."""
    return _fields(policy, {"q": places, "qu": "concurrent-requests"}, {"r": 0, "t": retry_after_s})


@cache
def _of_window(policy: str, quota: int, window_s: int) -> tuple[str, str]:
    """What is the same for all: the policy, and its name as both fields write it."""
    return _written(policy, {"q": quota, "w": window_s}), _written(policy, {})


def _fields(policy: str, stated: Mapping[str, int | str], left: Mapping[str, int]) -> dict[str, str]:
    return {"RateLimit-Policy": _written(policy, stated), "RateLimit": _written(policy, left)}


def _written(policy: str, parameters: Mapping[str, int | str]) -> str:
    # Any: the library's own types say that a list's items have no parameters, and its code takes them.
    members: Any = [(policy, dict(parameters))]
    return http_sf.ser(members)
