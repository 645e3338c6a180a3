"""The account that the settings file shows is one that works."""

from __future__ import annotations

import tomllib

from paynode.app.psps import adapters_of
from paynode.config import load
from paynode.psp.stripe import StripePsp
from paynode.sections import StripeAccount
from tests.architecture.sources import ROOT


def _example() -> dict[str, object]:
    lines = (ROOT / "config" / "paynode.toml").read_text().splitlines()
    begin = lines.index("# [psp.stripe]")
    end = next(number for number in range(begin, len(lines)) if not lines[number].startswith("#"))
    parsed = tomllib.loads("\n".join(line.removeprefix("# ") for line in lines[begin:end]))
    example: dict[str, object] = parsed["psp"]["stripe"]
    return example


def test_the_commented_account_makes_an_adapter() -> None:
    settings = load({"psp": {"stripe": _example() | {"api_key": "sk_test_1", "webhook_secret": "whsec_1"}}})
    account = settings.psp["stripe"]
    assert isinstance(account, StripeAccount)
    assert "sk_test_1" not in repr(account)
    assert "whsec_1" not in repr(account)
    adapter = adapters_of(settings)["stripe"]
    assert isinstance(adapter, StripePsp)
    can = adapter.capabilities
    assert (can.idempotent_for_s, can.settle_s) == (82_800, 3600), "below a day, and above the lag of the search"
