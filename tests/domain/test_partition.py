"""Partitions: outside publishers compute them too, in other languages, so the vectors may never change."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paynode.domain.ids import MERCHANT, public
from paynode.domain.partition import partition_of
from paynode.domain.road import commands_stream, dead_stream, events_stream, follow_up_lane, lanes
from tests.support.properties import law

# crc32 of the text, by zlib, then the remainder of 32.
VECTORS = [
    ("mer_00000000000000000000000000", 0x4E44B80E, 14),
    ("mer_01h455vb4pex5vsknk084sn02q", 0xA15B8FFC, 28),
    ("mer_01h455vb4pex5vsknk084sn02r", 0x3852DE46, 6),
    ("mer_7zzzzzzzzzzzzzzzzzzzzzzzzz", 0x17BFADA5, 5),
]


@pytest.mark.parametrize(("merchant", "crc", "partition"), VECTORS)
def test_the_partition_of_a_merchant_never_changes(merchant: str, crc: int, partition: int) -> None:
    assert crc % 32 == partition
    assert partition_of(merchant, 32) == partition
    assert partition_of(merchant, 2**32) == crc


@law(200)
@given(st.uuids(), st.integers(1, 100))
def test_every_merchant_has_a_partition(uuid: UUID, partitions: int) -> None:
    assert 0 <= partition_of(public(MERCHANT, str(uuid)), partitions) < partitions


def test_merchants_spread_over_all_partitions() -> None:
    seen = [partition_of(public(MERCHANT, str(UUID(int=number))), 32) for number in range(3_200)]
    # Chance alone leaves each within 100 +- 50, but for one case in a million.
    assert all(50 < seen.count(partition) < 150 for partition in range(32))


def test_all_keys_of_a_partition_share_one_hash_tag() -> None:
    assert events_stream(3) == "paynode:{p03}:events"
    assert dead_stream(events_stream(3)) == "paynode:{p03}:dead"
    assert commands_stream("sim") == "paynode:{psp-sim}:commands"
    assert follow_up_lane(commands_stream("sim")) == "paynode:{psp-sim}:commands:follow-up"
    assert {dead_stream(lane) for lane in lanes(commands_stream("sim"))} == {"paynode:{psp-sim}:dead"}
