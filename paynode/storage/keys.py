"""API keys, as the ingress asks for them: whose is this?"""

from __future__ import annotations

from paynode.domain.accepting import MerchantKey
from paynode.storage.merchants import find_key, prefix_of, verify
from paynode.storage.postgres import Pool, borrowed


class PgKeys:
    """Looks keys up as the ingress's role."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def merchant_of(self, api_key: str) -> MerchantKey | None:
        """Whose key it is; None for an unknown or revoked one, and for what is no key at all.

        Raises: Unavailable.
        """
        prefix = prefix_of(api_key)
        if prefix is None:
            return None
        async with borrowed(self._pool) as connection:
            caller = await find_key(connection, prefix)
        if caller is None or caller.is_revoked or not verify(api_key, caller.secret_sha256):
            return None
        return MerchantKey(merchant_id=caller.merchant_id, psps=caller.psps)
