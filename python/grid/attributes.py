"""What a virtual organisation (VO) says of the owner of a proxy: the attribute certificate that VOMS puts into it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Optional

from MLTools.NanoML.grid.der import GENERALIZED_TIME, OBJECT, OCTETS, SEQUENCE, SET, Element, elements

__all__ = ["VOMS", "Attributes", "attributes_of"]

VOMS = "1.3.6.1.4.1.8005.100.100.5"
"""The extension of a proxy in which they are."""

_FQANS = "1.3.6.1.4.1.8005.100.100.4"
_URI = 0x86


@dataclass(frozen=True)
class Attributes:
    """Membership in a VO.

    Attributes
    ----------
    vo
        Its name, as in "cms".
    fqans
        Groups and roles, as in "/cms/Role=NULL/Capability=NULL".
    begins, expires
        When it is valid.
    """

    vo: str
    fqans: tuple[str, ...]
    begins: datetime
    expires: datetime


def attributes_of(extension: bytes) -> list[Attributes]:
    """What the extension VOMS holds: usually of one VO.

    Raises
    ------
    ValueError
        It is damaged.
    """
    try:
        return [
            _read(certificate.children[0].children)
            for outer in elements(extension)
            for certificates in outer.children
            for certificate in certificates.children
        ]
    except IndexError:
        raise ValueError("a part of the VO's is missing") from None


def _read(information: list[Element]) -> Attributes:
    times = next(
        (each.children for each in information if each.tag == SEQUENCE and _are_times(each)),
        None,
    )
    if times is None:
        raise ValueError("no validity")
    values = [value for each in information if each.tag == SEQUENCE for value in _values(each)]
    fqans = tuple(
        name.text
        for value in values
        for list_ in value.children
        if list_.tag == SEQUENCE
        for name in list_.children
        if name.tag == OCTETS
    )
    vo = _vo(values) or (fqans[0].split("/")[1] if fqans and "/" in fqans[0] else "")
    if not vo:
        raise ValueError("no VO")
    return Attributes(vo, fqans, times[0].time, times[1].time)


def _are_times(element: Element) -> bool:
    return [each.tag for each in element.children] == [GENERALIZED_TIME, GENERALIZED_TIME]


def _values(attributes: Element) -> Iterator[Element]:
    """The lists of FQANs."""
    for each in attributes.children:
        parts = each.children
        if [part.tag for part in parts] == [OBJECT, SET] and parts[0].oid == _FQANS:
            yield from parts[1].children


def _vo(values: list[Element]) -> Optional[str]:
    """The VO as its server calls it: "cms://voms.cern.ch:15002"."""
    for value in values:
        for list_ in value.children:
            for name in list_.children:
                if name.tag == _URI and "://" in name.text:
                    return name.text.partition("://")[0]
    return None
