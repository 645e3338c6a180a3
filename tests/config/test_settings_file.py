"""config/paynode.toml is the one list of settings: every one with its reason, and nothing that is none."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping

import pytest
from pydantic import BaseModel, ValidationError

from paynode import config
from paynode.config import Settings
from paynode.sections import SimAccount
from tests.architecture.sources import ROOT

FILE = ROOT / "config" / "paynode.toml"


def of_models(model: type[BaseModel], above: tuple[str, ...] = ()) -> Iterator[str]:
    """The dotted names of all settings that the models know."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from of_models(kind, (*above, name))
        else:
            yield ".".join((*above, name))


def of_file(table: Mapping[str, object], above: tuple[str, ...] = ()) -> Iterator[str]:
    """The dotted names of all settings that stand in the file."""
    for name, value in table.items():
        if isinstance(value, dict):
            yield from of_file(value, (*above, name))
        else:
            yield ".".join((*above, name))


def without_reason(text: str) -> Iterator[str]:
    """Settings above which there is no comment. One comment may speak for the settings that follow it directly, and
    one above a table's head for the first of the table."""
    table, has_reason = "", False
    for line in text.splitlines():
        if line.startswith("#"):
            has_reason = True
        elif not line:
            has_reason = False
        elif head := re.fullmatch(r"\[(.+)\]", line):
            table = head[1] + "."
        elif (name := line.partition(" =")[0]) and not has_reason:
            yield table + name


def test_every_setting_stands_in_the_file_and_nothing_else_does() -> None:
    # Accounts at PSPs are named by whoever has them; the file has the simulator's.
    known = {*of_models(Settings), *of_models(SimAccount, ("psp", "sim"))} - {"psp"}
    assert sorted(of_file(tomllib.loads(FILE.read_text()))) == sorted(known)


def test_every_setting_has_a_comment_above_it() -> None:
    assert list(without_reason(FILE.read_text())) == []


def test_the_search_for_comments_finds_a_missing_one() -> None:
    text = "# why\na = 1\nb = 2\n\n[t]\nc = 3\n# why\nd = 4\n\n# why\n[u]\ne = 5\n\n[v]\n# why\nf = 6\n\ng = 7"
    assert list(without_reason(text)) == ["t.c", "v.g"]


def test_times_and_sizes_carry_their_unit_in_their_name() -> None:
    """A pause of 5 is five what? Numbers that are no counts, ports or levels end in a unit."""
    units = ("_s", "_ms", "_mb", "_max", "_size", "_bytes_max", "_basis_points", "port")
    counts = {
        "streams.partitions",
        "streams.read_count",
        "worker.committers",
        "gateway.concurrency",
        "gateway.concurrency_reserved",
        "gateway.breaker_calls_min",
        "gateway.breaker_failures",
        "gateway.suspect_deliveries",
        "fraud.concurrency",
        "fraud.breaker_calls_min",
        "fraud.allowances",
        "streams.merchant_share",
        "streams.read_ahead",
        "streams.whole_ahead",
    }
    numbers = {
        name
        for name, value in _flat(tomllib.loads(FILE.read_text())).items()
        if isinstance(value, int | float | list) and not isinstance(value, bool)
    }
    assert {name for name in numbers if not name.endswith(units)} == counts


def _flat(table: Mapping[str, object], above: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in table.items():
        flat |= _flat(value, f"{above}{name}.") if isinstance(value, dict) else {f"{above}{name}": value}
    return flat


def test_the_file_alone_is_a_whole_configuration(clean_environment: None) -> None:
    assert config.load().streams.partitions == 32


def test_the_environment_wins_over_the_file(clean_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAYNODE_HTTP__PORT", "9001")
    assert config.load().http.port == 9001
    assert config.load({"http": {"port": 9002}}).http.port == 9002, "and what the caller says over both"


def test_a_named_file_wins_over_the_default(
    clean_environment: None, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("config") / "mine.toml"
    file.write_text("[http]\nport = 9003\n")
    monkeypatch.setenv("PAYNODE_CONFIG", str(file))
    settings = config.load()
    assert (settings.http.port, settings.admin.port) == (9003, 9464)


@pytest.mark.parametrize(
    ("overrides", "place"),
    [
        ({"http": {"prot": 1}}, "http.prot"),
        ({"nonsense": 1}, "nonsense"),
        ({"http": {"port": 70_000}}, "http.port"),
        ({"streams": {"partitions": 101}}, "streams.partitions"),
        ({"streams": {"block_ms": 2_001}}, "streams.block_ms"),
        ({"relay": {"interval_s": 0}}, "relay.interval_s"),
        ({"gateway": {"inquiry_ladder_s": []}}, "gateway.inquiry_ladder_s"),
    ],
)
def test_what_is_no_setting_stops_the_start_and_names_its_path(
    clean_environment: None, overrides: dict[str, object], place: str
) -> None:
    with pytest.raises(ValidationError) as refusal:
        config.load(overrides)
    assert place in {".".join(map(str, error["loc"])) for error in refusal.value.errors()}


@pytest.mark.parametrize("name", ["PAYNODE_HTTPS__PORT", "PAYNODE_PORT", "PAYNODE_HTTP__PROT"])
def test_a_misspelt_variable_stops_the_start(
    clean_environment: None, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(ValueError, match=r"(?i)names no setting|extra"):
        config.load()


def test_secrets_are_in_no_representation(clean_environment: None) -> None:
    secrets = {"psp": {"sim": {"api_key": "canary-1", "webhook_secret": "canary-2"}}, "database": {"url": "canary-3"}}
    settings = config.load(secrets)
    account = settings.psp["sim"]
    assert isinstance(account, SimAccount)
    assert account.api_key == "canary-1"
    assert "canary" not in repr(settings)
    assert "canary" not in str(settings)
