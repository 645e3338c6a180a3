"""An ingress on a real database, with a hand on everything around it: the merchant, the committer, the streams."""

from __future__ import annotations

import hashlib
import hmac
import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp
import orjson
from uuid_utils import uuid7

from paynode.config import Settings
from paynode.domain import ids
from paynode.domain.errors import Unavailable
from paynode.domain.money import FeePlan
from paynode.domain.payment import OperationKind
from paynode.domain.psp import Answer, Callback, Capabilities, Outcome
from paynode.domain.road import Change, Pointer
from paynode.domain.terms import Terms
from paynode.http.admin import Readiness
from paynode.http.application import Ingress, Neighbours, make_ingress
from paynode.http.callbacks import Verifier
from paynode.http.serving import Served, serving
from paynode.storage import merchants
from paynode.storage.accepting import PgAccepting
from paynode.storage.callbacks import PgCallbacks
from paynode.storage.keys import PgKeys
from paynode.storage.point_of_sale import PgPointOfSale
from paynode.storage.postgres import Role, Session, pool, session
from paynode.storage.reading import PgReading
from paynode.storage.requesting import PgRequesting

SECRET = b"whsec"
ABLE = Capabilities(
    has_page=True,
    has_token=True,
    can_authorize=True,
    can_capture_partially=True,
    can_capture_repeatedly=True,
    can_refund_partially=True,
    can_cancel_page=True,
    is_callback_binding=True,
    idempotent_for_s=86_400,
    settle_s=60,
)
SHOP = "https://shop.example/thanks?basket=7&sig=a%2Fb#top"
_numbers = itertools.count(1)


class Recorder:
    """Streams that remember, or are away."""

    def __init__(self) -> None:
        self.published: list[Pointer] = []
        self.is_away = False

    async def publish(self, pointers: Sequence[Pointer]) -> None:
        if self.is_away:
            raise Unavailable("redis")
        self.published += pointers


@dataclass(slots=True, kw_only=True)
class Told:
    """What an observer was told."""

    answered_with: list[dict[str, Any]] = field(default_factory=list)
    crashes: list[Exception] = field(default_factory=list)
    sheds: list[tuple[str, str]] = field(default_factory=list)

    def answered(self, **fact: Any) -> None:
        self.answered_with.append(fact)

    def crashed(self, error: Exception, *, request_id: str) -> None:
        self.crashes.append(error)

    def shed(self, work: str, reason: str) -> None:
        self.sheds.append((work, reason))


class Refused(Exception):
    """What the stand-in for an adapter raises."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def verify(headers: Mapping[str, str], raw: bytes) -> Callback:
    """An adapter in miniature: JSON, signed by HMAC."""
    if not hmac.compare_digest(headers.get("Test-Signature", ""), sign(raw)):
        raise Refused("signature_invalid")
    try:
        said = orjson.loads(raw)
        answer = Answer(
            outcome=Outcome(said["outcome"]), reference="ch_1", amount=said["amount"], currency=said["currency"]
        )
        return Callback(
            event_id=said["id"], our_reference=said["reference"], answer=answer, kinds=frozenset(OperationKind)
        )
    except (ValueError, KeyError) as error:
        raise Refused("malformed") from error


def sign(raw: bytes) -> str:
    return hmac.new(SECRET, raw, hashlib.sha256).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer, read to its end."""

    status: int
    headers: Mapping[str, str]
    raw: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.raw)

    @property
    def code(self) -> str:
        assert self.headers["Content-Type"] == "application/problem+json"
        return str(self.json["code"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Merchant:
    """A merchant and its key."""

    id: str
    api_key: str

    @property
    def public_id(self) -> str:
        return ids.public(ids.MERCHANT, self.id)


@dataclass(slots=True, kw_only=True)
class House:
    """The ingress and its surroundings."""

    settings: Settings
    served: Served
    ingress: Ingress
    readiness: Readiness
    owner: Session
    merchant: Merchant
    recorder: Recorder
    told: Told
    neighbours: Neighbours
    http: aiohttp.ClientSession

    async def request(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, data: bytes | None = None
    ) -> Reply:
        """With the merchant's key, unless the headers say otherwise; redirects are not followed."""
        given = {"Authorization": f"Bearer {self.merchant.api_key}"} | dict(headers or {})
        url = path if path.startswith("http") else self.served.url + path
        async with self.http.request(method, url, headers=given, data=data, allow_redirects=False) as response:
            return Reply(status=response.status, headers=response.headers.copy(), raw=await response.read())

    async def get(self, path: str, **headers: str) -> Reply:
        return await self.request("GET", path, headers={name.replace("_", "-"): v for name, v in headers.items()})

    async def pay(self, body: Any = None, *, key: str | None = None, prefer: str | None = None) -> Reply:
        """Ask for a payment, by a fresh key unless one is given."""
        headers = {"Content-Type": "application/json", "Idempotency-Key": key or str(uuid7())}
        if prefer is not None:
            headers["Prefer"] = prefer
        data = body if isinstance(body, bytes) else orjson.dumps(by_token() if body is None else body)
        return await self.request("POST", "/v1/payments", headers=headers, data=data)

    async def tell(self, content: Mapping[str, Any], *, psp: str = "sim", signature: str | None = None) -> Reply:
        """Be the PSP and call back."""
        raw = orjson.dumps(content)
        headers = {"Test-Signature": sign(raw) if signature is None else signature}
        return await self.request("POST", f"/v1/psp/{psp}/webhook", headers=headers, data=raw)

    async def become(self, payment_id: str, status: str, *, page_url: str | None = None, notice: bool = True) -> None:
        """Be the committer: a new version of a payment, which waiters hear of or have to find out."""
        uuid = ids.parse(ids.PAYMENT, payment_id)
        version = await self.owner.fetchval(
            """UPDATE payments SET status = $2, page_url = coalesce($3, page_url), version = version + 1,
            amount_authorized = CASE WHEN $2 = 'captured' THEN amount ELSE amount_authorized END,
            amount_captured = CASE WHEN $2 = 'captured' THEN amount ELSE amount_captured END,
            order_slot = CASE WHEN $2 IN ('declined', 'expired', 'failed') THEN NULL ELSE order_slot END,
            updated_at = clock_timestamp() WHERE id = $1 RETURNING version""",
            uuid,
            status,
            page_url,
        )
        if notice:
            assert uuid is not None
            self.ingress.waiters.changed(Change(payment_id=uuid, version=version))

    async def count(self, table: str) -> int:
        return int(await self.owner.fetchval(f"SELECT count(*) FROM {table}"))

    async def only_payment(self) -> str:
        """The public id of the one payment there is."""
        (row,) = await self.owner.fetch("SELECT id::text FROM payments")
        return ids.public(ids.PAYMENT, row["id"])


def by_token(**changes: Any) -> dict[str, Any]:
    """A body that is accepted, for an order of its own."""
    return {
        "order_id": f"order-{next(_numbers)}",
        "amount": 1250,
        "currency": "EUR",
        "method": {"type": "token", "token": "tok_approve"},
        **changes,
    }


def hosted(**changes: Any) -> dict[str, Any]:
    return by_token(method={"type": "hosted_page", "return_url": SHOP}, **changes)


def with_http(settings: Settings, **changes: Any) -> Settings:
    return settings.model_copy(update={"http": settings.http.model_copy(update=changes)})


async def new_merchant(owner: Session, psps: Sequence[str] = ("sim",)) -> Merchant:
    made = await merchants.create(owner, "Ada", terms=Terms(fees=FeePlan(fixed=0, basis_points=150)), psps=psps)
    assert made.api_key is not None
    return Merchant(id=made.id, api_key=made.api_key)


@asynccontextmanager
async def running(settings: Settings, **changes: Any) -> AsyncIterator[House]:
    """An ingress that serves; `changes` replace some of its neighbours."""
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        owner = await enter(session(settings, Role.OWNER, application_name="test"))
        writing = await enter(pool(settings, Role.INGRESS, application_name="test", size=4))
        reading = await enter(pool(settings, Role.READER, application_name="test", size=4))
        recorder, told = Recorder(), Told()
        neighbours = Neighbours(
            keys=PgKeys(writing),
            accepting=PgAccepting(writing),
            deciding=PgPointOfSale(writing),
            requesting=PgRequesting(writing),
            reading=PgReading(reading),
            callbacks=PgCallbacks(writing),
            publisher=recorder,
            verifiers={"sim": Verifier(verify=verify, refused=Refused)},
            accounts={"sim": ABLE},
            observer=told,
        )
        neighbours = replace(neighbours, **changes)
        ingress = make_ingress(settings, neighbours)
        readiness = Readiness({}, needs=frozenset())
        served = await enter(serving(settings, ingress, readiness))
        http = await enter(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=True)))
        yield House(
            settings=settings,
            served=served,
            ingress=ingress,
            readiness=readiness,
            owner=owner,
            merchant=await new_merchant(owner),
            recorder=recorder,
            told=told,
            neighbours=neighbours,
            http=http,
        )
        assert told.crashes == []
