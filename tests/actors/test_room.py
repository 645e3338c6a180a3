"""One worker's memory, shared by all of its partitions."""

from __future__ import annotations

from paynode.actors.backlog import Backlog
from paynode.actors.room import Room
from paynode.domain.road import Entry


def test_the_room_is_full_when_all_together_have_read_so_much() -> None:
    room, one, two = Room(entries=10, whole=1), object(), object()
    room.tell(one, 6)
    assert not room.is_full()
    room.tell(two, 4)
    assert room.is_full()
    room.tell(one, 5)
    assert not room.is_full()
    room.tell(two, 9)
    room.tell(one, 0)
    assert not room.is_full(), "who has ended has nothing"


def test_one_merchant_has_an_eighth_of_what_is_kept_whole() -> None:
    room = Room(entries=100, whole=16)
    assert [room.take_whole(already) for already in range(3)] == [True, True, False]
    for _ in range(7):
        assert room.take_whole(0)
        assert room.take_whole(1)
    assert not room.take_whole(0), "all of it is taken"
    room.give_whole(1)
    assert room.take_whole(0)


def test_what_is_served_put_back_or_closed_gives_its_room_back() -> None:
    room = Room(entries=100, whole=80)
    served, put_back, closed = (Backlog(room, share=10) for _ in range(3))
    for number, backlog in enumerate((served, put_back, closed)):
        backlog.add(Entry(id=f"{number}-{one}", fields={"ref": "", "merchant": "m"}) for one in range(6))
    assert room.whole == 18
    served.take(100)
    assert room.whole == 12
    put_back.take(2)
    assert room.whole == 10
    put_back.put_back()
    assert room.whole == 6
    closed.close()
    assert room.whole == 0
