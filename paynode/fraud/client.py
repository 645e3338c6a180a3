"""One question to the fraud check over HTTP."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Final, Self

import aiohttp
from yarl import URL

from paynode.domain.screening import Judgement, Question
from paynode.fraud.words import asked, judgement, out
from paynode.sections import SettingRefused

_ANSWER_BYTES_MAX: Final = 4096
# Below the time after which servers close an idle connection (commonly 60 to 75 s).
_KEEP_ALIVE_S: Final = 15.0
# The caller's deadline covers all of it. aiohttp's would each be another way to end it.
_NO_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None)


class HttpCheck:
    """The connections to the check. Follows no redirect, keeps no cookie, reads no proxy setting, inflates nothing.

    Raises: SettingRefused for a URL that is none.
    """

    def __init__(self, *, url: str, api_key: str, concurrency: int) -> None:
        self._url = URL(url)
        if self._url.scheme not in ("http", "https") or not self._url.host or self._url.user:
            raise SettingRefused("fraud.url is not the http(s) URL of a fraud check")
        self._headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._concurrency = concurrency
        self._open_session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._open_session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._concurrency, keepalive_timeout=_KEEP_ALIVE_S),
            headers=self._headers,
            timeout=_NO_TIMEOUT,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._open_session is not None:
            await self._open_session.close()

    async def ask(self, question: Question, *, deadline_s: float) -> Judgement:
        """Ask within so many seconds. Raises nothing but cancellation: no usable answer is no opinion."""
        assert self._open_session is not None, "use it inside `async with`"
        try:
            async with (
                asyncio.timeout(deadline_s),
                # PUT: asked twice is asked once. So aiohttp itself tries again on a new connection when the server
                # had closed the idle one, which would otherwise look like an outage.
                self._open_session.put(
                    self._url / "checks" / question.operation_id,
                    data=asked(question),
                    headers={"Content-Type": "application/json"},
                    allow_redirects=False,
                ) as response,
            ):
                body = await _read(response)
                return out("answer_too_large") if body is None else judgement(question, response.status, body)
        except TimeoutError:
            return out("timeout")
        except aiohttp.ClientConnectorError:
            return out("connect_failed")
        except (aiohttp.ClientError, OSError):
            return out("connection_lost")
        except ValueError:
            return out("answer_invalid")  # what aiohttp itself stumbles over in headers


async def _read(response: aiohttp.ClientResponse) -> bytes | None:
    """The body; None when it is longer than any answer."""
    body = bytearray()
    while chunk := await response.content.read(_ANSWER_BYTES_MAX + 1 - len(body)):
        body += chunk
        if len(body) > _ANSWER_BYTES_MAX:
            return None
    return bytes(body)
