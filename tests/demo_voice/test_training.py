"""What the demo voice is trained on has the engine's layout, and the model that is trained is the engine's."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from higgs_core import ChatMLSample, GenerationParams, HiggsAudioEngine, Message
from higgs_core.checkpoint.built_in_files import DEMO_DATA
from higgs_core.checkpoint.byte_tokenizer import byte_tokenizer
from higgs_core.prompt.chatml import AudioContent, TextContent
from higgs_core.prompt.delay_pattern import complete_frames
from higgs_core.prompt.layout import build_prompt
from higgs_core.prompt.tokenizer import HiggsTokenizer
from scripts.demo_voice import domain
from scripts.demo_voice.codes import (
    BOS,
    CODEBOOKS,
    EOS,
    HIGH_VOICE,
    IGNORED,
    LEVELS,
    LOW_VOICE,
    PITCH,
    RIGHT,
    UNIT,
)  # fmt: skip
from scripts.demo_voice.held_out import may_train_on
from scripts.demo_voice.inventory import Inventory, Sound
from scripts.demo_voice.model import DemoModel
from scripts.demo_voice.sequences import Sequence, Sequences
from scripts.demo_voice.texts import Text, Writer
from scripts.demo_voice.train import collate
from tests.demo_voice.spelled import SpelledLexicon

INVENTORY = Path(__file__).parents[2] / "scripts" / "demo_voice" / "inventory.json"
TEXT = "Turn on the light in the kitchen, please."


@pytest.fixture(scope="module")
def tokenizer():
    return HiggsTokenizer(byte_tokenizer())


@pytest.fixture(scope="module")
def inventory():
    return Inventory.load(INVENTORY)


def drawn(tokenizer, inventory, seed, several):
    rng = random.Random(seed)
    return Sequences(tokenizer, inventory, Writer(rng, SpelledLexicon()), rng).draw(several)


class Turns:
    """The turns that a sequence's tokens and columns stand for."""

    def __init__(self, sequence: Sequence, tokenizer: HiggsTokenizer) -> None:
        control, tokens, columns = tokenizer.control, sequence.tokens, list(sequence.columns)
        self.messages: list[Message] = []
        self.starts: list[int] = []
        at = 1
        while at < len(tokens):
            end_of_header = tokens.index(control.end_header, at)
            role = self._text(tokens[at + 1 : end_of_header])
            start = end_of_header + 3  # two line feeds
            end = tokens.index(control.end_of_turn, start)
            self.starts.append(start)
            if role == "assistant":
                count = tokens[start:end].count(-1)
                clip, columns = torch.tensor(np.array(columns[:count])).T, columns[count:]
                self.messages.append(Message(role, AudioContent(codes=complete_frames(clip, 1024, ended=True).numpy())))
            else:
                self.messages.append(Message(role, TextContent(self._text(tokens[start:end]))))
            at = end + 1
        assert not columns

    def _text(self, ids: list[int]) -> str:
        return byte_tokenizer().decode(ids) if ids else ""


@pytest.mark.parametrize("seed", range(12))
def test_a_sequence_has_the_layout_of_the_engines_prompts(tokenizer, inventory, seed):
    sequence = drawn(tokenizer, inventory, seed, several=1.0 if seed % 3 else 0.0)
    turns = Turns(sequence, tokenizer)

    class Config:
        num_codebooks, stream_bos, stream_eos = CODEBOOKS, BOS, EOS

    def encode(clip):
        return torch.from_numpy(clip.codes)

    prompt = build_prompt(ChatMLSample(turns.messages), tokenizer, Config, encode, force_audio=False)
    expected = torch.where(prompt.is_audio, -1, prompt.positions).tolist()
    assert expected[: len(sequence.tokens)] == sequence.tokens
    np.testing.assert_array_equal(np.array(sequence.columns).T, prompt.columns)


@pytest.mark.parametrize("seed", range(6))
def test_targets_are_the_columns_that_follow(tokenizer, inventory, seed):
    sequence = drawn(tokenizer, inventory, seed, several=0.0)
    columns, targets = np.array(sequence.columns), np.array(sequence.targets)
    learned = targets != IGNORED
    np.testing.assert_array_equal(targets[:-1][learned[:-1]], columns[1:][learned[:-1]])
    frames = len(columns) - CODEBOOKS - 1
    assert [int(learned[:, book].sum()) for book in (UNIT, PITCH, RIGHT)] == [frames + 1, frames, frames]
    assert targets[frames, UNIT] == EOS


@pytest.mark.parametrize("seed", range(6))
def test_guides_follow_the_letters_of_the_last_text(tokenizer, inventory, seed):
    sequence = drawn(tokenizer, inventory, seed, several=0.0)
    turns = Turns(sequence, tokenizer)
    written, start = turns.messages[-2].parts[0].text, turns.starts[-2]
    following, word_end = np.array(sequence.guides)[:, 1], np.array(sequence.guides)[:, 2]
    guided = following >= 0
    assert (np.diff(following[guided]) >= 0).all()
    assert (word_end[guided] >= following[guided]).all()
    letters = {written.encode()[place - start : place - start + 1] for place in following[guided]}
    assert all(letter.isalnum() or letter in b".,;:?!\"'" for letter in letters), letters


def test_an_unknown_speaker_has_the_voice_of_the_tags_number(tokenizer, inventory):
    rng = random.Random(0)
    sequences = Sequences(tokenizer, inventory, Writer(rng, SpelledLexicon()), rng)
    voices: dict[str, set[int]] = {"[SPEAKER0]": set(), "[SPEAKER1]": set(), "[SPEAKER2]": set()}
    for _ in range(40):
        sequences._sequence, sequences._voices = Sequence(tokens=[tokenizer.control.begin_of_text]), {}
        sequences._piece(True, 1, 4)
        text, clip = (message.parts[0] for message in Turns(sequences._sequence, tokenizer).messages)
        voices[text.text[: len("[SPEAKER0]")]].update(clip.codes[PITCH] // LEVELS)
    assert voices == {"[SPEAKER0]": {HIGH_VOICE}, "[SPEAKER1]": {LOW_VOICE}, "[SPEAKER2]": {HIGH_VOICE}}


def test_a_phone_before_a_pause_has_its_own_length(inventory):
    """A vowel at the end of a phrase is drawn out."""
    inside = inventory.codes([Sound("iy", False, True), Sound("n"), Sound("n")])[1].tolist()
    at_end = inventory.codes([Sound("iy", False, True), Sound("pau", frames=3)])[1].tolist()
    assert at_end.count(0) > inside.count(0)


def test_the_trained_model_is_the_engines(tokenizer, inventory):
    """The engine's greedy codes are what the model that was trained finds most likely, step by step."""
    with HiggsAudioEngine.from_pretrained("demo", device="cpu") as engine:
        params = GenerationParams(temperature=0.0, ras_win_len=None, max_new_tokens=300, seed=0)
        result = engine.generate(ChatMLSample([Message("user", TEXT)]), params)
    assert result.finish_reason == "stop"
    codes = np.asarray(result.audio_codes[0]).T

    sequences = Sequences(tokenizer, inventory, Writer(random.Random(0), SpelledLexicon()), random.Random(0))
    sequence = sequences._sequence = Sequence(tokens=[tokenizer.control.begin_of_text])
    sequences._user(TEXT)
    places = np.zeros(len(codes), np.int64)
    sequences._assistant(codes, learned=True, letters=places, ends=places)

    model = DemoModel(len(byte_tokenizer()))
    model.load_state_dict({k: v.float() for k, v in load_file(DEMO_DATA / "model" / "model.safetensors").items()})
    with torch.inference_mode():
        outputs = model(collate([sequence]))
    targets = torch.from_numpy(np.array(sequence.targets))
    for book in (UNIT, PITCH, RIGHT):
        learned = targets[:, book] != IGNORED
        likely = (outputs.audio[: len(targets)][learned] @ model.codebook_head(book).T).argmax(-1)
        assert (likely == targets[learned, book]).float().mean() > 0.99


def test_nothing_that_is_judged_is_trained_on():
    writer = Writer(random.Random(0), SpelledLexicon())
    sentences = (" ".join(written for written, _ in writer.sentence()) for _ in range(3000))
    # Of random words one row in twenty falls into what is held out of the domain; `domain`'s own are tested there.
    refused = [sentence for sentence in sentences if not may_train_on(sentence) and not domain.is_held_out(sentence)]
    assert not refused


def test_a_text_knows_its_letters():
    writer = Writer(random.Random(0), SpelledLexicon())
    text = Text()
    text.pause("start", LOW_VOICE, 0)
    writer.add(text, [("Say", None), ('"no",', None), ("Ann!", None)], LOW_VOICE)
    assert text.written == 'Say "no", Ann!'
    assert [text.written[at] for at in text.letters[1:]] == list("Sayno,Ann")
    assert [text.written[at] for at in text.ends[1:]] == list("yyyoo,nnn")
