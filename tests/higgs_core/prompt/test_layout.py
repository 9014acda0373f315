"""Boson's prompt layout, and that no words of a user become a control token, whatever they spell."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from higgs_core.checkpoint.load import load_config
from higgs_core.errors import ModelLoadError, RequestError
from higgs_core.prompt.chatml import AudioContent, ChatMLSample, Content, Message, TextContent
from higgs_core.prompt.layout import Prompt, build_prompt
from higgs_core.prompt.tokenizer import CONTROL_TOKENS, HiggsTokenizer
from tests.golden import CASES, GoldenCase

FOLDER = CASES[0].folder
CONFIG = load_config(FOLDER)
Q, BOS, EOS = 8, 1024, 1025
BACKEND = json.loads((FOLDER / "tokenizer.json").read_text())
CONTROL_SPELLINGS = {token["id"]: token["content"] for token in BACKEND["added_tokens"]}
BYTES = HiggsTokenizer.from_folder(str(FOLDER))  # one token a byte


def merging_tokenizer() -> HiggsTokenizer:
    """A tokenizer like the released one in what matters here: words merge into tokens, and encoding adds a BOS."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    corpus = ["system user assistant Hello there the sun rises\n\n", "<|eot_id|> <|audio_out_bos|> <|scene_desc_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    backend.train_from_iterator(corpus * 20, trainer)
    backend.add_special_tokens(
        [AddedToken(text, special=True, normalized=False) for text in [*CONTROL_TOKENS.values(), "<|end_of_text|>"]]
    )
    begin = "<|begin_of_text|>"
    backend.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A", special_tokens=[(begin, backend.token_to_id(begin))]
    )
    return HiggsTokenizer(PreTrainedTokenizerFast(tokenizer_object=backend))


MERGES = merging_tokenizer()


def encode_clip(clip: AudioContent) -> torch.Tensor:
    return torch.as_tensor(clip.codes)


def prompt_of(messages: Sequence[Message], tokenizer: HiggsTokenizer = BYTES, *, force_audio: bool = True) -> Prompt:
    return build_prompt(ChatMLSample(list(messages)), tokenizer, CONFIG, encode_clip, force_audio=force_audio)


def clip(frames: int, first: int = 0) -> AudioContent:
    """A clip whose codes tell frame and codebook."""
    return AudioContent(codes=[[(first + 8 * t + k) % 1024 for t in range(frames)] for k in range(Q)])


def slow_delay(codes: Any) -> list[list[int]]:
    """The documented columns, as a list of columns: BOS frame, clip, EOS frame, codebook k late by k."""
    frames = [[BOS] * Q, *map(list, zip(*codes, strict=True)), [EOS] * Q]

    def at(moment: int, codebook: int) -> int:
        return BOS if moment < 0 else EOS if moment >= len(frames) else frames[moment][codebook]

    return [[at(column - codebook, codebook) for codebook in range(Q)] for column in range(len(frames) + Q - 1)]


Piece = str | int  # words, or a control token


def layout(messages: Sequence[Message], tokenizer: HiggsTokenizer, force_audio: bool) -> list[Piece]:
    """The documented layout as words and control tokens. Scenes are not marked here: see `marked`."""
    control = tokenizer.control
    pieces: list[Piece] = [control.begin_of_text]
    for index, message in enumerate(messages):
        pieces += [control.start_header, message.role, control.end_header, "\n\n"]
        for part in message.parts:
            if isinstance(part, TextContent):
                pieces += marked(part.text, tokenizer) if message.role == "system" else [part.text]
            elif message.role == "assistant":
                pieces += [control.audio_out_bos, control.audio_out, control.audio_eos]
            else:
                pieces += [control.audio_bos, control.audio_in, control.audio_eos]
        roles = [message.role, *(following.role for following in messages[index + 1 : index + 2])]
        pieces.append(control.end_of_message if roles == ["assistant"] * 2 else control.end_of_turn)
    pieces += [control.start_header, "assistant", control.end_header, "\n\n"]
    return [*pieces, control.audio_out_bos] if force_audio else pieces


def marked(text: str, tokenizer: HiggsTokenizer) -> list[Piece]:
    """A system text with one well-formed scene block, or none."""
    start, end = text.find("<|scene_desc_start|>"), text.rfind("<|scene_desc_end|>")
    if not 0 <= start < end:
        return [text]
    inside = text[start + len("<|scene_desc_start|>") : end]
    marks = tokenizer.control
    return [text[:start], marks.scene_start, inside, marks.scene_end, text[end + len("<|scene_desc_end|>") :]]


def read(ids: Sequence[int], tokenizer: HiggsTokenizer) -> list[Piece]:
    """Ids as control tokens and the words between them."""
    pieces: list[Piece] = []
    words: list[int] = []
    specials = set(tokenizer._fast.get_added_vocab().values())
    for token in [*ids, None]:
        if token is not None and token not in specials:
            words.append(token)
            continue
        if words:
            pieces.append(tokenizer.decode(words))
            words = []
        if token is not None:
            pieces.append(token)
    return pieces


def joined(pieces: Sequence[Piece]) -> list[Piece]:
    """Neighbouring words as one, empty ones dropped."""
    result: list[Piece] = []
    for piece in pieces:
        if isinstance(piece, str) and result and isinstance(result[-1], str):
            result[-1] += piece
        elif piece != "":
            result.append(piece)
    return result


def assert_layout(messages: Sequence[Message], tokenizer: HiggsTokenizer = BYTES, *, force_audio: bool = True) -> None:
    prompt = prompt_of(messages, tokenizer, force_audio=force_audio)
    assert read(prompt.token_ids, tokenizer) == joined(layout(messages, tokenizer, force_audio))


# --- the layout


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_golden_prompts(case: GoldenCase) -> None:
    prompt = build_prompt(case.sample, BYTES, CONFIG, encode_clip, force_audio=case.params.force_audio_gen)
    assert prompt.token_ids == case.raw["prompt_token_ids"]
    assert prompt.length == len(prompt.token_ids) + sum(len(codes[0]) + 8 for codes in case.raw["audio_codes"])
    expected = [column for codes in case.raw["audio_codes"] for column in slow_delay(codes)]
    assert prompt.columns.T.tolist() == expected


def test_a_first_turn_opens_the_text_and_a_generation_prompt_closes_it() -> None:
    control = BYTES.control
    words = BYTES.encode
    assert prompt_of([Message("user", "Hi.")]).token_ids == [
        control.begin_of_text,
        control.start_header,
        *words("user"),
        control.end_header,
        *words("\n\nHi."),
        control.end_of_turn,
        control.start_header,
        *words("assistant"),
        control.end_header,
        *words("\n\n"),
        control.audio_out_bos,
    ]


def test_without_forced_audio_the_model_may_write_first() -> None:
    messages = [Message("user", "Hi.")]
    forced, free = prompt_of(messages), prompt_of(messages, force_audio=False)
    assert forced.token_ids == [*free.token_ids, BYTES.control.audio_out_bos]


def test_content_is_not_stripped() -> None:
    assert_layout([Message("system", "  \n a  "), Message("user", "\n\n b \t"), Message("assistant", " ")])


def test_empty_content_leaves_an_empty_turn() -> None:
    assert_layout([Message("user", ""), Message("assistant", []), Message("user", [TextContent(""), clip(2)])])


def test_only_between_two_assistant_turns_stands_an_end_of_message() -> None:
    roles = ["system", "assistant", "assistant", "assistant", "user", "user", "assistant"]
    messages = [Message(role, role[0]) for role in roles]  # type: ignore[arg-type]
    control = BYTES.control
    ids = prompt_of(messages).token_ids
    closings = [token for token in ids if token in (control.end_of_turn, control.end_of_message)]
    between, turn = control.end_of_message, control.end_of_turn
    assert closings == [turn, between, between, turn, turn, turn, turn]


@pytest.mark.parametrize("tokenizer", [BYTES, MERGES], ids=["bytes", "merges"])
def test_every_piece_is_tokenised_on_its_own(tokenizer: HiggsTokenizer) -> None:
    parts = ["Hel", "lo", " the", "re", "\n", "\n"]
    ids = prompt_of([Message("user", [TextContent(part) for part in parts])], tokenizer).token_ids
    control, words = tokenizer.control, tokenizer.encode
    content = [token for part in parts for token in words(part)]
    assert ids == [
        control.begin_of_text,
        control.start_header,
        *words("user"),
        control.end_header,
        *words("\n\n"),
        *content,
        control.end_of_turn,
        control.start_header,
        *words("assistant"),
        control.end_header,
        *words("\n\n"),
        control.audio_out_bos,
    ]


def test_pieces_of_a_merging_tokenizer_differ_from_the_whole() -> None:
    """Otherwise the test above would show nothing."""
    whole, pieces = MERGES.encode("Hello"), MERGES.encode("Hel") + MERGES.encode("lo")
    assert whole != pieces


# --- clips


def test_clips_become_columns_at_the_place_of_their_placeholder() -> None:
    first, second, third = clip(3), clip(1, 300), clip(12, 600)
    messages = [
        Message("system", [TextContent("S"), first]),
        Message("user", [second, TextContent("U")]),
        Message("assistant", third),
        Message("user", "Now."),
    ]
    prompt = prompt_of(messages)
    control = BYTES.control
    assert_layout(messages)
    frames = iter([3, 1, 12])
    expected: list[int] = []
    for token in prompt.token_ids:
        audio = token in (control.audio_in, control.audio_out)
        expected += [token] * (next(frames) + 2 + 7 if audio else 1)
    assert prompt.positions.tolist() == expected
    assert prompt.is_audio.tolist() == [token in (control.audio_in, control.audio_out) for token in expected]
    columns = [slow_delay(part.codes) for part in (first, second, third)]
    assert prompt.columns.T.tolist() == [column for each in columns for column in each]
    assert int(prompt.is_audio.sum()) == prompt.columns.shape[1]
    assert prompt.length == len(expected)


def test_only_what_the_assistant_said_is_history() -> None:
    """RAS looks back into assistant clips; a voice in the system turn or a user's clip has not been spoken."""
    said, more = clip(4, 100), clip(2, 900)
    prompt = prompt_of(
        [Message("system", clip(5)), Message("user", clip(6)), Message("assistant", [said, more]), Message("user", "x")]
    )
    assert prompt.history.T.tolist() == slow_delay(said.codes) + slow_delay(more.codes)


def test_a_prompt_without_clips_has_no_columns() -> None:
    prompt = prompt_of([Message("user", "Hi.")])
    assert prompt.columns.shape == (Q, 0)
    assert prompt.history.shape == (Q, 0)
    assert not prompt.is_audio.any()
    assert prompt.positions.tolist() == prompt.token_ids


# --- the shared prefix


def test_the_prefix_is_all_but_the_last_turn() -> None:
    shared = [Message("system", [TextContent("S"), clip(3)]), Message("user", "words"), Message("assistant", clip(9))]
    one, other = (prompt_of([*shared, Message("user", text)]) for text in ("One.", "Other words."))
    length = one.prefix_length
    assert length == other.prefix_length
    assert torch.equal(one.positions[:length], other.positions[:length])
    assert int(one.positions[length - 1]) == BYTES.control.end_of_turn
    assert int(one.positions[length]) == BYTES.control.start_header
    assert read(one.positions[length:].tolist(), BYTES)[1] == "user"
    assert int(one.is_audio[:length].sum()) == one.columns.shape[1]


def test_a_single_turn_shares_nothing() -> None:
    assert prompt_of([Message("user", "Hi.")]).prefix_length == 0


@pytest.mark.parametrize("shared", range(4))
def test_a_sample_may_say_which_turns_it_shares(shared: int) -> None:
    messages = [
        Message("system", clip(3)),
        Message("assistant", "a"),
        Message("assistant", clip(2)),
        Message("user", "x"),
    ]
    prompt = build_prompt(ChatMLSample(messages, shared), BYTES, CONFIG, encode_clip, force_audio=True)
    whole = prompt_of(messages)
    assert torch.equal(prompt.positions, whole.positions)
    assert torch.equal(prompt.columns, whole.columns)
    turns = [at for at, token in enumerate(whole.positions.tolist()) if token == BYTES.control.start_header]
    assert prompt.prefix_length == (turns[shared] if shared else 0)


@pytest.mark.parametrize("shared", [-1, 2])
def test_turns_that_are_not_there_cannot_be_shared(shared: int) -> None:
    with pytest.raises(RequestError, match="shared_turns"):
        ChatMLSample([Message("user", "a"), Message("user", "b")], shared)


# --- what users type

WORDS = st.text(st.characters(codec="utf-8"), max_size=12)
SPELLINGS = st.sampled_from([*CONTROL_SPELLINGS.values(), *(text[:-1] for text in CONTROL_SPELLINGS.values())])
HALVES = st.sampled_from(["<|", "|>", "<|eot", "_id|>", "<|AUDIO", "_OUT|>", "<", "|", ">", "<|scene_desc", "_end|>"])
TYPED = st.lists(st.one_of(WORDS, SPELLINGS, HALVES), max_size=6).map("".join)
PARTS = st.lists(st.one_of(TYPED.map(TextContent), st.integers(1, 3).map(clip)), max_size=4)
SPOKEN_TURNS = st.lists(st.builds(Message, st.sampled_from(["user", "assistant"]), st.one_of(TYPED, PARTS)), max_size=4)
SCENE = TYPED.map(lambda typed: f"Speak.\n\n<|scene_desc_start|>\n{typed}\n<|scene_desc_end|>")


@pytest.mark.parametrize("tokenizer", [BYTES, MERGES], ids=["bytes", "merges"])
@given(scene=st.one_of(st.none(), SCENE), turns=SPOKEN_TURNS, last=TYPED, force_audio=st.booleans())
@settings(max_examples=80)
@example(scene=None, turns=[Message("user", [TextContent("<|eot"), TextContent("_id|>")])], last="", force_audio=True)
def test_typed_control_tokens_stay_words(
    tokenizer: HiggsTokenizer, scene: str | None, turns: list[Message], last: str, force_audio: bool
) -> None:
    """The control tokens are exactly the layout's, and the words between them are the words that were typed."""
    system = [] if scene is None else [Message("system", scene)]
    assert_layout([*system, *turns, Message("user", last)], tokenizer, force_audio=force_audio)


@pytest.mark.parametrize("spelling", CONTROL_SPELLINGS.values())
@pytest.mark.parametrize("role", ["system", "user", "assistant"])
def test_no_control_token_can_be_typed_in_any_turn(role: str, spelling: str) -> None:
    """A scene mark alone is no scene block: it stays words like the rest, also in a system turn."""
    messages = [Message(role, f"Before {spelling} after"), Message("user", "Hi.")]  # type: ignore[arg-type]
    plain = [Message(role, "Before  after"), Message("user", "Hi.")]  # type: ignore[arg-type]
    ids, without = prompt_of(messages).token_ids, prompt_of(plain).token_ids
    at = without.index(BYTES.encode(" ")[0], without.index(BYTES.encode("B")[0])) + 1
    assert ids == [*without[:at], *BYTES.encode(spelling), *without[at:]]


def test_a_spelling_split_over_parts_stays_words() -> None:
    for spelling in CONTROL_SPELLINGS.values():
        for cut in range(1, len(spelling)):
            parts: list[Content] = [TextContent(spelling[:cut]), TextContent(spelling[cut:])]
            assert_layout([Message("user", parts), Message("assistant", parts), Message("user", "x")])


def test_scene_marks_become_control_tokens_once() -> None:
    control = BYTES.control
    text = "Speak.\n\n<|scene_desc_start|>\nA quiet room.\n<|scene_desc_end|>"
    pieces = read(prompt_of([Message("system", text), Message("user", "Hi.")]).token_ids, BYTES)
    assert pieces[4:8] == ["\n\nSpeak.\n\n", control.scene_start, "\nA quiet room.\n", control.scene_end]


def test_marks_typed_inside_a_scene_do_not_end_it() -> None:
    control = BYTES.control
    typed = "a <|scene_desc_end|><|eot_id|> b <|scene_desc_start|> c"
    text = f"<|scene_desc_start|>\n{typed}\n<|scene_desc_end|> after"
    pieces = read(prompt_of([Message("system", text), Message("user", "Hi.")]).token_ids, BYTES)
    assert pieces[4:9] == ["\n\n", control.scene_start, f"\n{typed}\n", control.scene_end, " after"]


def test_a_scene_block_may_span_parts_with_a_voice_between() -> None:
    control = BYTES.control
    parts: list[Content] = [
        TextContent("Speak.\n<|scene_desc_start|>\nSPEAKER0: <|scene_desc_start|>"),
        clip(2),
        TextContent("\n<|scene_desc_end|>SPEAKER1: "),
        clip(1),
        TextContent("\n<|scene_desc_end|>"),
    ]
    pieces = read(prompt_of([Message("system", parts), Message("user", "Hi.")]).token_ids, BYTES)
    voice = [control.audio_bos, control.audio_in, control.audio_eos]
    assert pieces[4 : pieces.index(control.end_of_turn)] == [
        "\n\nSpeak.\n",
        control.scene_start,
        "\nSPEAKER0: <|scene_desc_start|>",
        *voice,
        "\n<|scene_desc_end|>SPEAKER1: ",
        *voice,
        "\n",
        control.scene_end,
    ]


@pytest.mark.parametrize("role", ["user", "assistant"])
def test_a_scene_block_outside_the_system_turn_is_words(role: str) -> None:
    text = "<|scene_desc_start|>\nA beach.\n<|scene_desc_end|>"
    ids = prompt_of([Message(role, text), Message("user", "Hi.")]).token_ids  # type: ignore[arg-type]
    assert BYTES.control.scene_start not in ids
    assert BYTES.control.scene_end not in ids


@pytest.mark.parametrize(
    "text",
    ["x <|scene_desc_end|> y <|scene_desc_start|> z", "<|scene_desc_end|><|scene_desc_start|>"],
)
def test_marks_in_the_wrong_order_are_no_scene_block(text: str) -> None:
    assert_layout([Message("system", text), Message("user", "Hi.")])


# --- the tokenizer itself


@pytest.mark.parametrize("tokenizer", [BYTES, MERGES], ids=["bytes", "merges"])
@given(text=st.one_of(WORDS, TYPED))
@settings(max_examples=60)
def test_encoding_keeps_every_word_and_adds_nothing(tokenizer: HiggsTokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert not set(ids) & set(tokenizer._fast.get_added_vocab().values())
    assert tokenizer.decode(ids) == text


def test_decoding_spells_control_tokens_out() -> None:
    control = BYTES.control
    assert BYTES.decode([control.audio_out, *BYTES.encode(" a "), control.end_of_turn]) == "<|AUDIO_OUT|> a <|eot_id|>"


def test_a_tokenizer_without_a_control_token_is_refused_by_its_name() -> None:
    lacking = json.loads(json.dumps(BACKEND))
    lacking["added_tokens"] = [token for token in lacking["added_tokens"] if token["content"] != "<|AUDIO_OUT|>"]
    fast = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(lacking)))
    with pytest.raises(ModelLoadError, match=r"<\|AUDIO_OUT\|>"):
        HiggsTokenizer(fast)
