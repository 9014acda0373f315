"""Detects a clip's container from its first bytes, never from its name or media type."""

from __future__ import annotations

from enum import StrEnum


class Container(StrEnum):
    """What can be decoded: the first four by libsndfile, the others by ffmpeg where it is installed."""

    WAV = "wav"
    FLAC = "flac"
    OGG = "ogg"
    MP3 = "mp3"
    MP4 = "m4a"
    WEBM = "webm"
    AAC = "aac"


NEEDS_FFMPEG = frozenset({Container.MP4, Container.WEBM, Container.AAC})
_ID3_HEADER_BYTES = 10


def sniff(data: bytes) -> Container | None:
    """The container that `data` starts with, or None: text, pages, playlists and every other format."""
    if data[:4] in (b"RIFF", b"RF64") and data[8:12] == b"WAVE":
        return Container.WAV
    if data[:4] == b"fLaC":
        return Container.FLAC
    if data[:4] == b"OggS":
        return Container.OGG
    if data[4:8] == b"ftyp":
        return Container.MP4
    if data[:4] == b"\x1aE\xdf\xa3":
        return Container.WEBM
    if data[:3] == b"ID3" and len(data) > _ID3_HEADER_BYTES:
        tagged = data[_id3_end(data) :][:4]
        return Container.FLAC if tagged == b"fLaC" else _mpeg_audio(tagged) or Container.MP3
    return _mpeg_audio(data[:4])


def looks_like_a_page(data: bytes) -> bool:
    """Whether the bytes are HTML, XML or JSON: the usual answer of a server that did not find the clip."""
    return data[:256].lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"<", b"{", b"[")


def _id3_end(data: bytes) -> int:
    """Where the frames after an ID3v2 tag start. Its size has seven bits a byte; a footer repeats the header."""
    size = 0
    for byte in data[6:10]:
        size = size << 7 | byte & 0x7F
    has_footer = data[5] & 0x10
    return _ID3_HEADER_BYTES + size + (_ID3_HEADER_BYTES if has_footer else 0)


def _mpeg_audio(header: bytes) -> Container | None:
    """MP3 or AAC (ADTS) from a frame header of four bytes, with its reserved values refused."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return None
    if header[1] & 0xF6 == 0xF0:
        return Container.AAC if header[2] >> 2 & 0x0F < 13 else None
    version, layer = header[1] >> 3 & 3, header[1] >> 1 & 3
    bit_rate, sampling_rate = header[2] >> 4, header[2] >> 2 & 3
    return Container.MP3 if version != 1 and layer != 0 and bit_rate != 15 and sampling_rate != 3 else None
