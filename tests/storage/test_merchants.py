"""Merchants and their API keys."""

from __future__ import annotations

import anyio
import pytest

from paynode.config import Settings
from paynode.domain.accepting import MerchantKey
from paynode.domain.money import FeePlan
from paynode.domain.terms import Terms
from paynode.storage import merchants
from paynode.storage.apikeys import new_key, prefix_of, verify
from paynode.storage.keys import PgKeys
from paynode.storage.postgres import Role, Session, pool, session

_TERMS = Terms(fees=FeePlan(fixed=25, basis_points=150))


async def test_a_key_finds_its_merchant_and_its_terms(settings: Settings, owner: Session) -> None:
    made = await merchants.create(owner, "Ada", terms=_TERMS, psps=["sim"])
    assert made.api_key is not None
    prefix = prefix_of(made.api_key)
    assert prefix is not None
    # As the ingress does it, with the rights of the ingress.
    async with session(settings, Role.INGRESS, application_name="test") as connection:
        caller = (await merchants.find_keys(connection, [prefix]))[prefix]
    assert (caller.merchant_id, caller.psps, caller.is_revoked) == (made.id, ("sim",), False)
    assert verify(made.api_key, caller.secret_sha256)
    assert not verify(made.api_key[:-1] + ("A" if made.api_key[-1] != "A" else "B"), caller.secret_sha256)


async def test_the_database_does_not_hold_the_key(owner: Session) -> None:
    made = await merchants.create(owner, "Ada", terms=_TERMS, psps=["sim"])
    assert made.api_key is not None
    row = await owner.fetchrow("SELECT * FROM api_keys")
    assert row is not None
    _, _, secret = made.api_key.split("_", 2)  # which may have such a line in it
    assert secret not in str(dict(row))


async def test_a_merchant_is_created_once_by_any_number_who_want_it_to_be_there(settings: Settings) -> None:
    made: list[merchants.Created] = []

    async def create() -> None:
        async with session(settings, Role.OWNER, application_name="test") as connection:
            made.append(await merchants.create(connection, "Demo", terms=_TERMS, psps=["sim"], if_absent=True))

    async with anyio.create_task_group() as starting:
        for _ in range(6):
            starting.start_soon(create)
    assert len({one.id for one in made}) == 1
    assert sum(one.api_key is not None for one in made) == 1


async def test_two_merchants_may_have_one_name(owner: Session) -> None:
    first = await merchants.create(owner, "Twin", terms=_TERMS, psps=["sim"])
    second = await merchants.create(owner, "Twin", terms=_TERMS, psps=["sim"])
    again = await merchants.create(owner, "Twin", terms=_TERMS, psps=["sim"], if_absent=True)
    assert first.id != second.id
    assert again == merchants.Created(id=first.id, name="Twin", api_key=None)


async def test_hundreds_are_made_in_one_go(owner: Session) -> None:
    made = await merchants.create_many(owner, [f"m{number}" for number in range(200)], terms=_TERMS, psps=["sim"])
    listed = await merchants.list_all(owner)
    assert [(one.id, one.name) for one in listed] == [(one.id, one.name) for one in made]
    keys = [one.api_key or "" for one in made]
    assert [one.prefixes for one in listed] == [(prefix_of(key),) for key in keys]


async def test_a_revoked_key_is_found_and_says_so_and_another_one_goes_on(owner: Session) -> None:
    made = await merchants.create(owner, "Ada", terms=_TERMS, psps=["sim"])
    old = prefix_of(made.api_key or "") or ""
    new = await merchants.create_key(owner, made.id)
    assert new is not None
    assert await merchants.revoke_key(owner, old) == made.id
    found = await merchants.find_keys(owner, [new.prefix, old])
    assert {prefix: caller.is_revoked for prefix, caller in found.items()} == {old: True, new.prefix: False}
    assert verify(new.text, found[new.prefix].secret_sha256)
    assert [one.prefixes for one in await merchants.list_all(owner)] == [(new.prefix,)]


async def test_many_keys_cost_one_query_and_each_is_proved_by_itself(settings: Settings, owner: Session) -> None:
    ada, eve = await merchants.create_many(owner, ["Ada", "Eve"], terms=_TERMS, psps=["sim"])
    assert ada.api_key is not None
    assert eve.api_key is not None
    await merchants.revoke_key(owner, prefix_of(eve.api_key) or "")
    guessed = f"{prefix_of(ada.api_key)}_{'a' * 43}"
    unknown = [new_key().text for _ in range(200)]
    asked: list[str] = []
    async with pool(settings, Role.INGRESS, application_name="test", size=1) as one:
        async with one.acquire() as connection:
            connection.add_query_logger(lambda record: asked.append(record.query))
        found = await PgKeys(one).merchants_of([guessed, *unknown, "", ada.api_key, eve.api_key, ada.api_key])
    adas = MerchantKey(merchant_id=ada.id, psps=("sim",))
    assert found == [None] * 202 + [adas, None, adas]
    assert len(asked) == 1


async def test_what_has_not_the_form_of_a_key_does_not_reach_the_database(settings: Settings) -> None:
    async with pool(settings, Role.INGRESS, application_name="test", size=1) as closed:
        pass
    assert await PgKeys(closed).merchants_of(["", "pk_x", "Bearer"]) == [None] * 3


async def test_the_first_revocation_is_the_one_that_counts(owner: Session) -> None:
    made = await merchants.create(owner, "Ada", terms=_TERMS, psps=["sim"])
    prefix = prefix_of(made.api_key or "") or ""
    await merchants.revoke_key(owner, prefix)
    first = await owner.fetchval("SELECT revoked_at FROM api_keys")
    assert await merchants.revoke_key(owner, prefix) == made.id
    assert await owner.fetchval("SELECT revoked_at FROM api_keys") == first


async def test_what_is_not_there_is_none(owner: Session) -> None:
    assert await merchants.find_keys(owner, ["pk_000000000000"]) == {}
    assert await merchants.revoke_key(owner, "pk_000000000000") is None
    assert await merchants.create_key(owner, "01890000-0000-7000-8000-000000000000") is None


@pytest.mark.parametrize(
    "presented",
    ["", "pk_", "Bearer x", "pk_000000000000", "sk_000000000000_" + "a" * 43, "pk_000000000000_" + "a" * 42],
)
def test_what_has_not_the_form_of_a_key_is_not_looked_up(presented: str) -> None:
    assert prefix_of(presented) is None


def test_a_key_ends_where_it_ends() -> None:
    key = new_key()
    assert prefix_of(key.text) == key.prefix
    for tail in ("\n", " ", "\u0661"):
        assert prefix_of(key.text + tail) is None
    assert not verify(key.text + "\udc80", key.secret_sha256)
