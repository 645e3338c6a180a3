"""The sections of the settings file, one class each: names and bounds. What a value means stands in the file."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
# Never in a repr: a test that fails, or a traceback, would show it.
Secret = Annotated[str, Field(repr=False)]


class SettingRefused(Exception):
    """A setting that is well-formed, and that whoever has to use it cannot; says which one, and why."""


class Section(BaseModel):
    """One table of the settings file; an unknown key is refused with its path."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Passwords(Section):
    ingress: Secret
    gateway: Secret
    committer: Secret
    reader: Secret


class Database(Section):
    url: Secret
    pool_size: Count
    statement_timeout_ms: Count
    lock_timeout_ms: Count
    connect_timeout_s: Seconds
    passwords: Passwords


class Redis(Section):
    url: Secret
    command_timeout_s: Seconds
    pool_size: Count
    probe_ms: Count
    silence_ms: Count


class Http(Section):
    host: str
    port: Port
    shares_port: bool
    public_url: str
    keep_alive_s: Seconds
    body_bytes_max: Count
    json_depth_max: Count
    body_deadline_s: Seconds
    request_deadline_s: Seconds
    hosted_page_wait_s: Seconds
    payment_deadline_s: Seconds
    decision_wait_s: Seconds
    connections_max: Count
    connections_per_address_max: Count
    group_size_max: Count
    group_waiting_max: Count
    wait_poll_ms: Count

    @property
    def base_url(self) -> str:
        """How the outside reaches the ingress, without a trailing slash."""
        return self.public_url.rstrip("/") or f"http://{self.host}:{self.port}"


class Overload(Section):
    target_ms: Count
    interval_ms: Count
    look_ms: Count
    requests_max: Count
    callback_connections_max: Count
    window_s: Seconds
    exports_max: Count
    reads_max: Count
    checkouts_max: Count
    pos_max: Count
    operations_max: Count
    buckets_max: Count


class Matching(Section):
    interval_s: Seconds
    page_size: Count
    look_for_s: Seconds
    look_max_s: Seconds


class Admin(Section):
    host: str
    port: Port
    worker_port: Port
    scheduler_port: Port
    operator_token: Secret


class Streams(Section):
    partitions: Annotated[int, Field(ge=1, le=100)]
    read_count: Count
    block_ms: Annotated[int, Field(ge=1, le=2000)]
    detour_poll_ms: Count
    mailbox_size: Count
    actors_max: Count
    merchant_share: Count
    read_ahead: Count
    whole_ahead: Count
    outcomes_max: Count


class Worker(Section):
    committers: Annotated[int, Field(ge=1, le=16)]
    lease_s: Seconds
    look_ms: Count
    orphan_grace_ms: Count
    give_back_s: Seconds
    batch_size: Count
    attempts_max: Count
    condemn_after_s: Seconds
    hang_s: Seconds
    memory_max_mb: Annotated[int, Field(ge=0)]
    drain_s: Seconds
    retry_min_ms: Count
    retry_max_ms: Count


class PspPace(Section):
    psp: str
    calls_max: Annotated[float, Field(gt=0)]


class Gateway(Section):
    concurrency: Count
    queue_size: Count
    call_deadline_s: Seconds
    send_within_s: Seconds
    inquiry_ladder_s: Annotated[tuple[Seconds, ...], Field(min_length=1)]
    pending_inquiry_s: Seconds
    not_sent_tries_max: Count
    not_sent_retry_s: Seconds
    not_sent_retry_max_s: Seconds
    concurrency_reserved: Annotated[int, Field(ge=0)]
    waiting_max: Count
    wait_max_s: Seconds
    paces_per_s: tuple[PspPace, ...]
    breaker_window_s: Seconds
    breaker_calls_min: Count
    breaker_failed_max: Annotated[float, Field(gt=0, le=1)]
    breaker_failures: Count
    breaker_open_s: Seconds
    retry_share_max: Annotated[float, Field(ge=0, le=1)]
    retry_every_s: Seconds
    retry_pause_max_s: Seconds
    reclaim_idle_ms: Count
    consumer_idle_s: Seconds
    suspect_deliveries: Annotated[int, Field(ge=2)]
    suspect_tries_max: Count
    pulse_s: Seconds

    @model_validator(mode="after")
    def _leaves_places_for_charges(self) -> Self:
        if self.concurrency_reserved >= self.concurrency:
            raise ValueError("concurrency_reserved leaves no place for new charges")
        return self


class FraudAllowance(Section):
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
    payment_max: Annotated[int, Field(ge=0, le=10**12)]
    hour_max: Annotated[int, Field(ge=0, le=10**15)]


class Fraud(Section):
    url: str
    api_key: Secret
    salt: Secret
    deadline_s: Seconds
    concurrency: Count
    breaker_window_s: Seconds
    breaker_calls_min: Count
    breaker_failed_max: Annotated[float, Field(gt=0, le=1)]
    breaker_open_s: Seconds
    allowances: tuple[FraudAllowance, ...]
    late_reject: Literal["mark", "refund"]
    recheck_s: Seconds
    sweep_size: Count
    lease_s: Seconds


class Relay(Section):
    interval_s: Seconds
    republish_after_s: Seconds
    republish_max_s: Seconds
    sweep_size: Count
    lease_s: Seconds


class Census(Section):
    interval_s: Seconds


class PointOfSale(Section):
    interval_s: Seconds
    grace_s: Seconds
    sweep_size: Count
    lease_s: Seconds


class Calendar(Section):
    interval_s: Seconds
    sweep_size: Count
    lease_s: Seconds


class Reconciliation(Section):
    wallets_s: Seconds
    payments_s: Seconds
    payments_after_s: Seconds
    settlement_s: Seconds
    settlement_overlap_s: Seconds
    settlement_look_back_s: Seconds
    full_every_s: Seconds
    laws_s: Seconds
    page_size: Count
    lease_s: Seconds


class Ledger(Section):
    anchor_interval_s: Seconds
    anchor_lease_s: Seconds
    anchor_dir: str
    signing_key: str
    make_key: bool


class Undertaker(Section):
    interval_s: Seconds
    page_size: Count
    suspect_kept_s: Seconds
    lease_s: Seconds


class SimAccount(Section):
    adapter: Literal["sim"]
    url: str
    api_key: Secret
    webhook_secret: Secret
    idempotent_for_s: Seconds
    settle_s: Seconds


# What PayU's points of sale are opened in; all have two decimals at PayU, as in ISO 4217 (HUF too).
PayuCurrency = Literal["BGN", "CHF", "CZK", "DKK", "EUR", "GBP", "HUF", "NOK", "PLN", "RON", "SEK", "UAH", "USD"]


class PayuAccount(Section):
    adapter: Literal["payu"]
    url: str
    pos_id: Annotated[str, Field(pattern=r"^[0-9]{1,20}$")]
    client_id: str
    client_secret: Secret
    second_key: Secret
    currencies: Annotated[frozenset[PayuCurrency], Field(min_length=1)]
    is_auto_receive: bool
    is_md5_allowed: bool
    page_ttl_s: Count
    settle_s: Seconds


class StripeAccount(Section):
    adapter: Literal["stripe"]
    url: str
    api_key: Secret
    webhook_secret: Secret
    has_search: bool
    idempotent_for_s: Seconds
    settle_s: Seconds


# An account's name stands in stream names, in paths and in names of accounts of the ledger.
PspName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
PspAccount = Annotated[SimAccount | PayuAccount | StripeAccount, Field(discriminator="adapter")]


class Sim(Section):
    name: PspName
    host: str
    port: Port
    book: str
    callback_url: str
    session_ttl_s: Seconds
    authorization_ttl_s: Seconds
    fee_basis_points: Annotated[int, Field(ge=0, le=10_000)]


class Shop(Section):
    host: str
    port: Port


class Log(Section):
    level: Literal["debug", "info", "warning", "error"]
    format: Literal["json", "console"]
