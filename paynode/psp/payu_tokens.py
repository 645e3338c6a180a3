"""PayU's access token: fetched before there is anything to regret, kept while it lasts."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Annotated, Final, Literal
from urllib.parse import urlencode

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from paynode.psp.transport import NoReply, PspTransport, Reply

_PATH: Final = "/pl/standard/user/oauth/authorize"
_FORM: Final = "application/x-www-form-urlencoded"

# On a connection of its own: what is asked with the token then comes on another, where the first no can be believed.
_ALONE: Final = {"Connection": "close"}

# A token is not used in the last part of its life (PayU's live 12 hours): a request that is under way when it ends
# would be refused.
_MARGIN_S: Final = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NoToken:
    """Why there is none; `is_psp_failure` as in an answer."""

    reason: str
    is_psp_failure: bool


class _Granted(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    access_token: Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,4096}$", repr=False)]
    token_type: Literal["bearer", "Bearer"]
    expires_in: Annotated[int, Field(ge=1, le=10**9)]


class PayuTokens:
    """One token for all calls of one account; one fetch at a time, for which the others wait."""

    def __init__(self, transport: PspTransport, *, client_id: str, client_secret: str) -> None:
        self._transport = transport
        self._form = urlencode(
            {"grant_type": "client_credentials", "client_id": client_id, "client_secret": client_secret}
        ).encode()
        self._fetching = asyncio.Lock()
        self._token: str | None = None
        self._renew_at = 0.0

    async def get(self, *, by: float) -> str | NoToken:
        """A token, by an instant of `time.monotonic()`. Raises nothing but cancellation."""
        if self._token is not None and time.monotonic() < self._renew_at:
            return self._token
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(loop.time() + by - time.monotonic()), self._fetching:
                if self._token is None or time.monotonic() >= self._renew_at:
                    return await self._fetch(by)
                return self._token
        except TimeoutError:
            return NoToken(reason="token_timeout", is_psp_failure=True)

    def drop(self, token: str) -> None:
        """PayU does not take it any more; a newer one, which somebody else has fetched meanwhile, stays."""
        if self._token == token:
            self._token = None

    async def _fetch(self, by: float) -> str | NoToken:
        begun = time.monotonic()
        reply = await self._transport.post(
            _PATH, self._form, headers=_ALONE, send_by=by, deadline=by, content_type=_FORM
        )
        match reply:
            case NoReply():
                return NoToken(reason=f"token_{reply.reason}", is_psp_failure=reply.is_psp_failure)
            case Reply(status=200):
                pass
            case Reply():
                return NoToken(reason=f"token_http_{reply.status}", is_psp_failure=True)
        try:
            granted = _Granted.model_validate_json(reply.body)
        except ValidationError:
            return NoToken(reason="token_invalid", is_psp_failure=True)
        self._token = granted.access_token
        # A short one is used for half its life: else it would be fetched for every call.
        self._renew_at = begun + max(granted.expires_in - _MARGIN_S, granted.expires_in / 2)
        return granted.access_token
