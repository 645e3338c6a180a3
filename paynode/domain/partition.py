"""Which partition a merchant's events travel on.

crc32 and not `hash()`: the latter differs in every process; the public id and not the UUID, because
outside publishers have nothing else.
"""

from __future__ import annotations

from zlib import crc32


def partition_of(public_merchant_id: str, partitions: int) -> int:
    """The partition of a merchant given as `mer_…`."""
    return crc32(public_merchant_id.encode("ascii")) % partitions
