"""URLs with a list of hosts, which no standard knows and PostgreSQL and Redis both have."""

from __future__ import annotations

import re
from typing import Final

_HOSTS: Final = re.compile(r"(?<=://)[^/?#]*")


def take_hosts(url: str) -> tuple[str, str]:
    """Who logs in where, and the URL without it.

    The standard library of newer Pythons refuses a list with an IPv6 address in it, so it is given the rest alone.
    Raises: ValueError for a bracket without its other half.
    """
    found = _HOSTS.search(url)
    hosts = found[0] if found else ""
    if hosts.count("[") != hosts.count("]"):
        raise ValueError("a bracket without its other half")
    return hosts, _HOSTS.sub("", url, count=1)
