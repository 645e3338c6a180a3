"""Settings: `config/paynode.toml` holds every default, an optional file and the environment override them.

The models have no defaults of their own, so that each value, its unit and its reason stand in one place.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from paynode.sections import (
    Admin,
    Calendar,
    Census,
    Database,
    Fraud,
    Gateway,
    Http,
    Log,
    Matching,
    Overload,
    PointOfSale,
    PspAccount,
    PspName,
    Redis,
    Relay,
    Shop,
    Sim,
    Streams,
    Undertaker,
    Worker,
)


@cache
def _default_file() -> Path:
    packaged = Path(__file__).with_name("paynode.toml")
    return packaged if packaged.exists() else Path(__file__).parents[1] / "config" / "paynode.toml"


class _TomlSource(PydanticBaseSettingsSource):
    """The file named by PAYNODE_CONFIG (if any); `optional` picks it over the packaged default."""

    def __init__(self, settings_cls: type[BaseSettings], path: Path | None) -> None:
        super().__init__(settings_cls)
        self._path = path

    def get_field_value(self, field: object, field_name: str) -> tuple[object, str, bool]:
        raise NotImplementedError  # the whole file is given at once by __call__

    def __call__(self) -> dict[str, object]:
        if self._path is None:
            return {}
        with self._path.open("rb") as file:
            return tomllib.load(file)


class _StrictEnvironment(EnvSettingsSource):
    """PAYNODE_SECTION__KEY; a misspelt section is refused too, which the library itself would pass over."""

    # Not settings: where the settings are, and switches of scripts and tests.
    RESERVED = frozenset({"paynode_config", "paynode_data_dir", "paynode_shop_api_key"})

    def __call__(self) -> dict[str, object]:
        known = set(self.settings_cls.model_fields)
        for name in self.env_vars:
            if not name.startswith("paynode_") or name in self.RESERVED or name.startswith("paynode_test_"):
                continue
            section = name.removeprefix("paynode_").split("__")[0]
            if section not in known:
                raise ValueError(f"environment variable {name.upper()} names no setting")
        return super().__call__()


class Settings(BaseSettings):
    """All settings; `load()` makes one."""

    model_config = SettingsConfigDict(
        env_prefix="PAYNODE_", env_nested_delimiter="__", extra="forbid", frozen=True, case_sensitive=False
    )

    data_dir: Path
    database: Database
    redis: Redis
    http: Http
    overload: Overload
    admin: Admin
    streams: Streams
    worker: Worker
    gateway: Gateway
    fraud: Fraud
    relay: Relay
    census: Census
    point_of_sale: PointOfSale
    calendar: Calendar
    undertaker: Undertaker
    matching: Matching
    psp: Annotated[dict[PspName, PspAccount], Field(min_length=1)]
    sim: Sim
    shop: Shop
    log: Log

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        named = os.environ.get("PAYNODE_CONFIG")
        return (
            init_settings,
            _StrictEnvironment(settings_cls),
            _TomlSource(settings_cls, Path(named) if named else None),
            _TomlSource(settings_cls, _default_file()),
        )


def load(overrides: Mapping[str, object] | None = None) -> Settings:
    """The settings of this process; `overrides` (nested by section) win over everything.

    Raises: pydantic.ValidationError naming the path of each unknown or ill-typed key; ValueError for an
    unknown environment variable; OSError and tomllib.TOMLDecodeError for the named file.
    """
    return Settings(**dict(overrides or {}))  # type: ignore[arg-type]


def with_development(settings: Settings) -> Settings:
    """Where a URL is missing, that of the servers which `paynode dev` runs on this data directory, if it does."""
    try:
        running = json.loads((settings.data_dir / "dev.json").read_text("utf-8"))
    except (OSError, ValueError):
        return settings
    database = settings.database.model_copy(update={"url": settings.database.url or running.get("database_url", "")})
    redis = settings.redis.model_copy(update={"url": settings.redis.url or running.get("redis_url", "")})
    return settings.model_copy(update={"database": database, "redis": redis})
