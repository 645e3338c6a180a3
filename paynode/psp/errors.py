"""What an adapter raises."""

from __future__ import annotations

from typing import Literal

RefusalCode = Literal["signature_missing", "signature_invalid", "stale", "malformed"]


class CallbackRefused(Exception):
    """A callback that cannot be believed or read; `code` says why and nothing of its content."""

    def __init__(self, code: RefusalCode) -> None:
        super().__init__(code)
        self.code: RefusalCode = code


class Unavailable(Exception):
    """What the PSP was asked for did not come; the text is the reason, in the words of an Answer's."""
