"""X.509 certificates in a file of PEM blocks, and what VOMS adds to those of a proxy. Private keys are not looked at."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

# object identifiers as DER has them
# 1.3.6.1.5.5.7.1.14: the extension by which a certificate is a proxy (RFC 3820)
_PROXY = bytes.fromhex("2b0601050507010e")
_VOMS = bytes.fromhex("2b06010401be45646405")  # 1.3.6.1.4.1.8005.100.100.5
_FQANS = bytes.fromhex("2b06010401be45646404")  # 1.3.6.1.4.1.8005.100.100.4
_EMAIL = "1.2.840.113549.1.9.1"
_OLD_PROXIES = ("CN=proxy", "CN=limited proxy")

_BEGIN = b"-----BEGIN CERTIFICATE-----"
_CERTIFICATE = re.compile(_BEGIN + rb"[A-Za-z0-9+/=\s]*-----END CERTIFICATE-----")
_KEY = re.compile(rb"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----")

# tags of DER, the encoding of ASN.1
_OCTETS, _OBJECT, _TIME, _SEQUENCE, _SET, _URI, _EXTENSIONS = 4, 6, 0x18, 0x30, 0x31, 0x86, 0xA3
_LONG, _CONSTRUCTED = 0x80, 0x20


@dataclass(frozen=True)
class Certificate:
    """A certificate, as far as a proxy is concerned."""

    subject: str  # its owner, as in "/DC=ch/DC=cern/CN=Jane"
    begins: datetime
    expires: datetime
    extensions: dict[bytes, bytes]  # their content, by object identifier

    @property
    def is_proxy(self) -> bool:
        """Whether it is a proxy, and was not signed by a CA."""
        return _PROXY in self.extensions or self.subject.endswith(_OLD_PROXIES)


@dataclass(frozen=True)
class VomsAttributes:
    """Membership in a virtual organisation (VO)."""

    vo: str  # its name, as in "cms"
    fqans: tuple[str, ...]  # groups and roles, as in "/cms/Role=NULL/Capability=NULL"
    begins: datetime
    expires: datetime


def has_key(data: bytes) -> bool:
    """Whether there is a private key."""
    return _KEY.search(data) is not None


def certificates_of(data: bytes) -> list[Certificate]:
    """All certificates, in their order. Raises ValueError if one is damaged."""
    blocks = _CERTIFICATE.findall(data)
    if len(blocks) != data.count(_BEGIN):
        raise ValueError("a certificate does not end")
    return [_read(block) for block in blocks]


def _read(block: bytes) -> Certificate:
    from cryptography import x509  # slow to import, and few commands need it

    def moment(name: str) -> datetime:  # before cryptography 42 without its time zone
        found: datetime = getattr(certificate, f"{name}_utc", None) or getattr(certificate, name)
        return found.replace(tzinfo=timezone.utc)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about serial numbers and the like that CAs should not have given
            certificate = x509.load_pem_x509_certificate(block)
            # if cryptography read the extensions, an odd one would hide all others
            (whole,) = _elements(certificate.tbs_certificate_bytes)
            extensions = {
                extension.children[0].content: extension.children[-1].content
                for part in whole.children
                if part.tag == _EXTENSIONS
                for list_ in part.children
                for extension in list_.children
            }
            subject = "".join(f"/{_name(each)}={_text(each.value)}" for each in certificate.subject)
            return Certificate(subject, moment("not_valid_before"), moment("not_valid_after"), extensions)
    except Exception as problem:  # cryptography raises many exceptions for one cause
        raise ValueError(str(problem)) from None


def _name(attribute: Any) -> str:
    """The name of a part of a subject, such as CN; its number if it has none."""
    is_email = attribute.oid.dotted_string == _EMAIL
    return "emailAddress" if is_email else str(attribute.rfc4514_attribute_name)


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


@dataclass(frozen=True)
class _Element:
    """An element of DER: the byte that gives its type, and its content without tag and length."""

    tag: int
    content: bytes

    @property
    def children(self) -> list[_Element]:
        """The elements that it is made of; none if it is a plain value."""
        return list(_elements(self.content)) if self.tag & _CONSTRUCTED else []

    @property
    def tags(self) -> list[int]:
        """The tags of its children."""
        return [each.tag for each in self.children]

    @property
    def time(self) -> datetime:
        return datetime.strptime(self.content.decode("ascii"), "%Y%m%d%H%M%SZ").replace(tzinfo=timezone.utc)


def _elements(data: bytes) -> Iterator[_Element]:
    """The elements that follow each other in `data`; ValueError if it ends in the middle of one."""
    at = 0
    while at < len(data):
        if at + 2 > len(data):
            raise ValueError("ends early")
        tag, length, at = data[at], data[at + 1], at + 2
        if length & _LONG:
            size = length & ~_LONG
            if not 1 <= size <= 4 or at + size > len(data):
                raise ValueError("ends early")
            length, at = int.from_bytes(data[at : at + size], "big"), at + size
        if at + length > len(data):
            raise ValueError("ends early")
        yield _Element(tag, data[at : at + length])
        at += length


def voms_attributes(chain: list[Certificate]) -> list[VomsAttributes]:
    """The attributes of the first proxy in a chain that has any: a proxy of a proxy has none of its own.

    Raises ValueError if they are damaged.
    """
    extension = next((each.extensions[_VOMS] for each in chain if _VOMS in each.extensions), b"")
    try:
        return [
            _read_attributes(certificate.children[0].children)
            for outer in _elements(extension)
            for certificates in outer.children
            for certificate in certificates.children
        ]
    except IndexError:
        raise ValueError("a part of the VO's is missing") from None


def _read_attributes(information: list[_Element]) -> VomsAttributes:
    sequences = [each for each in information if each.tag == _SEQUENCE]
    times = next((each.children for each in sequences if each.tags == [_TIME, _TIME]), None)
    if times is None:
        raise ValueError("no validity")
    attributes = [each.children for sequence in sequences for each in sequence.children if each.tags == [_OBJECT, _SET]]
    names = [
        (name.tag, _text(name.content))
        for identifier, values in attributes
        if identifier.content == _FQANS
        for value in values.children
        for list_ in value.children
        for name in list_.children
    ]
    fqans = tuple(text for tag, text in names if tag == _OCTETS)
    # the VO from the name of its server, "cms://voms.cern.ch:15002", or the first group
    servers = [text.partition("://")[0] for tag, text in names if tag == _URI and "://" in text]
    vo = servers[0] if servers else fqans[0].split("/")[1] if fqans and "/" in fqans[0] else ""
    if not vo:
        raise ValueError("no VO")
    return VomsAttributes(vo, fqans, times[0].time, times[1].time)
