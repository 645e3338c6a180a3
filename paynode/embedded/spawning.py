"""Starting a server so that it never outlives us, and stopping it so that it loses nothing."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence

from paynode.embedded.errors import ServerExited, ServersError
from paynode.embedded.files import open_log
from paynode.embedded.home import Home

_PR_SET_PDEATHSIG = 1
_POLL_S = 0.01
_TAIL_LINES = 20

_libc = ctypes.CDLL(None)


def dying_with_parent(death_signal: signal.Signals) -> Callable[[], None]:
    """What a child runs before its program: have the kernel send `death_signal` when we are gone, even by SIGKILL.

    The kernel counts the *thread* that made the child as the parent, and only the main thread lives as long as the
    process.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("a server must be started from the main thread, else it ends with the thread")
    parent = os.getpid()

    def in_child() -> None:
        # The second test: the parent may have died before the first took effect.
        if _libc.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0) != 0 or os.getppid() != parent:
            os._exit(127)

    return in_child


def clean_environment() -> dict[str, str]:
    """Ours without what would change a server: PGDATA, PGPORT, a locale; nor does it need our own secrets."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG", "PAYNODE_"))}


def run_to_end(argv: Sequence[str], home: Home, text: str = "", *, lock: int, seconds: float) -> None:
    """Run a program that prepares a server's data, with `text` as its input, holding `lock` as a server does.

    Raises: ServersError with what it printed when it fails or takes longer.
    """
    account = home.account
    with subprocess.Popen(  # noqa: S603 - our own arguments
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=home.path,
        env=clean_environment(),
        pass_fds=(lock,),
        start_new_session=True,
        user=account.uid if account.is_other else None,
        group=account.gid if account.is_other else None,
        extra_groups=() if account.is_other else None,
        preexec_fn=dying_with_parent(signal.SIGTERM),
    ) as process:
        try:
            printed, _ = process.communicate(text, timeout=seconds)
        except BaseException as error:
            # initdb has children of its own, which its death alone would not end.
            os.killpg(process.pid, signal.SIGTERM)
            if isinstance(error, subprocess.TimeoutExpired):
                raise ServersError(f"{argv[0]} had not ended after {seconds:g} s") from error
            raise
    if process.returncode != 0:
        raise ServersError(f"{' '.join(argv)} ended with status {process.returncode}:\n{printed}")


class Server:
    """One running server process."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        home: Home,
        *,
        lock: int,
        death_signal: signal.Signals,
    ) -> None:
        """Start it; it holds the descriptor `lock` for as long as any process of it lives."""
        self.name = name
        self.log = home.path / f"{name}.log"
        account = home.account
        with open_log(self.log) as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own arguments
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=home.path,
                env=clean_environment(),
                pass_fds=(lock,),
                # Ctrl-C goes to a whole session: the servers must not hear it before paynode has drained.
                start_new_session=True,
                user=account.uid if account.is_other else None,
                group=account.gid if account.is_other else None,
                extra_groups=() if account.is_other else None,
                preexec_fn=dying_with_parent(death_signal),
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def has_exited(self) -> bool:
        return self._process.poll() is not None

    def exit_report(self) -> str:
        """How it ended, and the last lines of its log."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL_LINES:]
        tail = "\n".join(f"  {line}" for line in lines)
        return f"{self.name} ended with status {self._process.returncode}; its log {self.log} ends:\n{tail}"

    def wait_until_ready(self, is_ready: Callable[[], bool], *, seconds: float) -> None:
        """Return when `is_ready`.

        Raises: ServerExited when the server ends first; ServersError after the time, and it still runs.
        """
        give_up_at = time.monotonic() + seconds
        while not is_ready():
            if self.has_exited():
                raise ServerExited(self.exit_report())
            if time.monotonic() >= give_up_at:
                raise ServersError(f"{self.name} was not ready after {seconds:g} s; see {self.log}")
            time.sleep(_POLL_S)

    def stop(self, steps: Sequence[tuple[signal.Signals, float]]) -> None:
        """Send each signal in turn and give it its seconds. Never SIGKILL: a server that is slow is still writing.

        Raises: ServersError when the server outlasted all of them.
        """
        for number, seconds in steps:
            if not self.has_exited():
                self._process.send_signal(number)
            try:
                self._process.wait(timeout=seconds)
            except subprocess.TimeoutExpired:
                continue
            return
        raise ServersError(f"{self.name} (process {self.pid}) does not stop; see {self.log}")
