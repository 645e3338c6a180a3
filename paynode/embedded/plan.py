"""What `paynode dev` is to run, as plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """A port that a process will listen on, and the variable that moves it."""

    variable: str
    host: str
    port: int

    @property
    def url(self) -> str:
        # A wildcard is no address to call.
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to run where. `command` is how a verb of paynode is called; `environment` configures all of them."""

    data_dir: Path
    database_url: str
    redis_url: str
    public_url: str
    http: Listener
    admin: Listener
    scheduler: Listener
    sim: Listener
    shop: Listener
    operator_token: str = field(repr=False)
    environment: Mapping[str, str]
    command: Sequence[str]
