"""Which user of the machine the servers run as."""

from __future__ import annotations

import contextlib
import os
import pwd
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from paynode.embedded.errors import ServersError


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A user of the machine, which is the one we run as or, when that is root, another."""

    name: str
    uid: int
    gid: int

    @property
    def is_other(self) -> bool:
        return self.uid != os.geteuid()

    def can_enter(self, directory: Path) -> bool:
        return self.can_run(["test", "-x", str(directory)])

    def can_run(self, argv: Sequence[str]) -> bool:
        return self.output_of(argv) is not None

    def output_of(self, argv: Sequence[str]) -> str | None:
        """What a program prints when this user runs it; None when the user cannot.

        Asked by running it, because modes alone do not tell: access lists and mount options decide too.
        """
        try:
            done = subprocess.run(  # noqa: S603 - our own arguments
                argv,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=True,
                cwd="/",
                timeout=30,
                user=self.uid if self.is_other else None,
                group=self.gid if self.is_other else None,
                extra_groups=() if self.is_other else None,
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout

    def own(self, path: Path) -> None:
        """Give a file or directory that we made to this user."""
        if self.is_other:
            os.chown(path, self.uid, self.gid)


def account_for(directory: Path) -> Account:
    """Ourselves; when we are root, which PostgreSQL refuses, the directory's owner, `postgres` or `nobody`.

    Only users that the machine knows by name: initdb does not run as a bare number.
    """
    if os.geteuid() != 0:
        return _ourselves()
    owner = directory.stat().st_uid
    by_choice: list[Callable[[], pwd.struct_passwd]] = [
        lambda: pwd.getpwnam("postgres"),
        lambda: pwd.getpwnam("nobody"),
    ]
    if owner != 0:
        by_choice.insert(0, lambda: pwd.getpwuid(owner))
    for look_up in by_choice:
        with contextlib.suppress(KeyError):
            return _account(look_up())
    raise ServersError(
        "PostgreSQL does not run as root, and this machine has neither a user `postgres` nor `nobody`: "
        f"give {directory} to an ordinary user, or run paynode as one"
    )


def _ourselves() -> Account:
    try:
        return _account(pwd.getpwuid(os.geteuid()))
    except KeyError:
        raise ServersError(
            f"user {os.geteuid()} has no entry in the machine's list of users, which PostgreSQL needs"
        ) from None


def _account(entry: pwd.struct_passwd) -> Account:
    return Account(name=entry.pw_name, uid=entry.pw_uid, gid=entry.pw_gid)
