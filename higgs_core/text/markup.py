"""Markup that a text may hold: sound events and instructions, which are tokens of the model's vocabulary.

`<SE>[Laughter]</SE>` is a sound, `<SE_s>[Music]</SE_s>` begins one that `<SE_e>[Music]</SE_e>` ends, and an instruction
says how or what to generate and is not spoken. None of these tokens can open or close a turn.
"""

from __future__ import annotations

import re

INSTRUCTION_START = "<|generation_instruction_start|>"
INSTRUCTION_END = "<|generation_instruction_end|>"

TEXT_TOKENS = ("<SE>", "</SE>", "<SE_s>", "</SE_s>", "<SE_e>", "</SE_e>", INSTRUCTION_START, INSTRUCTION_END)
"""The only special tokens of the vocabulary that the text of a turn may produce."""

_EVENT = r"<(?P<kind>SE|SE_s|SE_e)>(?P<sound>[^<>]*)</(?P=kind)>"
# No second start mark between the marks: otherwise a search could take quadratic time.
_INSTRUCTION = rf"{re.escape(INSTRUCTION_START)}(?:(?!{re.escape(INSTRUCTION_START)}).)*?{re.escape(INSTRUCTION_END)}"

EVENT = re.compile(_EVENT)
"""A sound event. Groups: kind (SE, SE_s or SE_e) and sound (`[Laughter]`)."""

INSTRUCTION = re.compile(_INSTRUCTION, re.DOTALL)
"""An instruction with both of its marks."""

UNBROKEN = re.compile(f"(?s:{_INSTRUCTION})|{_EVENT}")
"""Markup that a cut into pieces must not divide."""
