"""The kinds of value an environment variable can hold, each read from the text that operators write."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field

MAX_CONCURRENCY = 256
ANY_ORIGIN = "*"

_DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
_LEVELS = {"WARN": "WARNING", "FATAL": "CRITICAL"}  # logging knows them under both names


def _none_when_blank(value: Any) -> Any:
    return None if isinstance(value, str) and not value.strip() else value


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _level(value: Any) -> Any:
    name = value.upper() if isinstance(value, str) else value
    return _LEVELS.get(name, name) if isinstance(name, str) else value


def _full_dtype(value: Any) -> Any:
    name = _lower(value)
    return _DTYPES.get(name, name) if isinstance(name, str) else value


def _none_when_off(value: int | None) -> int | None:
    return value if value is not None and value > 0 else None


def _folders(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return tuple(part.strip() for part in value.split(os.pathsep) if part.strip())


def _names(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError("not absolute")
    return path


def _origin(value: str) -> str:
    """An origin as browsers write it: in lower case, without the usual port and without a slash at its end."""
    parts = urlsplit(value)
    if not is_web_address(value) or parts.path not in ("", "/"):
        raise ValueError("not an origin")
    usual_port = ":443" if parts.scheme == "https" else ":80"
    return f"{parts.scheme}://{parts.netloc.removesuffix(usual_port)}".lower()


def _all_or_some(origins: tuple[str, ...]) -> tuple[str, ...]:
    if ANY_ORIGIN in origins and len(origins) > 1:
        raise ValueError("* beside others")
    return tuple(dict.fromkeys(origins))


def _web_address(value: str) -> str:
    if not is_web_address(value):
        raise ValueError("not an http(s) address")
    return value.rstrip("/")


def is_web_address(value: str) -> bool:
    """Whether `value` is an http(s) address with a host and without user, query, fragment or odd characters."""
    if not value.isascii() or any(c <= " " or c in "\\@?#\x7f" for c in value):
        return False
    try:
        parts = urlsplit(value)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a malformed bracketed host, or a port that is no number
        return False


OptionalFloat = Annotated[float | None, BeforeValidator(_none_when_blank)]
CountOrOff = Annotated[int | None, BeforeValidator(_none_when_blank), AfterValidator(_none_when_off)]
Concurrency = Annotated[Annotated[int, Field(ge=1, le=MAX_CONCURRENCY)] | Literal["auto"], BeforeValidator(_lower)]
HangSeconds = Annotated[Annotated[float, Field(ge=1, le=86_400)] | Literal["auto"], BeforeValidator(_lower)]
Device = Annotated[str, BeforeValidator(_lower)]
Dtype = Annotated[Literal["auto", "float32", "float16", "bfloat16"], BeforeValidator(_full_dtype)]
Weights = Annotated[Literal["auto", "int8", "fp8"], BeforeValidator(_lower)]
ResponseFormat = Annotated[Literal["wav", "flac", "mp3", "opus", "pcm"], BeforeValidator(_lower)]
Mode = Annotated[Literal["queue", "http"], BeforeValidator(_lower)]
LogLevel = Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(_level)]
Folder = Annotated[Path, AfterValidator(_absolute)]
Folders = Annotated[tuple[Folder, ...], BeforeValidator(_folders)]
Names = Annotated[tuple[str, ...], BeforeValidator(_names)]
Origin = Literal["*"] | Annotated[str, AfterValidator(_origin)]
Origins = Annotated[tuple[Origin, ...], BeforeValidator(_names), AfterValidator(_all_or_some)]
WebAddress = Annotated[str, AfterValidator(_web_address)]
