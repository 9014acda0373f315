"""Names of output files: safe on every common file system, and told apart where no case is."""

from __future__ import annotations

import re
import unicodedata

MAX_NAME = 120
"""Characters of a file's name, its suffix among them."""

_UNSAFE = re.compile(r"[^\w.-]+")
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # devices, on Windows


def slug(text: str, most: int = 40) -> str:
    """Words of a text as part of a file's name: `Hello, there!` is `hello-there`. May be empty."""
    words = unicodedata.normalize("NFKC", text[: 20 * most]).casefold()
    joined = re.sub(r"[\W_]+", "-", words).strip("-")
    if len(joined) <= most:
        return joined
    cut, _, rest = joined[:most].rpartition("-")
    return cut or rest


def safe(name: str) -> str:
    """A name that a person gave as a file's: signs that some file system refuses become hyphens. May be empty."""
    cleaned = _UNSAFE.sub("-", unicodedata.normalize("NFC", name)).strip(".-")[: MAX_NAME - 20]
    return f"_{cleaned}" if _RESERVED.fullmatch(cleaned) else cleaned


def is_file_name(name: str) -> bool:
    """Whether a name can be a file's as it is."""
    return (
        0 < len(name) <= MAX_NAME
        and len(name.encode("utf-8", "replace")) <= 250
        and name.isprintable()
        and not re.search(r'[\\/:*?"<>|]', name)
        and not name.startswith(".")
        and not name.endswith((".", " "))
        and not _RESERVED.fullmatch(name)
    )


def folded(name: str) -> str:
    """Equal for names that some file system takes for one."""
    return unicodedata.normalize("NFC", name).casefold()
