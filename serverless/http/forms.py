"""A form with one file (multipart/form-data, RFC 7578), bounded in parts and bytes; python-multipart splits it."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from serverless.http.errors import HttpProblem

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_FILE_BYTES = 10_000_000
MAX_TEXT_BYTES = 32_768
MAX_PARTS = 16
MAX_FORM_BYTES = MAX_FILE_BYTES + MAX_PARTS * (MAX_TEXT_BYTES // 4)
_LONGEST_BOUNDARY = 70  # RFC 2046, 5.1.1

_SILENT = logging.Logger("forms", level=logging.CRITICAL + 1)


@dataclass
class Form:
    """texts: by field.  file: the file's bytes, None where no part brought it.  extension: of the name that the client
    gave it, without the dot.  unknown: how many parts belong to no field."""

    texts: dict[str, str] = field(default_factory=dict)
    file: bytes | None = None
    extension: str | None = None
    unknown: int = 0


async def read_form(request: Request, *, texts: Collection[str], file: str) -> Form:
    """The form that a request brings. texts: the fields that hold text.  file: the one that holds a file.

    The body is bounded in bytes and time as JSON is, and read in the thread of bodies.
    Raises HttpProblem for what is no such form, or more than it may hold.
    """
    bodies = request.app.state.bodies
    raw = await bodies.received(request, limit=MAX_FORM_BYTES)
    form: Form = await bodies.in_thread(parse_form, raw, request.headers["content-type"], frozenset(texts), file)
    return form


def parse_form(raw: bytearray, content_type: str, texts: Collection[str], file: str) -> Form:
    """The form in the bytes of a body. Raises HttpProblem."""
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if not 0 < len(boundary) <= _LONGEST_BOUNDARY:
        raise _malformed()
    reader = _Reader(texts, file)
    try:
        parser = MultipartParser(boundary, reader.callbacks())
        parser.logger = _SILENT  # its lines repeat bytes of the client's
        parser.write(bytes(raw))
        parser.finalize()
    except (FormParserError, UnicodeDecodeError):
        raise _malformed() from None
    if not reader.ended:
        raise _malformed()
    return reader.form


class _Reader:
    """Takes what the parser finds. A part of an unknown field is counted and dropped."""

    def __init__(self, texts: Collection[str], file: str) -> None:
        self.form = Form()
        self.ended = False
        self._texts = texts
        self._file = file
        self._parts = 0
        self._header = bytearray(), bytearray()
        self._disposition = b""
        self._name = ""
        self._data = bytearray()

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._begin_part,
            "on_header_begin": self._begin_header,
            "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": self._take,
            "on_part_end": self._end_part,
            "on_end": self._end,
        }

    def _begin_part(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise HttpProblem("invalid_request", f"The form has more than {MAX_PARTS} parts.")
        self._disposition, self._name = b"", ""
        self._data = bytearray()

    def _begin_header(self) -> None:
        self._header = bytearray(), bytearray()

    def _end_header(self) -> None:
        name, value = self._header
        if name.lower() == b"content-disposition":
            self._disposition = bytes(value)

    def _end_headers(self) -> None:
        kind, options = parse_options_header(self._disposition)
        if kind != b"form-data" or not (name := options.get(b"name")):
            raise _malformed()
        self._name = name.decode()
        if self._name in self._texts and b"filename" in options:
            raise HttpProblem("invalid_request", f"{self._name} is a file; allowed is text.", field=self._name)
        if self._name in self.form.texts or (self._name == self._file and self.form.file is not None):
            raise HttpProblem("invalid_request", f"{self._name} is given twice.", field=self._name)
        if self._name == self._file:
            named = PurePosixPath(options.get(b"filename", b"").decode(errors="replace")).suffix
            self.form.extension = named.removeprefix(".")[:16] or None
        elif self._name not in self._texts:
            self.form.unknown += 1

    def _take(self, data: bytes, start: int, end: int) -> None:
        if self._name == self._file:
            limit, text = MAX_FILE_BYTES, f"{MAX_FILE_BYTES / 1e6:g} MB"
        elif self._name in self._texts:
            limit, text = MAX_TEXT_BYTES, f"{MAX_TEXT_BYTES} bytes"
        else:
            return
        if len(self._data) + end - start > limit:
            raise HttpProblem("request_too_large", f"{self._name} has more than {text}.", field=self._name)
        self._data += data[start:end]

    def _end_part(self) -> None:
        if self._name == self._file:
            self.form.file = bytes(self._data)
        elif self._name in self._texts:
            self.form.texts[self._name] = self._data.decode()

    def _end(self) -> None:
        self.ended = True


def _malformed() -> HttpProblem:
    return HttpProblem(
        "invalid_request",
        "The body is not a form as its Content-Type says.",
        hint="Send multipart/form-data with a boundary, each part with a name, texts in UTF-8.",
    )
