"""URLs with a list of hosts, which no standard knows and PostgreSQL and Redis both have."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import SplitResult, urlsplit

_NETLOC: Final = re.compile(r"(?<=://)[^/?#]*")


def split_hosts(url: str) -> SplitResult:
    """`urlsplit`, also of a list of hosts with an IPv6 address in it, which newer versions of that refuse.

    Raises: ValueError for what is no URL for other reasons.
    """
    found = _NETLOC.search(url)
    netloc = found[0] if found else ""
    if netloc.count("[") != netloc.count("]"):
        raise ValueError("a bracket without its other half")
    return urlsplit(_NETLOC.sub("", url, count=1))._replace(netloc=netloc)
