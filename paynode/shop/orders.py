"""The shop's orders: an append-only file of snapshots, the last one of an order counts."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

_ID = re.compile(r"ord_[0-9a-f]{24}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """`attempt` counts the payments begun for it: a new one only after the one before came to nothing."""

    id: str
    amount: int
    currency: str
    attempt: int = 1
    payment_id: str | None = None

    @property
    def idempotency_key(self) -> str:
        """Stable for an attempt, so that pressing again after an error cannot pay twice."""
        return f"{self.id}-{self.attempt}"


def new_order_id() -> str:
    """Unguessable: whoever knows it may see the order."""
    return f"ord_{secrets.token_hex(12)}"


def is_order_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None


class Orders:
    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._orders: dict[str, Order] = {}
        if path.exists():
            self._read_back()

    def get(self, order_id: str) -> Order | None:
        return self._orders.get(order_id)

    async def save(self, order: Order) -> None:
        """Remembered when this returns."""
        await asyncio.to_thread(self._append, orjson.dumps(asdict(order)) + b"\n")
        self._orders[order.id] = order

    def _append(self, line: bytes) -> None:
        with self._path.open("ab") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def _read_back(self) -> None:
        content = self._path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]  # a kill may have left half a line: an order nobody was told of
        if len(whole) < len(content):
            os.truncate(self._path, len(whole))
        for line in whole.splitlines():
            order = Order(**orjson.loads(line))
            self._orders[order.id] = order
