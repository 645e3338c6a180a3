"""The keys that sign anchors and exports: ed25519, as PEM files that every tool can read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from paynode.auditing.durable import create
from paynode.config import Settings
from paynode.sections import SettingRefused

# Of 64 characters: enough to name a key, and to be read out.
_ID_LENGTH: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """The private key. `id` names the public one."""

    id: str
    key: Ed25519PrivateKey = field(repr=False)

    def sign(self, content: bytes) -> bytes:
        """64 bytes."""
        return self.key.sign(content)


class PublicKeys:
    """The keys that are believed, by their ids."""

    def __init__(self, keys: Iterable[Ed25519PublicKey]) -> None:
        self._keys = {key_id(key): key for key in keys}

    def is_signed(self, key: str, signature: bytes, content: bytes) -> bool:
        """Whether a key that is believed has signed this."""
        known = self._keys.get(key)
        if known is None:
            return False
        try:
            known.verify(signature, content)
        except InvalidSignature:
            return False
        return True


def private_file(settings: Settings) -> Path:
    """Where the private key is, or would be."""
    return (
        Path(settings.ledger.signing_key) if settings.ledger.signing_key else ledger_dir(settings) / "signing_key.pem"
    )


def public_file(settings: Settings) -> Path:
    """Where the public key is: beside the private one."""
    return private_file(settings).with_suffix(".pub")


def ledger_dir(settings: Settings) -> Path:
    """What is kept of the ledger outside the database, unless the settings say where."""
    return settings.data_dir / "ledger"


def signer_of(settings: Settings) -> Signer:
    """The key that signs; made now when there is none and the settings allow it.

    Raises: SettingRefused.
    """
    file = private_file(settings)
    if settings.ledger.make_key and not file.exists():
        make(file)
    try:
        mode, content = file.stat().st_mode, file.read_bytes()
    except OSError as error:
        raise SettingRefused(
            f"ledger.signing_key: {error.strerror or error}: {file} (`paynode ledger key --make` makes one)"
        ) from error
    if mode & 0o077:
        raise SettingRefused(f"ledger.signing_key: {file} is not its owner's alone: chmod 600")
    return _signer(file, content)


def make(file: Path) -> bool:
    """Make a private key, mode 0600, with its public key beside it; says no when there is one already.

    Raises: OSError.
    """
    key = Ed25519PrivateKey.generate()
    is_new = create(file, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    # Of the one that is there, whoever made it: a process may have died between the two.
    create(file.with_suffix(".pub"), _public_pem(_signer(file, file.read_bytes()).key.public_key()), mode=0o644)
    return is_new


def public_keys(files: Iterable[Path]) -> PublicKeys:
    """The keys of these files. Raises: SettingRefused."""
    return PublicKeys(_public_key(file) for file in files)


def key_id(key: Ed25519PublicKey) -> str:
    """The beginning of the digest of the key's 32 bytes, in hex."""
    return sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:_ID_LENGTH]


def _signer(file: Path, content: bytes) -> Signer:
    try:
        key = load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SettingRefused(f"ledger.signing_key: {file} is no private key in PEM without a password") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SettingRefused(f"ledger.signing_key: {file} is not of ed25519")
    return Signer(id=key_id(key.public_key()), key=key)


def _public_key(file: Path) -> Ed25519PublicKey:
    try:
        key = load_pem_public_key(file.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise SettingRefused(f"{file}: no public key in PEM ({error})") from error
    if not isinstance(key, Ed25519PublicKey):
        raise SettingRefused(f"{file} is not of ed25519")
    return key


def _public_pem(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
