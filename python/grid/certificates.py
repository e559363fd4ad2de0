"""The certificates in a file of PEM blocks. Private keys are not looked at."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from MLTools.NanoML.grid.der import elements

__all__ = ["PROXY", "Certificate", "certificates_of", "has_key"]

PROXY = "1.3.6.1.5.5.7.1.14"
"""The extension by which a certificate is a proxy (RFC 3820)."""

_BEGIN = b"-----BEGIN CERTIFICATE-----"
_CERTIFICATE = re.compile(_BEGIN + rb"[A-Za-z0-9+/=\s]*-----END CERTIFICATE-----")
_KEY = re.compile(rb"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----")
_EXTENSIONS = 0xA3
_OLD_PROXIES = ("CN=proxy", "CN=limited proxy")


@dataclass(frozen=True)
class Certificate:
    """A certificate, as far as a proxy is concerned.

    Attributes
    ----------
    subject
        Whose it is, as in "/DC=ch/DC=cern/CN=Jane".
    begins, expires
        When it is valid.
    extensions
        The content of each, by its number.
    """

    subject: str
    begins: datetime
    expires: datetime
    extensions: dict[str, bytes]

    @property
    def is_proxy(self) -> bool:
        """Whether it is a proxy, not what a CA signed."""
        return PROXY in self.extensions or self.subject.endswith(_OLD_PROXIES)


def has_key(data: bytes) -> bool:
    """Whether there is a private key."""
    return _KEY.search(data) is not None


def certificates_of(data: bytes) -> list[Certificate]:
    """All certificates, in their order.

    Raises
    ------
    ValueError
        One is damaged.
    """
    blocks = _CERTIFICATE.findall(data)
    if len(blocks) != data.count(_BEGIN):
        raise ValueError("a certificate does not end")
    return [_read(block) for block in blocks]


def _read(block: bytes) -> Certificate:
    from cryptography import x509  # takes long, and few commands need it

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of serial numbers and the like that CAs should not have given
            found = x509.load_pem_x509_certificate(block)
            extensions = _extensions(found.tbs_certificate_bytes)
            subject = "".join(f"/{_short(each.oid)}={_text(each.value)}" for each in found.subject)
            return Certificate(subject, _moment(found, "before"), _moment(found, "after"), extensions)
    except Exception as problem:  # it raises many things for one cause
        raise ValueError(str(problem)) from None


def _extensions(information: bytes) -> dict[str, bytes]:
    """One that is odd must not hide the others, as it would if cryptography read them."""
    (whole,) = elements(information)
    return {
        extension.children[0].oid: extension.children[-1].content
        for part in whole.children
        if part.tag == _EXTENSIONS
        for list_ in part.children
        for extension in list_.children
    }


def _short(oid: Any) -> str:
    from cryptography.x509.oid import NameOID

    short = {
        NameOID.COMMON_NAME: "CN",
        NameOID.COUNTRY_NAME: "C",
        NameOID.DOMAIN_COMPONENT: "DC",
        NameOID.EMAIL_ADDRESS: "emailAddress",
        NameOID.LOCALITY_NAME: "L",
        NameOID.ORGANIZATION_NAME: "O",
        NameOID.ORGANIZATIONAL_UNIT_NAME: "OU",
        NameOID.STATE_OR_PROVINCE_NAME: "ST",
        NameOID.USER_ID: "UID",
    }
    return short.get(oid, oid.dotted_string)


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _moment(certificate: Any, which: str) -> datetime:
    name = f"not_valid_{which}"
    if hasattr(certificate, f"{name}_utc"):
        found: datetime = getattr(certificate, f"{name}_utc")
        return found
    return getattr(certificate, name).replace(tzinfo=timezone.utc)  # before cryptography 42
