"""The XML of WeCom and WeChat: one level of named texts, in and out; pure."""

from collections.abc import Mapping
from xml.etree.ElementTree import ParseError
from xml.sax.saxutils import escape

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from adapters.wx_aes import Sealed

# A callback's body; messages carry ids of media, never bytes.
MAX_BYTES = 1024 * 1024


class XmlError(ValueError):
    """Not the XML that these platforms send."""


def read(body: bytes) -> dict[str, str]:
    """The texts right below the root, by name; raises XmlError. What lies deeper is left out."""
    if len(body) > MAX_BYTES:
        raise XmlError("the body is too large")
    try:
        root = fromstring(body, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError):
        # LookupError: an encoding that nobody knows.
        raise XmlError("the body is not XML") from None
    if root.tag != "xml":
        raise XmlError("the body has another root")
    return {child.tag: child.text or "" for child in root}


def cdata(text: str) -> str:
    """`text` as it stands; the one mark that would end the section is split over two."""
    return f"<![CDATA[{text.replace(']]>', ']]]]><![CDATA[>')}]]>"


def write(fields: Mapping[str, str | int | Mapping[str, str]]) -> str:
    """Named texts below `<xml>`; a mapping is one more level."""
    return f"<xml>{_written(fields)}</xml>"


def _written(fields: Mapping[str, str | int | Mapping[str, str]]) -> str:
    return "".join(f"<{name}>{_value(value)}</{name}>" for name, value in fields.items())


def _value(value: str | int | Mapping[str, str]) -> str:
    if isinstance(value, int):
        return str(value)
    return cdata(value) if isinstance(value, str) else _written(value)


def sealed(answer: Sealed) -> bytes:
    """A sealed passive reply as the platform wants it."""
    return (
        f"<xml><Encrypt>{cdata(answer.encrypt)}</Encrypt>"
        f"<MsgSignature>{cdata(answer.signature)}</MsgSignature>"
        f"<TimeStamp>{escape(answer.timestamp)}</TimeStamp>"
        f"<Nonce>{cdata(answer.nonce)}</Nonce></xml>"
    ).encode()
