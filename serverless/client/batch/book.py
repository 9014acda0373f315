"""One text as the chapters of an audiobook."""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_HEADING = 100
"""Characters of a line that may be a heading."""
MAX_CHAPTERS = 5_000
PART_CHARACTERS = 15_000
"""Of one job, unless the caller says otherwise: below the limit of a script, and some 17 minutes of speech."""

_NUMBER = r"(?:\d{1,4}|[IVXLCDM]{1,9}|[A-Z]?[a-z]{2,11}(?:[- ][a-z]{3,7})?|[A-Z]{3,11}(?:[- ][A-Z]{3,7})?)"
_CHAPTER = re.compile(
    rf"(?P<kind>chapter|kapitel|chapitre|cap[ií]tulo|capitolo|hoofdstuk|глава|part|book)\s+"
    rf"(?P<number>(?-i:{_NUMBER}))(?P<mark>\s*[.:)\-—–]*)\s*(?P<title>.*)",
    re.IGNORECASE,
)
_ALONE = re.compile(
    r"(prologue|epilogue|preface|foreword|introduction|afterword|interlude|prolog|epilog|vorwort|nachwort)\s*"
    r"(?:[.:\-—–]\s*(?P<title>.*))?",
    re.IGNORECASE,
)
_MARKDOWN = re.compile(r"#{1,3}\s+(?P<title>.*?)\s*#*")
_WORDS_OF_NUMBERS = re.compile(
    r"(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen|"
    r"eighteen|nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|hundred|first|second|third|fourth|fifth|"
    r"sixth|seventh|eighth|ninth|tenth|last)(?:[- ][a-z]+)?",
    re.IGNORECASE,
)
_PARAGRAPHS = re.compile(r"\n[ \t]*\n\s*")
_SENTENCES = re.compile(r"(?<=[.!?…。！？])[\"'”’»)]*\s+")


@dataclass(frozen=True)
class Chapter:
    """title: its heading, "" for a text without any. parts: what is spoken, the heading at the front, each short
    enough for one job."""

    title: str
    parts: tuple[str, ...]


def chapters_of(text: str, part_characters: int = PART_CHARACTERS) -> list[Chapter]:
    """The chapters of a text, in order.

    A heading is a line of its own such as `Chapter 1`, `CHAPTER IV. Title`, `Prologue` or Markdown's `# Title`, with an
    empty line or nothing before it. Text before the first one is a chapter without a title. A heading without text is
    left out, as in a list of contents; a Markdown heading without text joins the next heading. What is longer than
    `part_characters` is cut at paragraphs, then at sentences, then between words.
    """
    chapters: list[Chapter] = []
    for title, body in _sections(text.replace("\r\n", "\n").replace("\r", "\n").split("\n")):
        if not _is_contents(body):
            spoken = f"{title}{'' if not title or title[-1] in '.!?:…' else '.'}\n\n{body}" if title else body
            chapters.append(Chapter(title, tuple(_cut(spoken, part_characters))))
    return chapters


def _is_contents(body: str) -> bool:
    """Whether a text is empty, or the further lines of a list of contents."""
    lines = [line.strip() for line in body.split("\n") if line.strip()]
    return all((len(line) <= MAX_HEADING and _CHAPTER.fullmatch(line)) or _ALONE.fullmatch(line) for line in lines)


def _sections(lines: list[str]) -> list[tuple[str, str]]:
    """(heading, text below it), the first with an empty heading."""
    found: list[tuple[str, list[str]]] = [("", [])]
    above = ""  # Markdown headings without text
    at = 0
    while at < len(lines):
        title, used, is_markdown = _heading(lines, at)
        if not used:
            found[-1][1].append(lines[at])
            at += 1
            continue
        if is_markdown:
            last_title, last_body = found[-1]
            above = last_title if above is not None and last_title and not "".join(last_body).strip() else ""
        full = f"{above}: {title}" if above else title
        above = ""
        found.append((full, []))
        at += used
    return [(title, "\n".join(body).strip()) for title, body in found]


def _heading(lines: list[str], at: int) -> tuple[str, int, bool]:
    """The heading that begins in a line, how many lines it takes (0 for none), and whether it is Markdown's."""
    line = lines[at].strip()
    if not line or len(line) > MAX_HEADING:
        return "", 0, False
    if markdown := _MARKDOWN.fullmatch(line):
        return markdown["title"], 1 if markdown["title"] else 0, True
    if at > 0 and lines[at - 1].strip():
        return "", 0, False
    after = lines[at + 1].strip() if at + 1 < len(lines) else ""
    if alone := _ALONE.fullmatch(line):
        return line, 0 if after and not alone["title"] and len(after) > MAX_HEADING else 1, False
    found = _CHAPTER.fullmatch(line)
    if found is None or not _is_number(found["number"]):
        return "", 0, False
    title, mark = found["title"].strip(), found["mark"].strip()
    if title and not mark and (not title[0].isupper() or title[-1] in ".,;" or after):
        return "", 0, False  # a sentence that begins with these words
    if title or not after:
        return line, 1, False
    # The title stands in the next line, with an empty line below.
    below = lines[at + 2].strip() if at + 2 < len(lines) else ""
    if len(after) <= MAX_HEADING and not below and after[-1] not in ".,;":
        return f"{line.rstrip(':—–- ')}{'' if line[-1] in '.:' else '.'} {after}", 2, False
    return line, 1, False


def _is_number(text: str) -> bool:
    return text.isdigit() or bool(re.fullmatch("[IVXLCDM]+", text)) or bool(_WORDS_OF_NUMBERS.fullmatch(text))


def _cut(text: str, most: int) -> list[str]:
    """Parts of at most `most` characters, each as long as its paragraphs allow."""
    if len(text) <= most:
        return [text]
    pieces: list[tuple[str, str]] = []  # what joins it to the piece before, and the piece
    for paragraph in _PARAGRAPHS.split(text):
        joint = "\n\n"
        for sentence in [paragraph] if len(paragraph) <= most else _SENTENCES.split(paragraph):
            for words in [sentence] if len(sentence) <= most else _runs(sentence, most):
                pieces.append((joint, words))
                joint = " "
    parts: list[str] = []
    for joint, piece in pieces:
        if parts and len(parts[-1]) + len(joint) + len(piece) <= most:
            parts[-1] += joint + piece
        elif piece.strip():
            parts.append(piece)
    return parts


def _runs(text: str, most: int) -> list[str]:
    """Runs of words; a word that is longer by itself is cut between two characters."""
    runs: list[str] = []
    while len(text) > most:
        at = text.rfind(" ", 1, most + 1)
        end = at if at > 0 else most
        runs.append(text[:end].rstrip())
        text = text[end:].lstrip()
    return [*runs, text] if text else runs
