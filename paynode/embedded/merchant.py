"""The demo merchant: the one whose API key the demo shop uses, kept over restarts."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypedDict

from paynode.embedded.files import write_private

_NAME = "Demo shop"

# Runs a verb of the command line and returns what it printed.
RunVerb = Callable[[Sequence[str]], Awaitable[str]]


class Merchant(TypedDict):
    """As in dev.json."""

    id: str
    api_key: str


async def demo_merchant(run: RunVerb, kept: Path) -> Merchant:
    """The demo merchant of this database, with a key that works.

    The database stores only a digest of a key. When the file that keeps the key is lost, or was written for another
    database, the merchant gets a new key.
    """
    created = json.loads(await run(["merchants", "create", "--name", _NAME, "--if-absent", "--output", "json"]))
    merchant_id = str(created["id"])
    api_key = created["api_key"] or _kept_key(kept, merchant_id)
    if api_key is None:
        command = ["merchants", "keys", "create", "--merchant", merchant_id, "--output", "json"]
        api_key = json.loads(await run(command))["api_key"]
    merchant = Merchant(id=merchant_id, api_key=str(api_key))
    write_private(kept, json.dumps(merchant) + "\n")
    return merchant


def _kept_key(kept: Path, merchant_id: str) -> str | None:
    try:
        merchant = json.loads(kept.read_text(encoding="utf-8"))
        return str(merchant["api_key"]) if merchant["id"] == merchant_id else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
