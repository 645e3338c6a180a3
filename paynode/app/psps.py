"""The accounts at PSPs, each with the adapter that its settings name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from paynode.config import Settings
from paynode.psp.payu import PayuPsp
from paynode.psp.sim import SimPsp
from paynode.psp.stripe import StripePsp
from paynode.sections import PspAccount

# Whoever writes one more adapter adds it here and below.
PspAdapter: TypeAlias = SimPsp | PayuPsp | StripePsp


def adapters_of(settings: Settings) -> Mapping[str, PspAdapter]:
    """An adapter for each account, by its name. It is entered to call the PSP; to believe callbacks it need not be."""
    return {name: _adapter(name, account, settings) for name, account in settings.psp.items()}


def _adapter(name: str, account: PspAccount, settings: Settings) -> PspAdapter:
    concurrency = settings.gateway.concurrency
    match account.adapter:
        case "sim":
            return SimPsp(
                name=name,
                url=account.url,
                api_key=account.api_key,
                webhook_secret=account.webhook_secret,
                idempotent_for_s=account.idempotent_for_s,
                settle_s=account.settle_s,
                concurrency=concurrency,
            )
        case "payu":
            return PayuPsp(
                name=name,
                url=account.url,
                pos_id=account.pos_id,
                client_id=account.client_id,
                client_secret=account.client_secret,
                second_key=account.second_key,
                notify_url=f"{settings.http.base_url}/v1/psp/{name}/webhook",
                page_ttl_s=account.page_ttl_s,
                settle_s=account.settle_s,
                currencies=account.currencies,
                is_auto_receive=account.is_auto_receive,
                is_md5_allowed=account.is_md5_allowed,
                concurrency=concurrency,
            )
        case "stripe":
            return StripePsp(
                name=name,
                url=account.url,
                api_key=account.api_key,
                webhook_secret=account.webhook_secret,
                has_search=account.has_search,
                idempotent_for_s=account.idempotent_for_s,
                settle_s=account.settle_s,
                concurrency=concurrency,
            )
