"""Event and instruction tokens in what users write are tokens, with the vocabulary's own ids; no other ones are."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from higgs_core.checkpoint.load import load_config
from higgs_core.checkpoint.tiny import write_tiny
from higgs_core.errors import RequestError
from higgs_core.prompt.chatml import ChatMLSample, Message, TextContent
from higgs_core.prompt.layout import build_prompt
from higgs_core.prompt.tokenizer import HiggsTokenizer
from higgs_core.text.chunking import cut
from higgs_core.text.markup import TEXT_TOKENS
from higgs_core.text.normalize import EVENT_TAGS, normalize
from tests.golden import CASES
from tests.helpers.real_layout import PLACES, tokenizers_of_real_layout

FAST, OURS = tokenizers_of_real_layout()
VOCABULARY = FAST.get_vocab()
FIRST_ADDED = VOCABULARY["<|begin_of_text|>"]
OTHER_TOKENS = [name for name in FAST.get_added_vocab() if name not in TEXT_TOKENS]
_ANY_TEXT_TOKEN = re.compile("|".join(map(re.escape, TEXT_TOKENS)))


def theirs(text: str) -> list[int]:
    """transformers' own encoding."""
    return list(FAST.encode(text, add_special_tokens=False))


def test_the_layout_is_that_of_the_released_vocabulary() -> None:
    assert {name: VOCABULARY[name] - FIRST_ADDED for name in PLACES} == PLACES
    assert FAST.encode("a") == [FIRST_ADDED, *theirs("a")]
    assert theirs("quiet room") != [token for letter in "quiet room" for token in theirs(letter)]  # words merge


@pytest.mark.parametrize("token", TEXT_TOKENS)
def test_each_token_is_one_id_the_vocabularys_own(token: str) -> None:
    assert OURS.encode(token) == [FIRST_ADDED + PLACES[token]]
    assert OURS.encode(f"Before {token} after") == theirs(f"Before {token} after")


@pytest.mark.parametrize("written", EVENT_TAGS)
def test_what_boson_lets_users_write_for_a_sound_is_a_sound_to_the_model(written: str) -> None:
    text = normalize(f"Well {written} then")
    ids = OURS.encode(text)
    assert ids == theirs(text)
    assert len(set(ids) & {VOCABULARY[token] for token in TEXT_TOKENS}) == 2
    assert OURS.decode(ids) == text


@pytest.mark.parametrize("token", OTHER_TOKENS[:40])
def test_no_other_special_token_can_be_written(token: str) -> None:
    ids = OURS.encode(f"<SE>{token}</SE> {token}")
    assert [at for at in ids if at >= FIRST_ADDED] == [VOCABULARY["<SE>"], VOCABULARY["</SE>"]]
    assert OURS.decode(ids) == f"<SE>{token}</SE> {token}"


@pytest.mark.parametrize(
    "near", ["<se>", "<SE >", "< SE>", "<SE_S>", "<SEs>", "&lt;SE&gt;", "<\u200bSE>", "＜SE＞", "<SE"]
)
def test_what_only_looks_like_one_is_letters(near: str) -> None:
    assert max(OURS.encode(near)) < FIRST_ADDED


WRITTEN = st.lists(
    st.one_of(
        st.text(st.characters(codec="utf-8"), max_size=8),
        st.sampled_from(TEXT_TOKENS),
        st.sampled_from(OTHER_TOKENS),
        st.sampled_from(["<", "SE", "_s", "_e", ">", "</", "<|", "|>", "generation_instruction_start", " ", "\n"]),
    ),
    max_size=12,
).map("".join)


@settings(max_examples=400)
@given(WRITTEN)
def test_whatever_is_written_gives_exactly_the_tokens_that_it_spells(text: str) -> None:
    ids = OURS.encode(text)
    special = [FAST.convert_ids_to_tokens(token) for token in ids if token >= FIRST_ADDED]
    assert special == _ANY_TEXT_TOKEN.findall(text)
    assert OURS.decode(ids) == text


@settings(max_examples=400)
@given(WRITTEN.filter(lambda text: not any(token in text for token in OTHER_TOKENS)))
def test_text_without_other_tokens_is_encoded_as_transformers_does(text: str) -> None:
    assert OURS.encode(text) == theirs(text)


@pytest.mark.parametrize("role", ["system", "user", "assistant"])
def test_they_are_tokens_in_every_turn_and_split_over_parts_they_are_letters(role: str) -> None:
    config = load_config(CASES[0].folder)

    def ids(*parts: str) -> list[int]:
        messages = [Message(role, [TextContent(part) for part in parts]), Message("user", "x")]  # type: ignore[arg-type]
        prompt = build_prompt(ChatMLSample(messages), OURS, config, lambda _: None, force_audio=True)  # type: ignore[arg-type, return-value]
        return [token - FIRST_ADDED for token in prompt.token_ids if token >= FIRST_ADDED]

    layout = [PLACES["<|begin_of_text|>"], *[PLACES["<|start_header_id|>"], PLACES["<|end_header_id|>"]]]
    assert ids("a <SE>[Cough]</SE> b")[:5] == [*layout, PLACES["<SE>"], PLACES["</SE>"]]
    assert ids("a <S", "E> b")[:4] == [*layout, PLACES["<|eot_id|>"]]


def test_half_a_surrogate_pair_beside_a_token_is_refused() -> None:
    with pytest.raises(RequestError, match="surrogate"):
        OURS.encode("<SE>\ud800</SE>")


def test_a_vocabulary_that_lacks_them_reads_them_as_letters() -> None:
    golden = HiggsTokenizer.from_folder(str(CASES[0].folder))
    assert golden.decode(golden.encode("<SE>[Cough]</SE>")) == "<SE>[Cough]</SE>"
    assert len(golden.encode("<SE>")) == 4


def test_the_built_in_checkpoint_has_them(tmp_path_factory: pytest.TempPathFactory) -> None:
    tiny = HiggsTokenizer.from_folder(str(write_tiny(tmp_path_factory.mktemp("tiny"))[0]))
    assert [len(tiny.encode(token)) for token in TEXT_TOKENS] == [1] * 8


@pytest.mark.parametrize(
    "script",
    [
        "One two <SE>[Loud Laughter]</SE> three four five six",
        "你好<SE>[Laughter]</SE>世界，再见<SE_s>[Humming]</SE_s>朋友<SE_e>[Humming]</SE_e>",
        "<|generation_instruction_start|>\nSay it [SPEAKER1] as a question.\n<|generation_instruction_end|>\nIs it so?",
    ],
)
def test_a_cut_never_goes_through_markup(script: str) -> None:
    for piece in cut(script, "word", 1):
        assert piece.count("<SE>") == piece.count("</SE>")
        assert piece.count("<SE_s>") == piece.count("</SE_s>")
        assert piece.count("instruction_start") == piece.count("instruction_end")
    assert cut(script, "word", 1)[0] not in ("<SE>", "<|generation_instruction_start|>")


def test_an_instruction_goes_with_the_words_after_it_and_a_sound_with_the_word_that_it_is_written_onto() -> None:
    instruction = "<|generation_instruction_start|> Calm. <|generation_instruction_end|>"
    assert cut(f"One. {instruction} Two<SE>[Cough]</SE> three.", "word", 1) == [
        "One.",
        f"{instruction} Two<SE>[Cough]</SE>",
        "three.",
    ]
    assert cut("你好世界<SE>[Cough]</SE>再见", "word", 1) == ["你好", "世", "界<SE>[Cough]</SE>", "再见"]
