"""The log-in roles of the database. They belong to the server, so that every database of ours on it shares them."""

from __future__ import annotations

import secrets
from base64 import b64encode
from collections.abc import Mapping
from hashlib import pbkdf2_hmac, sha256
from hmac import digest
from typing import Final

import anyio
import asyncpg

from paynode.config import Settings
from paynode.storage.logins import LOGIN_ROLES, Role, make_passwords
from paynode.storage.postgres import Session, session
from paynode.storage.queries import load

_QUERIES: Final = load("roles")

_ATTRIBUTES: Final = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT NOREPLICATION NOBYPASSRLS CONNECTION LIMIT -1"
_LOGINS: Final = [role.login for role in LOGIN_ROLES]

_SCRAM_ITERATIONS: Final = 4096  # PostgreSQL's own default; against a random password more would only slow log-ins

# Another database of the same server may be migrated in the same moment, out of reach of our lock. Its writes to the
# same rows of the catalogue show as one of these; what is still missing is looked up again.
_COLLISIONS: Final = (
    asyncpg.DuplicateObjectError,
    asyncpg.UniqueViolationError,
    asyncpg.InternalServerError,  # "tuple concurrently updated"
)
_TRIES: Final = 50
_PAUSE_S: Final = 0.02


class RolesRefused(Exception):
    """A role is not what it must be, and we may not or should not change that."""


async def make(connection: Session, settings: Settings) -> None:
    """Make the roles that are missing, with their passwords, and keep everybody else out of the database.

    Raises: RolesRefused; asyncpg's errors, translated by the caller.
    """
    passwords = make_passwords(settings)
    for tries_left in reversed(range(_TRIES)):
        try:
            await _make_logins(connection, settings, passwords)
            await _close_database(connection)
            break
        except _COLLISIONS:
            if not tries_left:
                raise
            await anyio.sleep(_PAUSE_S * (1 + secrets.randbelow(4)))


async def _make_logins(connection: Session, settings: Settings, passwords: Mapping[Role, str]) -> None:
    found = {row["login"]: row for row in await connection.fetch(_QUERIES["list_roles"], _LOGINS)}
    for role in LOGIN_ROLES:
        known = found.get(role.login)
        if known is None:
            await connection.execute(f"CREATE ROLE {role.login} {_ATTRIBUTES} PASSWORD '{verifier(passwords[role])}'")
        elif known["is_privileged"]:
            raise RolesRefused(
                f"role {role.login} has rights over the whole server: take them with "
                f"ALTER ROLE {role.login} NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
            )
        elif not known["may_log_in"] or not await _can_log_in(settings, role):
            await connection.execute(f"ALTER ROLE {role.login} LOGIN PASSWORD '{verifier(passwords[role])}'")


async def _can_log_in(settings: Settings, role: Role) -> bool:
    """Whether the password is right already. Asked by logging in, because an owner who is not a superuser cannot
    read the stored one; and a role that is right is not written, so that it may be made by somebody else."""
    try:
        async with session(settings, role, application_name="paynode migrate"):
            return True
    except asyncpg.InvalidAuthorizationSpecificationError:
        return False
    except asyncpg.InsufficientPrivilegeError:
        return True  # the password was right; the right to connect comes next


async def _close_database(connection: Session) -> None:
    database = await connection.fetchval(_QUERIES["quote_database"])
    logins = ", ".join(_LOGINS)
    await connection.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    await connection.execute(f"REVOKE CONNECT ON DATABASE {database} FROM PUBLIC")
    await connection.execute(f"GRANT CONNECT ON DATABASE {database} TO {logins}")
    if creators := [row["rolname"] for row in await connection.fetch(_QUERIES["list_creators"], _LOGINS)]:
        raise RolesRefused(
            f"{', '.join(creators)} may create objects in schema public, and the database's user may not forbid it: "
            "let the owner of the schema run REVOKE CREATE ON SCHEMA public FROM PUBLIC"
        )


def verifier(password: str) -> str:
    """What PostgreSQL stores of a password (SCRAM-SHA-256, RFC 5803).

    Made here, as `psql` does for `\\password`, so that the password itself never stands in a statement, and hence in
    no log of the server.
    """
    if not (password.isascii() and password.isprintable()):
        raise RolesRefused("a role's password is printable ASCII: other characters have more than one spelling")
    salt = secrets.token_bytes(16)
    salted = pbkdf2_hmac("sha256", password.encode("ascii"), salt, _SCRAM_ITERATIONS)
    stored_key = sha256(digest(salted, b"Client Key", "sha256")).digest()
    server_key = digest(salted, b"Server Key", "sha256")
    salt_text, stored, server = (b64encode(part).decode("ascii") for part in (salt, stored_key, server_key))
    return f"SCRAM-SHA-256${_SCRAM_ITERATIONS}:{salt_text}${stored}:{server}"
