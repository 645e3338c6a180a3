"""The ingress as one aiohttp application."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from paynode.config import Settings
from paynode.domain.psp import Capabilities
from paynode.domain.reading import OperationView, PaymentView
from paynode.domain.road import Change
from paynode.http.acceptor import Accepting, Acceptor
from paynode.http.announcing import Announcer, Publisher
from paynode.http.asking import Asking, Requesting
from paynode.http.authentication import Doorman, Keys
from paynode.http.body import read_body
from paynode.http.books import BookReading, Books
from paynode.http.callbacks import Callbacks, Verifier
from paynode.http.checkout import Checkout, CheckoutReading, Inquiring
from paynode.http.creating import Creating
from paynode.http.inbox import Keeping, SharedInbox
from paynode.http.middleware import Observer, surrounding
from paynode.http.operations import OperationReading, Operations
from paynode.http.payments import PaymentReading, Payments
from paynode.http.point_of_sale import Deciding, PointOfSale
from paynode.http.shedding import Gate, Waiting
from paynode.http.waiting import Waiters

# A method, the template of a path, and what serves it.
Route: TypeAlias = tuple[str, str, Handler]


class Reading(PaymentReading, OperationReading, BookReading, CheckoutReading, Protocol):
    """Everything that is shown."""


class Callbacking(Keeping, Inquiring, Protocol):
    """What PSPs tell, and what they are asked because a customer came back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """Whom the ingress works with. `accounts` are the PSPs that this installation has, with what they can
    do; `verifiers` are by PSP; `waiting` tells of queues outside this floor, such as those for connections."""

    keys: Keys
    accepting: Accepting
    deciding: Deciding
    requesting: Requesting
    reading: Reading
    callbacks: Callbacking
    publisher: Publisher
    verifiers: Mapping[str, Verifier]
    accounts: Mapping[str, Capabilities]
    observer: Observer
    waiting: Sequence[Waiting] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingress:
    """The application and the loops that it needs while it serves."""

    app: web.Application
    acceptor: Acceptor
    doorman: Doorman
    announcer: Announcer
    inbox: SharedInbox
    waiters: Waiters[PaymentView]
    decisions: Waiters[OperationView]
    gate: Gate

    def changed(self, change: Change) -> None:
        """A payment has a new version, or what was asked about it is decided."""
        self.waiters.changed(change)
        self.decisions.changed(change)


def make_ingress(settings: Settings, neighbours: Neighbours) -> Ingress:
    """Everything that serves requests, put together and not running yet."""
    announcer = Announcer(neighbours.publisher)
    poll_s = settings.http.wait_poll_ms / 1000
    waiters = Waiters(neighbours.reading.payments_by_id, poll_s=poll_s)
    decisions = Waiters(neighbours.reading.operations_by_id, poll_s=poll_s)
    acceptor = Acceptor(neighbours.accepting, announcer, settings.http)
    # Whoever has a place may wait, for what he tells or for who he is.
    inbox = SharedInbox(
        neighbours.callbacks,
        group_size_max=settings.http.group_size_max,
        waiting_max=settings.overload.requests_max,
    )
    doorman = Doorman(neighbours.keys, waiting_max=settings.overload.requests_max)
    queues = (doorman.waited_s, acceptor.waited_s, *neighbours.waiting)
    gate = Gate(settings.overload, neighbours.observer, waiting=queues)
    app = make_app(
        settings,
        neighbours,
        doorman=doorman,
        acceptor=acceptor,
        announcer=announcer,
        inbox=inbox,
        waiters=waiters,
        decisions=decisions,
        gate=gate,
    )
    return Ingress(
        app=app,
        doorman=doorman,
        acceptor=acceptor,
        announcer=announcer,
        inbox=inbox,
        waiters=waiters,
        decisions=decisions,
        gate=gate,
    )


def make_app(
    settings: Settings,
    neighbours: Neighbours,
    *,
    doorman: Doorman,
    acceptor: Acceptor,
    announcer: Announcer,
    inbox: SharedInbox,
    waiters: Waiters[PaymentView],
    decisions: Waiters[OperationView],
    gate: Gate,
) -> web.Application:
    """The routes and what surrounds them."""
    limits = settings.http
    surround = surrounding(
        neighbours.observer,
        deadline_s=limits.request_deadline_s,
        gate=gate,
        read=lambda request: read_body(request, limits),
    )
    app = web.Application(middlewares=[surround], client_max_size=limits.body_bytes_max)
    routes = (
        *_that_change(settings, neighbours, doorman, acceptor, announcer, waiters, decisions),
        *_that_show(settings, neighbours, doorman),
        *_of_customers_and_psps(settings, neighbours, announcer, inbox, waiters),
    )
    for method, path, handler in routes:
        _route(app, method, path, handler)
    return app


def _that_change(
    settings: Settings,
    neighbours: Neighbours,
    doorman: Doorman,
    acceptor: Acceptor,
    announcer: Announcer,
    waiters: Waiters[PaymentView],
    decisions: Waiters[OperationView],
) -> Sequence[Route]:
    limits, partitions = settings.http, settings.streams.partitions
    creating = Creating(
        limits=limits,
        doorman=doorman,
        acceptor=acceptor,
        accepting=neighbours.accepting,
        waiters=waiters,
        accounts=neighbours.accounts,
        point_of_sale=PointOfSale(
            base_url=limits.base_url,
            partitions=partitions,
            deciding=neighbours.deciding,
            accepting=neighbours.accepting,
            announcer=announcer,
        ),
    )
    asking = Asking(
        limits=limits,
        partitions=partitions,
        doorman=doorman,
        looking=neighbours.reading,
        requesting=neighbours.requesting,
        keys=neighbours.accepting,
        announcer=announcer,
        waiters=decisions,
    )
    return (
        (hdrs.METH_POST, "/v1/payments", creating.create),
        (hdrs.METH_POST, "/v1/payments/{id}/capture", asking.capture),
        (hdrs.METH_POST, "/v1/payments/{id}/void", asking.void),
        (hdrs.METH_POST, "/v1/payments/{id}/cancel", asking.cancel),
        (hdrs.METH_POST, "/v1/payments/{id}/refunds", asking.refund),
    )


def _that_show(settings: Settings, neighbours: Neighbours, doorman: Doorman) -> Sequence[Route]:
    reading = neighbours.reading
    payments = Payments(doorman=doorman, reading=reading, base_url=settings.http.base_url)
    operations = Operations(doorman=doorman, reading=reading)
    books = Books(doorman=doorman, reading=reading)
    return (
        (hdrs.METH_GET, "/v1/payments", payments.index),
        (hdrs.METH_GET, "/v1/payments/{id}", payments.show),
        (hdrs.METH_GET, "/v1/payments/{id}/events", payments.timeline),
        (hdrs.METH_GET, "/v1/payments/{id}/refunds", operations.refunds),
        (hdrs.METH_GET, "/v1/payments/{id}/refunds/{operation}", operations.refund),
        (hdrs.METH_GET, "/v1/payments/{id}/operations/{operation}", operations.operation),
        (hdrs.METH_GET, "/v1/wallets", books.wallets),
        (hdrs.METH_GET, "/v1/ledger", books.ledger),
    )


def _of_customers_and_psps(
    settings: Settings,
    neighbours: Neighbours,
    announcer: Announcer,
    inbox: SharedInbox,
    waiters: Waiters[PaymentView],
) -> Sequence[Route]:
    checkout = Checkout(
        reading=neighbours.reading, inquiring=neighbours.callbacks, waiters=waiters, announcer=announcer
    )
    callbacks = Callbacks(
        limits=settings.http,
        partitions=settings.streams.partitions,
        verifiers=neighbours.verifiers,
        inbox=inbox,
        announcer=announcer,
    )
    return (
        (hdrs.METH_GET, "/checkout/{id}", checkout.enter),
        (hdrs.METH_GET, "/checkout/{id}/return", checkout.come_back),
        (hdrs.METH_POST, "/v1/psp/{psp}/webhook", callbacks.receive),
    )


def _route(app: web.Application, method: str, path: str, handler: Handler) -> None:
    app.router.add_route(method, path, handler, expect_handler=_expected)
    if method == hdrs.METH_GET:
        app.router.add_route(hdrs.METH_HEAD, path, handler, expect_handler=_expected)


async def _expected(request: web.Request) -> None:
    """`Expect: 100-continue`. Others are passed over, as RFC 9110 allows; aiohttp would refuse them in plain text."""
    is_continue = request.headers.get(hdrs.EXPECT, "").lower() == "100-continue"
    if is_continue and request.version >= (1, 1):
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
