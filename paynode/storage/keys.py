"""API keys, as the ingress asks for them: whose is this?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from paynode.domain.accepting import MerchantKey
from paynode.storage.merchants import Caller, find_keys, prefix_of, verify
from paynode.storage.postgres import Pool, borrowed


class PgKeys:
    """Looks keys up as the ingress's role."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def merchants_of(self, api_keys: Sequence[str]) -> Sequence[MerchantKey | None]:
        """Whose each of the keys is, in order; None for an unknown or revoked one, and for what is no key at all.

        Raises: Unavailable.
        """
        prefixes = {prefix for api_key in api_keys if (prefix := prefix_of(api_key)) is not None}
        if not prefixes:
            return [None] * len(api_keys)
        async with borrowed(self._pool) as connection:
            callers = await find_keys(connection, list(prefixes))
        return [_merchant_of(api_key, callers) for api_key in api_keys]


def _merchant_of(api_key: str, callers: Mapping[str, Caller]) -> MerchantKey | None:
    """Each key is proved by itself: many may show one prefix, and one of them have the secret."""
    caller = callers.get(prefix_of(api_key) or "")
    if caller is None or caller.is_revoked or not verify(api_key, caller.secret_sha256):
        return None
    return MerchantKey(merchant_id=caller.merchant_id, psps=caller.psps)
