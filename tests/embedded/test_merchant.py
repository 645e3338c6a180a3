"""The demo merchant keeps its key as long as its database keeps the merchant."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from paynode.embedded.merchant import demo_merchant


class _Database:
    """Answers the verbs as a database with at most one merchant does."""

    def __init__(self, merchant_id: str) -> None:
        self._id = merchant_id
        self._is_there = False
        self._keys = 0

    async def run(self, arguments: Sequence[str]) -> str:
        if arguments[1] == "create" and self._is_there:
            return json.dumps({"id": self._id, "api_key": None})
        self._is_there = True
        self._keys += 1
        answer = {"id": self._id, "api_key": f"{self._id}-key-{self._keys}"}
        return json.dumps(answer if arguments[1] == "create" else {"api_key": answer["api_key"]})


async def test_the_key_of_the_first_start_is_used_again(tmp_path: Path) -> None:
    database = _Database("mer_a")
    first = await demo_merchant(database.run, tmp_path / "merchant.json")
    assert first == {"id": "mer_a", "api_key": "mer_a-key-1"}
    assert await demo_merchant(database.run, tmp_path / "merchant.json") == first


async def test_a_lost_key_is_replaced_by_a_new_one(tmp_path: Path) -> None:
    database = _Database("mer_a")
    await demo_merchant(database.run, tmp_path / "merchant.json")
    (tmp_path / "merchant.json").write_text("torn")
    again = await demo_merchant(database.run, tmp_path / "merchant.json")
    assert again == {"id": "mer_a", "api_key": "mer_a-key-2"}


async def test_the_key_of_another_database_is_not_used(tmp_path: Path) -> None:
    await demo_merchant(_Database("mer_a").run, tmp_path / "merchant.json")
    other = _Database("mer_b")
    await demo_merchant(other.run, tmp_path / "elsewhere.json")
    merchant = await demo_merchant(other.run, tmp_path / "merchant.json")
    assert merchant == {"id": "mer_b", "api_key": "mer_b-key-2"}


async def test_the_key_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    await demo_merchant(_Database("mer_a").run, tmp_path / "merchant.json")
    assert (tmp_path / "merchant.json").stat().st_mode & 0o777 == 0o600
