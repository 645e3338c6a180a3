"""The operator's verbs over the database, as processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from paynode import config
from paynode.cli.config import masked
from paynode.config import Settings
from paynode.domain.money import FeePlan
from paynode.domain.terms import Terms
from paynode.storage import merchants
from paynode.storage.apikeys import prefix_of
from paynode.storage.migrating import MIGRATIONS, read
from paynode.storage.postgres import Role, Session, session
from tests.support.database import pointed_at
from tests.support.verbs import paynode


async def test_migrate_tells_what_it_applied_and_to_which_version(settings: Settings) -> None:
    said = await paynode(settings, "migrate", "--output", "json")
    version = read(MIGRATIONS)[-1].version
    assert (said.code, said.json) == (0, {"data": [], "schema_version": version})
    assert (await paynode(settings, "migrate")).out == f"the schema is at version {version}\n"


async def test_a_merchant_is_created_listed_given_another_key_and_the_first_one_revoked(settings: Settings) -> None:
    created = await paynode(settings, "merchants", "create", "--name", "Ada", "--fee-fixed", "25", "--output", "json")
    made = created.json
    assert sorted(made) == ["api_key", "id", "name"]
    again = await paynode(settings, "merchants", "create", "--name", "Ada", "--if-absent", "--output", "json")
    assert again.json == {"id": made["id"], "name": "Ada", "api_key": None}

    key = (await paynode(settings, "merchants", "keys", "create", "--merchant", made["id"], "--output", "json")).json
    assert prefix_of(key["api_key"]) == key["prefix"]
    first = prefix_of(made["api_key"]) or ""
    revoked = await paynode(settings, "merchants", "keys", "revoke", "--prefix", first, "--output", "json")
    assert revoked.json == {"prefix": first, "merchant_id": made["id"], "revoked": True}

    (listed,) = (await paynode(settings, "merchants", "list", "--output", "json")).json["data"]
    assert listed.pop("created_at").endswith("Z")
    assert listed == {
        "id": made["id"],
        "name": "Ada",
        "fee_fixed": 25,
        "fee_basis_points": 150,
        "reserve_basis_points": 0,
        "reserve_days": 0,
        "availability": "date",
        "available_days": 2,
        "psps": ["sim"],
        "api_key_prefixes": [key["prefix"]],
    }
    assert made["id"] in (await paynode(settings, "merchants", "list")).out


async def test_a_key_of_a_merchant_that_is_not_there_is_a_failure(settings: Settings) -> None:
    nobody = await paynode(settings, "merchants", "keys", "create", "--merchant", "mer_00000000000000000000000000")
    assert (nobody.code, nobody.err) == (1, "Error: there is no merchant mer_00000000000000000000000000\n")
    assert (await paynode(settings, "merchants", "keys", "create", "--merchant", "Ada")).code == 2
    assert (await paynode(settings, "merchants", "keys", "revoke", "--prefix", "pk_nobody")).code == 1


async def test_a_name_is_shown_as_it_is(settings: Settings, owner: Session) -> None:
    await merchants.create(owner, "[bold]Ada[/bold]", terms=Terms(fees=FeePlan(fixed=0, basis_points=0)), psps=["sim"])
    assert "[bold]Ada[/bold]" in (await paynode(settings, "merchants", "list")).out


@pytest.mark.parametrize(
    ("url", "code", "complaint"),
    [
        ("postgresql://o:x@127.0.0.1:1/pay", 75, "unavailable: ConnectionRefusedError"),
        ("", 1, "database.url is not set"),
    ],
)
async def test_a_database_that_is_away_is_a_reason_to_try_again_and_a_missing_url_is_not(
    settings: Settings, tmp_path: Path, url: str, code: int, complaint: str
) -> None:
    said = await paynode(pointed_at(settings, url, tmp_path), "merchants", "list")
    assert said.code == code
    assert complaint in said.err
    assert "Traceback" not in said.err


async def test_a_refused_log_in_is_a_failure_without_the_password(settings: Settings) -> None:
    url = "postgresql://nobody:guessed@" + settings.database.url.rpartition("@")[2]
    said = await paynode(pointed_at(settings, url, settings.data_dir), "merchants", "list")
    assert said.code == 1
    assert "guessed" not in said.err
    assert "Traceback" not in said.err


async def test_a_database_without_the_schema_says_what_to_run(settings: Settings, owner: Session) -> None:
    await owner.execute("DROP TABLE api_keys")
    said = await paynode(settings, "merchants", "list")
    assert said.code == 1
    assert "paynode migrate" in said.err


async def test_config_names_the_path_of_what_is_wrong_and_not_its_value(settings: Settings) -> None:
    well = await paynode(settings, "config", "check")
    assert (well.code, well.out) == (0, "ok\n")
    ill = await paynode(
        settings, "config", "check", environment={"PAYNODE_HTTP__PORT": "hunter2", "PAYNODE_WORKER__SPEED": "9"}
    )
    assert ill.code == 1
    assert "http.port:" in ill.err
    assert "worker.speed:" in ill.err
    assert "hunter2" not in ill.err


async def test_config_shows_every_setting_and_no_secret(settings: Settings) -> None:
    secrets = {
        "PAYNODE_DATABASE__URL": "postgresql://o:hunter2@a:1,b:2/pay?sslpassword=hunter2&sslmode=require",
        "PAYNODE_DATABASE__PASSWORDS__READER": "hunter2",
        "PAYNODE_REDIS__URL": "redis://:hunter2@cache:6379/0",
        "PAYNODE_PSP__SIM__API_KEY": "hunter2",
        "PAYNODE_PSP__SIM__WEBHOOK_SECRET": "hunter2",
    }
    for output in ("table", "json"):
        said = await paynode(settings, "config", "show", "--output", output, environment=secrets)
        assert said.code == 0
        assert "hunter2" not in said.out
    shown = said.json
    assert shown["database"]["url"] == "postgresql://o:***@a:1,b:2/pay?sslpassword=***&sslmode=require"
    assert shown["redis"]["url"] == "redis://:***@cache:6379/0"
    assert shown["database"]["passwords"] == {"ingress": "", "gateway": "", "committer": "", "reader": "***"}
    assert shown["http"]["keep_alive_s"] == 15.0


def test_a_url_without_secrets_is_shown_as_it_is() -> None:
    settings = config.load({"psp": {"sim": {"url": "https://user@psp.example/v1?page=2"}}}).model_dump(mode="json")
    assert masked(settings)["psp"]["sim"]["url"] == "https://user@psp.example/v1?page=2"  # type: ignore[index]


async def test_doctor_looks_as_the_reader_and_says_when_it_may_not(settings: Settings) -> None:
    async with session(settings, Role.OWNER, application_name="test") as owner:
        await owner.execute("REVOKE SELECT ON ledger_entries FROM paynode_reader")
    said = await paynode(settings, "doctor")
    assert (said.code, said.err) == (1, "Error: permission denied for table ledger_entries\n")
