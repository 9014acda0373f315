"""What the demo voice is judged by stays apart from what it may be trained on."""

from __future__ import annotations

import random

import pytest

from scripts.demo_voice import domain, held_out
from scripts.demo_voice.scoring import normalised, pronunciations


def sentences(count: int = 2000) -> list[str]:
    rng = random.Random(3)
    return [domain.sentence(rng) for _ in range(count)]


def test_training_and_judging_share_no_sentence() -> None:
    judged = domain.held_out(300)
    assert len(set(judged)) == 300
    assert all(map(domain.is_held_out, judged))
    assert not any(map(domain.is_held_out, sentences()))


def test_case_and_punctuation_do_not_decide_what_is_held_out() -> None:
    for text in domain.held_out(20):
        assert domain.is_held_out(text.upper().replace(",", "").rstrip(".?!"))


def test_the_same_seed_gives_the_same_sentences() -> None:
    assert domain.held_out(20, seed=4) == domain.held_out(30, seed=4)[:20]
    assert domain.held_out(20, seed=4) != domain.held_out(20, seed=5)
    assert sentences(20) == sentences(20)


def test_the_domains_sentences_are_short_and_punctuated() -> None:
    for text in sentences():
        assert 3 <= len(domain.words_of(text)) <= 14, text
        assert text[0].isupper()
        assert text[-1] in ".?!"
        assert "{" not in text


def test_a_word_that_begins_with_a_vowel_follows_an() -> None:
    assert not [text for text in sentences(20_000) if " a old " in text or " a empty " in text]


def all_readings() -> list[str]:
    plain = [*sentences(), *held_out.open_sentences(), *held_out.long_texts()]
    return [*plain, *(reading for item in held_out.written_forms() for reading in item.readings)]


def test_the_recogniser_knows_every_word() -> None:
    words = {word for text in all_readings() for word in normalised(text)}
    assert not {word for word in words if not pronunciations((word,))}


def test_the_sets_have_the_sizes_that_are_promised() -> None:
    open_sentences = held_out.open_sentences()
    assert len(set(open_sentences)) == 72
    assert all(6 <= len(domain.words_of(text)) <= 14 for text in open_sentences)
    assert len(held_out.sentences_with_withheld_words()) == len(held_out.sentences_of_known_words()) == 36
    assert [len(held_out.sentences_of(text)) for text in held_out.long_texts()] == [10] * 8
    assert sum("[SPEAKER1]" in text for text in held_out.long_texts()) == 2
    assert len(held_out.written_forms()) == 24
    assert len(held_out.for_ci()) == 12


def test_withheld_words_stand_where_they_are_marked_and_nowhere_else() -> None:
    withheld = held_out.withheld_words()
    elsewhere = [*sentences(20_000), *held_out.sentences_of_known_words(), *held_out.long_texts()]
    assert len(withheld) > 55
    assert not [text for text in elsewhere if not withheld.isdisjoint(domain.words_of(text))]


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("Put it down, please.", True),
        ("The theater is near.", False),
        ("I forgot my umbrella on the bus this morning!", False),
        ("what will it cost and who is going to pay for it", False),
        (domain.held_out(1)[0], False),
    ],
)
def test_training_refuses_what_the_sets_hold(text: str, allowed: bool) -> None:
    assert held_out.may_train_on(text) == allowed


def test_the_scripts_of_jobs_are_found_in_every_form() -> None:
    texts = held_out.texts_of_test_inputs()
    assert len(texts) == len(set(texts)) > 20
    assert all(isinstance(text, str) and text.strip() for text in texts)
    assert any(text.count("[SPEAKER") > 1 for text in texts)
    assert "Hello. It is a fine day." in texts  # the README's
