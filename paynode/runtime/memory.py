"""A limit on the memory of this process: one message that asks for all of it must not take the machine with it."""

from __future__ import annotations

import resource

_MEGABYTE = 1024 * 1024


def limit_memory(megabytes: int) -> None:
    """Refuse this process more address space than this (0: no limit of ours); a lower limit that it has stays.

    What asks for more gets MemoryError, which nothing catches: the process ends, and the machine lives.
    """
    if megabytes == 0:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = megabytes * _MEGABYTE
    bounds = [limit for limit in (wanted, soft, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min(bounds), hard))
