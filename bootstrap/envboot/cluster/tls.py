"""TLS for one cluster: an authority in this process's memory, and a certificate for each member."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.x509 import Certificate, CertificateBuilder
    from distributed.security import Security

_TLS = "DASK_DISTRIBUTED__COMM__TLS__"
OWN = ("DASK_DISTRIBUTED__COMM__", "DASK_SCHEDULER_ADDRESS")
"""With what those begin that decide whom a member trusts."""
EARLIER = datetime.timedelta(days=1)
"""Certificates are valid since then: the clock of a machine may be behind."""
LONGEST = datetime.timedelta(days=90)
"""No cluster lives longer. Nobody trusts its certificates once it has closed: its authority's
certificate was with its members only, and the key of that in this process."""


@dataclass(frozen=True, slots=True)
class Member:
    """What one process proves itself with: a certificate and its key, as PEM."""

    certificate: str
    key: str


class Authority:
    """Signs the certificates of one cluster; its own key never leaves this process.

    Raises:
        ImportError: `cryptography` is not installed.
    """

    def __init__(self) -> None:
        from cryptography.hazmat.primitives.asymmetric import ec

        self._key: EllipticCurvePrivateKey | None = ec.generate_private_key(ec.SECP256R1())
        self._own = self._sign("authority", self._key, is_authority=True)
        self.certificate = _to_pem(self._own)

    def issue(self, role: str, *, serves: bool = True) -> Member:
        """Return a new key and its certificate.

        One that does not serve (the client's) is refused by whoever connects to it: with it
        nobody can be a scheduler or a worker.

        Raises:
            RuntimeError: the cluster is closed.
        """
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(role, key, serves=serves)
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return Member(_to_pem(certificate), pem.decode())

    def close(self) -> None:
        """Forget the key: nobody becomes a member any more."""
        self._key = None

    def _sign(
        self,
        role: str,
        key: EllipticCurvePrivateKey,
        *,
        is_authority: bool = False,
        serves: bool = True,
    ) -> Certificate:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes
        from cryptography.x509.oid import NameOID

        if self._key is None:
            raise RuntimeError("the cluster is closed")
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"envboot {role}")])
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name if is_authority else self._own.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - EARLIER)
            .not_valid_after(now + LONGEST)
            .add_extension(
                x509.BasicConstraints(ca=is_authority, path_length=0 if is_authority else None),
                critical=True,
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False
            )
        )
        if not is_authority:
            builder = _restrict(builder, role, serves=serves)
        return _allow_signing(builder, is_authority=is_authority).sign(self._key, hashes.SHA256())


def _restrict(builder: CertificateBuilder, role: str, *, serves: bool) -> CertificateBuilder:
    """Say what a member may do: connect, and where it serves be connected to (RFC 5280, 4.2.1.12).

    OpenSSL holds both sides of a connection to it.
    """
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    uses = [ExtendedKeyUsageOID.CLIENT_AUTH]
    if serves:
        uses.append(ExtendedKeyUsageOID.SERVER_AUTH)
    names = x509.SubjectAlternativeName([x509.DNSName(f"{role}.envboot.internal")])
    return builder.add_extension(x509.ExtendedKeyUsage(uses), False).add_extension(names, False)


def _allow_signing(builder: CertificateBuilder, *, is_authority: bool) -> CertificateBuilder:
    from cryptography import x509

    return builder.add_extension(
        x509.KeyUsage(
            digital_signature=not is_authority,
            key_cert_sign=is_authority,
            crl_sign=is_authority,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        ),
        critical=True,
    )


def _to_pem(certificate: Certificate) -> str:
    from cryptography.hazmat.primitives import serialization

    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def make_security(authority: Authority) -> Security:
    """Return what this process proves itself with to its cluster: as its client, and no more."""
    from distributed.security import Security

    client = authority.issue("client", serves=False)
    made: Security = Security(
        require_encryption=True,
        tls_ca_file=authority.certificate,
        tls_client_cert=client.certificate,
        tls_client_key=client.key,
    )
    return made


def compose_secret(
    authority: Authority, role: str, *, scheduler: str | None = None, name: object = None
) -> dict[str, str]:
    """Return the variables that make a process of Dask a member: configuration, its key included.

    Dask takes the text of a certificate for a file's name, and its variables for configuration
    (Dask documentation, "Configuration" and "TLS/SSL"). Whatever the process does, also as a
    client (`get_client` in a task), it does with its own certificate.
    """
    member = authority.issue(role)
    found = {
        "DASK_DISTRIBUTED__COMM__TLS__CA_FILE": authority.certificate,
        "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "True",
    }
    for each in ("scheduler", "worker", "client"):
        found[f"{_TLS}{each.upper()}__CERT"] = member.certificate
        found[f"{_TLS}{each.upper()}__KEY"] = member.key
    if scheduler is not None:
        found["DASK_SCHEDULER_ADDRESS"] = scheduler
    if name is not None:
        found["ENVBOOT_DASK_NAME"] = str(name)
    return found
