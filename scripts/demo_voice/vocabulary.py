"""English words, the frequent ones first, without those that the judge withholds from training."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from pocketsphinx import NGramModel, get_model_path

from scripts.demo_voice.held_out import withheld_words

SIZE = 60_000


@cache
def words() -> tuple[str, ...]:
    """At most SIZE words of pocketsphinx' dictionary that its language model knows, by their probability there."""
    folder = Path(get_model_path(), "en-us")
    model = NGramModel.readfile(str(folder / "en-us.lm.bin"))
    unknown = model.prob(["an-unknown-word"])
    entries = (line.split(maxsplit=1)[0] for line in (folder / "cmudict-en-us.dict").read_text().splitlines())
    plain = {entry for entry in entries if re.fullmatch(r"[a-z][a-z']*", entry)} - withheld_words()
    known = [(model.prob([word]), word) for word in plain]
    return tuple(word for probability, word in sorted(known, reverse=True)[:SIZE] if probability > unknown)
