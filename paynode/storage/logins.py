"""Who logs in to the database, with which password, at which URL.

Each process logs in as the role that may do what the process does and no more. Passwords come from the settings;
those that are not given are generated once into `roles.json` in the data directory, readable by its owner only.
"""

from __future__ import annotations

import json
import os
import secrets
import tempfile
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from paynode.config import Settings, with_development
from paynode.domain.hosts import take_hosts


class Role(StrEnum):
    """`owner` is the URL's own user: it owns the schema, migrates it and does what an operator does."""

    OWNER = "owner"
    INGRESS = "ingress"
    GATEWAY = "gateway"
    COMMITTER = "committer"
    READER = "reader"

    @property
    def login(self) -> str:
        """The name of the role in the database; the owner's stands in the URL."""
        assert self is not Role.OWNER
        return f"paynode_{self}"


LOGIN_ROLES: Final = tuple(role for role in Role if role is not Role.OWNER)

_PASSWORD_BYTES: Final = 32  # 256 bits: no dictionary holds it, so that it never needs to be changed for its strength


class LoginUnknown(Exception):
    """The settings do not say where the database is, or nobody has made the passwords yet."""


def role_url(settings: Settings, role: Role) -> str:
    """The database's URL for this role: the owner's, with another user and password.

    Raises: LoginUnknown when there is no URL, or no password of the role.
    """
    url = _owner_url(settings)
    if role is Role.OWNER:
        return url
    password = passwords(settings).get(role)
    if password is None:
        raise LoginUnknown(
            f"no password of {role.login}: `paynode migrate` makes it, or database.passwords.{role} has it"
        )
    netloc, rest = take_hosts(url)
    parts, hosts = urlsplit(rest), netloc.rpartition("@")[2]
    # Whoever writes the owner's name into the query part must not become the owner everywhere.
    query = [(key, value) for key, value in parse_qsl(parts.query) if key not in ("user", "password", "passfile")]
    netloc = f"{role.login}:{quote(password, safe='')}@{hosts}"
    # quote, not quote_plus: to a database URL a plus sign is a plus sign.
    return urlunsplit(parts._replace(netloc=netloc, query=urlencode(query, quote_via=quote, safe="/")))


def each_host(url: str) -> Sequence[str]:
    """A URL with a list of hosts (`h1:5432,h2:5432`, or `?host=h1,h2&port=5432,5433`) as one URL for each of them."""
    netloc, rest = take_hosts(url)
    parts = urlsplit(rest)
    user, at, named = netloc.rpartition("@")
    query = parse_qsl(parts.query)
    asked = dict(query)
    hosts = (named or asked.get("host", "")).split(",")
    ports = asked.get("port", "").split(",")
    if len(hosts) == 1:
        return [url]
    urls = []
    for number, host in enumerate(hosts):
        ours = {"port": ports[number]} if len(ports) == len(hosts) else {}
        if not named:
            ours["host"] = host
        rest = urlencode([(key, ours.get(key, value)) for key, value in query], quote_via=quote, safe="/")
        urls.append(urlunsplit(parts._replace(netloc=f"{user}{at}{host if named else ''}", query=rest)))
    return urls


def _owner_url(settings: Settings) -> str:
    url = with_development(settings).database.url
    if not url:
        raise LoginUnknown("database.url is not set, and no `paynode dev` has run on this data directory")
    return url


def passwords(settings: Settings) -> Mapping[Role, str]:
    """The passwords that are known: a configured one wins over a generated one."""
    generated = _read(_file(settings))
    configured = settings.database.passwords.model_dump()
    known = {role: configured[role] or generated.get(role, "") for role in LOGIN_ROLES}
    return {role: password for role, password in known.items() if password}


def make_passwords(settings: Settings) -> Mapping[Role, str]:
    """The passwords of all roles; those that nobody gave are generated now, and are the same at the next call."""
    if len(passwords(settings)) < len(LOGIN_ROLES):
        _generate(_file(settings))
    return passwords(settings)


def _file(settings: Settings) -> Path:
    return settings.data_dir / "roles.json"


def _read(path: Path) -> Mapping[str, str]:
    try:
        return {str(role): str(password) for role, password in json.loads(path.read_text("utf-8")).items()}
    except FileNotFoundError:
        return {}


def _generate(path: Path) -> None:
    """Write a file with a password for every role, unless somebody else did so meanwhile.

    A hard link is refused when its target exists: of several processes that start at once, one writes the file,
    whole and at its final mode, and the others read it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    content = json.dumps({role: secrets.token_urlsafe(_PASSWORD_BYTES) for role in LOGIN_ROLES}, indent=2)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".roles-")  # made with mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(name, path)
    except FileExistsError:
        pass
    finally:
        os.unlink(name)
