"""Lines are written together where nothing is lost by it, and at once where something may be."""

from __future__ import annotations

import asyncio
import io

from paynode.observability.lines import Lines


class Stream(io.BytesIO):
    """Counts the writes."""

    writes = 0

    def flush(self) -> None:
        self.writes += 1


def test_without_a_loop_a_line_is_written_at_once() -> None:
    stream = Stream()
    Lines(stream).info(b"a")
    assert stream.getvalue() == b"a\n"


async def test_lines_of_one_turn_of_the_loop_are_one_write() -> None:
    stream = Stream()
    lines = Lines(stream)
    for line in (b"a", b"b", b"c"):
        lines.info(line)
    assert stream.getvalue() == b""
    await asyncio.sleep(0)
    assert (stream.getvalue(), stream.writes) == (b"a\nb\nc\n", 1)
    lines.info(b"d")
    await asyncio.sleep(0)
    assert stream.getvalue() == b"a\nb\nc\nd\n"


async def test_a_warning_is_written_at_once_behind_what_came_before_it() -> None:
    stream = Stream()
    lines = Lines(stream)
    lines.info(b"a")
    lines.warning(b"b")
    assert stream.getvalue() == b"a\nb\n"
    await asyncio.sleep(0)
    assert (stream.getvalue(), stream.writes) == (b"a\nb\n", 1)


def test_a_loop_that_ended_too_early_silences_nobody() -> None:
    stream = Stream()
    lines = Lines(stream)

    async def say(line: bytes) -> None:
        lines.info(line)

    loop = asyncio.new_event_loop()
    task = loop.create_task(say(b"a"))
    task.add_done_callback(lambda _: loop.stop())
    loop.run_forever()
    loop.close()
    lines.info(b"b")
    assert stream.getvalue() == b"a\nb\n"
