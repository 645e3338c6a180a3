"""What a Redis URL says: one server, the sentinels that know it, or the nodes of a cluster.

    redis://[user:password@]host:port/db                              one server
    redis+sentinel://[user:password@]s1:p1,s2:p2,s3:p3/service[/db]    the sentinels; user and password are the server's
    redis+cluster://[user:password@]h1:p1,h2:p2,h3:p3                  some nodes, who know the others

`rediss://`, `rediss+sentinel://` and `rediss+cluster://` are the same by TLS, with `?ssl_ca_certs=file` and its like.
Sentinels with a password of their own: `?sentinel_username=…&sentinel_password=…`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from paynode.domain.hosts import take_hosts
from paynode.sections import SettingRefused


class Address(NamedTuple):
    """Of one server."""

    host: str
    port: int


class Kind(Enum):
    """Who answers at a URL's addresses."""

    SERVER = "server"
    SENTINELS = "sentinels"
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """How to log in somewhere; nothing where nobody asks."""

    username: str | None = None
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A URL, understood. `tls` holds the client's own names for its options, and is None without TLS."""

    kind: Kind
    addresses: tuple[Address, ...]
    login: Login
    database: int = 0
    service: str = ""
    sentinel_login: Login = field(default_factory=Login)
    tls: Mapping[str, str] | None = None


class UrlRefused(SettingRefused):
    """The URL says something that cannot be meant. Shows no part of it: any might be one of the password."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"redis.url: {reason}")


_PORTS: Final = {Kind.SERVER: 6379, Kind.SENTINELS: 26379, Kind.CLUSTER: 6379}
_KINDS: Final = {"": Kind.SERVER, "sentinel": Kind.SENTINELS, "cluster": Kind.CLUSTER}
_SCHEMES: Final = ", ".join(f"{scheme}://" for scheme in ("redis", "redis+sentinel", "redis+cluster"))
_SENTINEL_OPTIONS: Final = frozenset({"sentinel_username", "sentinel_password"})
_TLS_OPTIONS: Final = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})
_ADDRESS: Final = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^\[\]:/\s]+)(?::([0-9]{1,5}))?", re.ASCII)
# As many as a Redis has unless told otherwise; who has more has a reason to say so, and a mistyped number is found.
_DATABASES_MAX: Final = 10_000


def parse(url: str) -> Place:
    """Understand a URL.

    Raises: UrlRefused with the reason.
    """
    if not url:
        raise UrlRefused("is not set")
    try:
        netloc, rest = take_hosts(url)
        parts = urlsplit(rest)
        options = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query), keep_blank_values=True))
    except ValueError:
        raise UrlRefused("is no URL; characters like / ? # in a password are written %2F %3F %23") from None
    base, _, kind_name = parts.scheme.partition("+")
    kind = _KINDS.get(kind_name) if base in ("redis", "rediss") else None
    if kind is None:
        raise UrlRefused(f"begins with none of {_SCHEMES}, or rediss… for TLS")
    if parts.fragment:
        raise UrlRefused("has a part after #; a # in a password is written %23")
    is_tls = base == "rediss"
    _refuse_unknown(options, kind, is_tls=is_tls)
    login, _, hosts = netloc.rpartition("@")
    service, database = _path(kind, unquote(parts.path))
    return Place(
        kind=kind,
        addresses=_addresses(kind, hosts),
        login=_login(login),
        database=database,
        service=service,
        sentinel_login=Login(username=options.get("sentinel_username"), password=options.get("sentinel_password")),
        tls={name: value for name, value in options.items() if name in _TLS_OPTIONS} if is_tls else None,
    )


def _refuse_unknown(options: Mapping[str, str], kind: Kind, *, is_tls: bool) -> None:
    known = (_SENTINEL_OPTIONS if kind is Kind.SENTINELS else frozenset()) | (_TLS_OPTIONS if is_tls else frozenset())
    if options.keys() - known:
        raise UrlRefused(f"has options that are not known here; known are: {', '.join(sorted(known)) or 'none'}")


def _login(text: str) -> Login:
    username, _, password = text.partition(":")
    return Login(username=unquote(username) or None, password=unquote(password) or None)


def _addresses(kind: Kind, text: str) -> tuple[Address, ...]:
    addresses = []
    for number, one in enumerate(text.split(","), 1):
        found = _ADDRESS.fullmatch(one)
        port = int(found[2] or _PORTS[kind]) if found is not None else 0
        if found is None or not 0 < port < 65536:
            raise UrlRefused(f"its address number {number} is no host:port; a / in a password is written %2F")
        addresses.append(Address(unquote(found[1].strip("[]")), port))
    if kind is Kind.SERVER and len(addresses) > 1:
        raise UrlRefused("names several servers; for a cluster it begins with redis+cluster://")
    return tuple(addresses)


def _path(kind: Kind, path: str) -> tuple[str, int]:
    words = path.removeprefix("/").split("/") if path.strip("/") else []
    service = ""
    if kind is Kind.SENTINELS:
        if not words or not words[0]:
            raise UrlRefused("names no service; it ends with /service as the sentinels call it")
        service = words.pop(0)
    if len(words) > 1 or not all(re.fullmatch("[0-9]{1,5}", word, re.ASCII) for word in words):
        raise UrlRefused("its path is not the number of a database")
    database = int(words[0]) if words else 0
    if database >= _DATABASES_MAX:
        raise UrlRefused(f"database {database} is beyond every Redis")
    if kind is Kind.CLUSTER and database:
        raise UrlRefused("a cluster has only database 0")
    return service, database
