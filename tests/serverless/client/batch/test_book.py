"""Books: chapters, parts, the list for players and the joined file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from serverless.client.batch.book import chapters_of
from serverless.client.batch.playlist import PAUSE_SECONDS, check_join, join, playlist
from serverless.client.errors import ClientError

ALICE = """The Book of Alice

CONTENTS

CHAPTER I. Down the Rabbit-Hole
CHAPTER II. The Pool of Tears

CHAPTER I.
Down the Rabbit-Hole

Alice was tired.

Chapter 2 was long, she thought.

CHAPTER II. The Pool of Tears

Curiouser and curiouser!

Epilogue

The end.
"""


def titles(text: str) -> list[str]:
    return [chapter.title for chapter in chapters_of(text)]


def test_headings_make_chapters_and_a_list_of_contents_makes_none() -> None:
    chapters = chapters_of(ALICE)
    assert [chapter.title for chapter in chapters] == [
        "",
        "CHAPTER I. Down the Rabbit-Hole",
        "CHAPTER II. The Pool of Tears",
        "Epilogue",
    ]
    assert chapters[1].parts == (
        "CHAPTER I. Down the Rabbit-Hole.\n\nAlice was tired.\n\nChapter 2 was long, she thought.",
    )
    assert chapters[3].parts == ("Epilogue.\n\nThe end.",)


@pytest.mark.parametrize(
    ("heading", "title"),
    [
        ("Chapter 1", "Chapter 1"),
        ("CHAPTER IV. The Title", "CHAPTER IV. The Title"),
        ("Chapter Twenty-One: Home", "Chapter Twenty-One: Home"),
        ("Kapitel 3", "Kapitel 3"),
        ("# A Title #", "A Title"),
        ("## Another", "Another"),
        ("PROLOGUE", "PROLOGUE"),
        ("Chapter 5 — The Road", "Chapter 5 — The Road"),
    ],
)
def test_a_heading_is_found(heading: str, title: str) -> None:
    assert titles(f"{heading}\n\nSome text.") == [title]


@pytest.mark.parametrize(
    "line",
    [
        "Chapter 3 of the book is the one that he liked.",
        "Chapter and verse.",
        "Part of me knew.",
        "Book the table, please.",
        "Introduction of the new law came late.",
        "#hashtag",
        "Chapter 9 " + "x" * 100,
    ],
)
def test_a_sentence_is_no_heading(line: str) -> None:
    assert titles(f"{line}\n\nSome text.") == [""]


def test_markdown_headings_without_text_join_the_next_one() -> None:
    assert titles("# Part One\n\n## Chapter 1\n\nText.\n\n## Chapter 2\n\nMore.\n") == [
        "Part One: Chapter 1",
        "Chapter 2",
    ]


def test_a_long_chapter_is_cut_at_paragraphs_then_sentences_then_words() -> None:
    text = (
        "# One\n\n"
        + "\n\n".join(["A short paragraph."] * 10)
        + "\n\n"
        + "A sentence of some words. " * 10
        + "word" * 50
    )
    (chapter,) = chapters_of(text, 100)
    assert all(len(part) <= 100 for part in chapter.parts)
    assert chapter.parts[0].startswith("One.\n\nA short paragraph.\n\n")
    assert chapter.parts[0].endswith("A short paragraph.")


@given(st.text(alphabet="ab .\n#", max_size=400), st.integers(5, 60))
def test_no_word_of_a_book_is_lost_or_doubled(text: str, most: int) -> None:
    spoken = "".join("".join(part.split()) for chapter in chapters_of(f"x\n{text}", most) for part in chapter.parts)
    parts = [part for chapter in chapters_of(f"x\n{text}", most) for part in chapter.parts]
    assert all(0 < len(part) <= most for part in parts)
    if "#" not in text:
        assert spoken == "".join(f"x\n{text}".split())


def test_chapters_are_joined_in_order_with_a_pause_between(tmp_path: Path) -> None:
    rate = 24_000
    files = []
    for index, suffix in enumerate(("wav", "flac", "wav")):
        files.append(tmp_path / f"{index}.{suffix}")
        soundfile.write(files[-1], np.full(rate, 0.1 * (index + 1), np.float32), rate)
    seconds = join(files, tmp_path / "book.wav")
    audio, _ = soundfile.read(tmp_path / "book.wav")
    assert seconds == len(audio) / rate == 3 + 2 * PAUSE_SECONDS
    middles = [audio[round((at + 0.5) * rate)] for at in range(5)]
    assert middles == pytest.approx([0.1, 0.0, 0.2, 0.0, 0.3], abs=1e-3)


@pytest.mark.parametrize("suffix", ["flac", "mp3"])
def test_a_joined_file_can_be_read(tmp_path: Path, suffix: str) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(24_000), 24_000)
    join([tmp_path / "a.wav"] * 2, tmp_path / f"book.{suffix}")
    assert soundfile.info(tmp_path / f"book.{suffix}").duration == pytest.approx(3, abs=0.2)


def test_what_cannot_be_joined_leaves_no_file_and_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"no audio")
    with pytest.raises(ClientError, match="cannot be made"):
        join([tmp_path / "a.wav"], tmp_path / "book.wav")
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]
    for target, audio_format in (("book.ogg", "mp3"), ("book.mp3", "aac")):
        with pytest.raises(ClientError, match="--join"):
            check_join(tmp_path / target, audio_format, tmp_path)


def test_a_joined_file_goes_to_a_folder_that_is_there_or_will_be(tmp_path: Path) -> None:
    """It is made at the very end, when it would be late to say that it cannot be."""
    output = tmp_path / "book"
    check_join(tmp_path / "book.mp3", "mp3", output)
    check_join(output / "book.mp3", "mp3", output)
    (tmp_path / "folder.mp3").mkdir()
    for target in (tmp_path / "missing/book.mp3", tmp_path / "folder.mp3"):
        with pytest.raises(ClientError, match=r"--join is .*; give a name in a folder that is there"):
            check_join(target, "mp3", output)


def test_the_list_for_players_has_titles_and_seconds() -> None:
    assert playlist([("01-a.mp3", "A\nB", 61.4), ("02-b.mp3", "", 2.0)]) == (
        "#EXTM3U\n#EXTINF:61,A B\n01-a.mp3\n#EXTINF:2,\n02-b.mp3\n"
    )
