"""Hostile XML as a stream of elements with their lines, in constant memory."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from xml.sax import SAXException, SAXParseException
from xml.sax.handler import ContentHandler, feature_namespaces

from defusedxml import DefusedXmlException
from defusedxml.sax import make_parser

from ..errors import RefusedInput

_CHUNK = 1 << 16
_MAX_DEPTH = 32
#: Characters of one element's text, and bytes of a tag or of anything else without an element in it.
_MAX_TEXT = 1 << 16
_MAX_SILENT = 1 << 19
_ROOT = re.compile(rb"<(?:[A-Za-z_][\w.-]*:)?([A-Za-z_][\w.-]*)((?:\s[^<>]*)?)/?>")
_NO_TEXT: Mapping[str, str] = {}


class Element(NamedTuple):
    """Start or end of an element. ``attributes`` belong to the start, ``text`` (of a leaf, stripped) to the end."""

    is_start: bool
    name: str
    attributes: Mapping[str, str]
    text: str
    line: int


def root_of(data: bytes) -> tuple[str, str]:
    """Name and attributes as text of the first element near the beginning, without reading the XML; or two empty texts."""
    match = _ROOT.search(data[:4096].replace(b"\0", b""))
    return (match[1].decode("ascii", "replace"), match[2].decode("latin-1")) if match else ("", "")


def elements(data: bytes, file_name: str, *, namespace: str | None = None) -> Iterator[Element]:
    """Starts and ends of all elements in order. With ``namespace``, names of other namespaces stand as ``{uri}name``.

    Raises RefusedInput at once for a DTD (so for entities, bombs and references to other files too), for text that
    is not well-formed, for elements nested too deeply or too long.
    """
    handler = _Handler(file_name, namespace)
    parser = make_parser()
    parser.forbid_dtd = True
    parser.setFeature(feature_namespaces, namespace is not None)
    parser.setContentHandler(handler)
    # A parser that is fed piecemeal does not hand its locator out by itself.
    handler.setDocumentLocator(parser)
    silent = 0
    try:
        for at in range(0, len(data), _CHUNK):
            parser.feed(data[at : at + _CHUNK])
            silent = 0 if handler.moved else silent + _CHUNK
            handler.moved = False
            if silent >= _MAX_SILENT:
                raise RefusedInput(
                    "one tag or comment is very long", file=file_name, line=handler.line,
                    expected=f"at most {_MAX_SILENT} bytes",
                )  # fmt: skip
            yield from handler.drain()
        parser.close()
        yield from handler.drain()
    except DefusedXmlException as fault:
        kind = type(fault).__name__.removesuffix("Forbidden")
        raise RefusedInput(
            f"the XML brings a document type or entities of its own ({kind})",
            file=file_name,
            line=handler.line,
            expected="XML without <!DOCTYPE",
        ) from None
    except SAXParseException as fault:
        raise RefusedInput(
            f"the XML is not well-formed: {fault.getMessage()}",
            file=file_name,
            line=fault.getLineNumber() or None,
            expected="well-formed XML",
        ) from None
    except (SAXException, ValueError, LookupError) as fault:
        raise RefusedInput(
            f"the XML cannot be read: {fault}", file=file_name, line=handler.line, expected="well-formed XML"
        ) from None


class _Handler(ContentHandler):
    def __init__(self, file_name: str, namespace: str | None):
        super().__init__()
        self._file_name, self._namespace = file_name, namespace
        self._locator: Any = None
        self._found: list[Element] = []
        self._text: list[str] = []
        self._length = self._depth = 0
        self.moved = False

    def setDocumentLocator(self, locator: Any) -> None:
        self._locator = locator

    @property
    def line(self) -> int:
        return int(self._locator.getLineNumber() or 1) if self._locator else 1

    def drain(self) -> list[Element]:
        found, self._found = self._found, []
        return found

    def startElement(self, name: str, attrs: Any) -> None:
        self._start(name, dict(attrs.items()))

    def endElement(self, name: str) -> None:
        self._end(name)

    def startElementNS(self, name: tuple[str | None, str], qname: str | None, attrs: Any) -> None:
        self._start(self._called(name), {key[1]: value for key, value in attrs.items()})

    def endElementNS(self, name: tuple[str | None, str], qname: str | None) -> None:
        self._end(self._called(name))

    def _called(self, name: tuple[str | None, str]) -> str:
        return name[1] if name[0] == self._namespace else f"{{{name[0] or ''}}}{name[1]}"

    def _start(self, name: str, attributes: Mapping[str, str]) -> None:
        self.moved = True
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise RefusedInput(
                "elements are nested too deeply", file=self._file_name, line=self.line,
                expected=f"at most {_MAX_DEPTH} levels",
            )  # fmt: skip
        self._text, self._length = [], 0
        self._found.append(Element(True, name, attributes, "", self.line))

    def _end(self, name: str) -> None:
        self.moved = True
        self._depth -= 1
        self._found.append(Element(False, name, _NO_TEXT, "".join(self._text).strip(), self.line))
        self._text, self._length = [], 0

    def characters(self, content: str) -> None:
        self.moved = True
        self._length += len(content)
        if self._length > _MAX_TEXT:
            raise RefusedInput(
                "the text of one element is very long", file=self._file_name, line=self.line,
                expected=f"at most {_MAX_TEXT} characters",
            )  # fmt: skip
        self._text.append(content)
