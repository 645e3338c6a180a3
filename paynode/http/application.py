"""The ingress as one aiohttp application."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from paynode.config import Settings
from paynode.http.acceptor import Accepting, Acceptor
from paynode.http.announcing import Announcer, Publisher
from paynode.http.authentication import Doorman, Keys
from paynode.http.books import BookReading, Books
from paynode.http.callbacks import Callbacks, Inbox, Verifier
from paynode.http.checkout import Checkout, CheckoutReading, Inquiring
from paynode.http.creating import Creating
from paynode.http.middleware import Observer, surrounding
from paynode.http.payments import PaymentReading, Payments
from paynode.http.waiting import Waiters


class Reading(PaymentReading, BookReading, CheckoutReading, Protocol):
    """Everything that is shown."""


class Callbacking(Inbox, Inquiring, Protocol):
    """What PSPs tell, and what they are asked because a customer came back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """Whom the ingress works with. `available` are the PSPs that this installation has, `verifiers` are by PSP."""

    keys: Keys
    accepting: Accepting
    reading: Reading
    callbacks: Callbacking
    publisher: Publisher
    verifiers: Mapping[str, Verifier]
    available: Sequence[str]
    observer: Observer


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingress:
    """The application and the loops that it needs while it serves."""

    app: web.Application
    acceptor: Acceptor
    announcer: Announcer
    waiters: Waiters


def make_ingress(settings: Settings, neighbours: Neighbours) -> Ingress:
    """Everything that serves requests, put together and not running yet."""
    announcer = Announcer(neighbours.publisher)
    waiters = Waiters(neighbours.reading, poll_s=settings.http.wait_poll_ms / 1000)
    acceptor = Acceptor(neighbours.accepting, announcer, settings.http)
    app = make_app(settings, neighbours, acceptor=acceptor, announcer=announcer, waiters=waiters)
    return Ingress(app=app, acceptor=acceptor, announcer=announcer, waiters=waiters)


def make_app(
    settings: Settings, neighbours: Neighbours, *, acceptor: Acceptor, announcer: Announcer, waiters: Waiters
) -> web.Application:
    """The routes and what surrounds them."""
    limits, doorman = settings.http, Doorman(neighbours.keys)
    creating = Creating(
        limits=limits,
        doorman=doorman,
        acceptor=acceptor,
        accepting=neighbours.accepting,
        waiters=waiters,
        available=neighbours.available,
    )
    payments = Payments(doorman=doorman, reading=neighbours.reading, base_url=limits.base_url)
    books = Books(doorman=doorman, reading=neighbours.reading)
    checkout = Checkout(
        reading=neighbours.reading, inquiring=neighbours.callbacks, waiters=waiters, announcer=announcer
    )
    callbacks = Callbacks(
        limits=limits,
        partitions=settings.streams.partitions,
        verifiers=neighbours.verifiers,
        inbox=neighbours.callbacks,
        announcer=announcer,
    )
    app = web.Application(
        middlewares=[surrounding(neighbours.observer, deadline_s=limits.request_deadline_s)],
        client_max_size=limits.body_bytes_max,
    )
    _route(app, hdrs.METH_POST, "/v1/payments", creating.create)
    _route(app, hdrs.METH_GET, "/v1/payments", payments.index)
    _route(app, hdrs.METH_GET, "/v1/payments/{id}", payments.show)
    _route(app, hdrs.METH_GET, "/v1/payments/{id}/events", payments.timeline)
    _route(app, hdrs.METH_GET, "/v1/wallets", books.wallets)
    _route(app, hdrs.METH_GET, "/v1/ledger", books.ledger)
    _route(app, hdrs.METH_GET, "/checkout/{id}", checkout.enter)
    _route(app, hdrs.METH_GET, "/checkout/{id}/return", checkout.come_back)
    _route(app, hdrs.METH_POST, "/v1/psp/{psp}/webhook", callbacks.receive)
    return app


def _route(app: web.Application, method: str, path: str, handler: Handler) -> None:
    app.router.add_route(method, path, handler, expect_handler=_expected)
    if method == hdrs.METH_GET:
        app.router.add_route(hdrs.METH_HEAD, path, handler, expect_handler=_expected)


async def _expected(request: web.Request) -> None:
    """`Expect: 100-continue`. Others are passed over, as RFC 9110 allows; aiohttp would refuse them in plain text."""
    is_continue = request.headers.get(hdrs.EXPECT, "").lower() == "100-continue"
    if is_continue and request.version >= (1, 1):
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
