"""However large a value is, no more of it is read than its bound: counted in entries and characters, not in seconds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from higgs_core.errors import RequestError
from serverless.config.settings import Settings
from serverless.payload.parse import ParsedJob, parse_job
from tests.helpers.counted import Counter, counted
from tests.helpers.hostile_payloads import PLACES, Size, hostile_fields, hostile_values, hostile_wholes
from tests.helpers.parsing import ANNA_AND_BOB, refusal

# The bounds of these settings lie below both sizes, so that the larger one costs nothing more.
SETTINGS = Settings(max_script_characters=20_000, max_reference_bytes=10_000)
SIZES = (Size(entries=2_000, keys=2_000, characters=1_100_000), Size(entries=4_000, keys=4_000, characters=2_200_000))
SMALL = hostile_values(Size(entries=4_000, keys=4_000, characters=40_000))


def outcome(job_input: Any, limits: Settings = SETTINGS) -> ParsedJob | RequestError:
    try:
        return parse_job(job_input, limits, voices=ANNA_AND_BOB)
    except RequestError as error:
        return error


def assert_plain(found: ParsedJob | RequestError) -> None:
    """A refusal is one short sentence about a field; of a job that was taken the warnings are few and short."""
    if isinstance(found, RequestError):
        assert 0 < len(found.message) < 300
        assert "\n" not in found.message
        assert found.field
        assert len(found.field) < 120
        found.message.encode()
    else:
        assert len(found.warnings) <= 101
        assert all(len(warning) < 300 for warning in found.warnings)


def work(job_input: Any) -> int:
    """What is visited of a payload that is all made of counting parts."""
    counter = Counter()
    assert_plain(outcome(counted(job_input, counter)))
    return counter.visited


def test_no_field_is_read_further_than_its_bound() -> None:
    seen = []
    for size in SIZES:
        counter = Counter()
        values = {kind: counted(value, counter) for kind, value in hostile_values(size).items()}
        found = {}
        for field, kind, job_input in hostile_fields(values):
            counter.visited = 0
            assert_plain(outcome(job_input))
            found[field, kind] = counter.visited
        seen.append(found)
    once, twice = seen
    assert len(once) > 5_000
    grown = {case: (once[case], twice[case]) for case in once if twice[case] > once[case]}
    assert grown == {}


@pytest.mark.parametrize("name", list(hostile_wholes(SIZES[0])))
def test_parts_that_add_up_are_read_no_further_than_their_bound(name: str) -> None:
    once, twice = (work(hostile_wholes(size)[name]()) for size in SIZES)
    copied = SIZES[1].keys - SIZES[0].keys if name == "unknown fields of OpenAI" else 0  # its body becomes ours
    assert twice - once <= copied


@pytest.mark.parametrize(
    ("job_input", "field", "words"),
    [
        ({"dialogue": [[]] * 9_000_000}, "dialogue", "is a list of 9000000; allowed is a list of at most 1538 objects"),
        ({"dialogue": [{"speaker": "A", "text": "Hi"}] * 1539}, "dialogue", "a list of 1539; allowed is a list of at"),
        ({"messages": [{}] * 513}, "messages", "is a list of 513; allowed is at most 512 messages"),
        ({"script": "a", "stop_strings": ["a"] * 17}, "stop_strings", "is a list of 17; allowed is up to 16 texts"),
        ({"script": "a", "references": [{}] * 101}, "references", "is a list of 101; allowed is an object or a list"),
        ({"script": "a", "voice": " " * 1_000_001}, "voice", "is a text of 1000001 characters; allowed is a text of"),
        ({"script": "a", "stream": "y" * 101}, "stream", "is a text of 101 characters; allowed is true or false"),
        ({"script": "[a]" * 3_000, "speakers": {"a": {"voice": "anna"}}}, "script", "30000 characters long with its"),
        ({"openai_route": "/" * 101, "openai_input": {}}, "openai_route", "The route is not served"),
    ],
)
def test_what_is_too_much_is_refused_with_its_numbers(job_input: Any, field: str, words: str) -> None:
    error = refusal(job_input)
    assert error.field == field
    assert words in error.message


def test_as_many_turns_as_a_script_can_hold_are_allowed() -> None:
    found = outcome({"dialogue": [{"speaker": "SPEAKER0", "text": "x"}] * 1538}, Settings())
    assert isinstance(found, ParsedJob)
    assert len(found.request.script or "") == 1538 * 13 - 1


def test_turns_that_are_too_long_together_are_read_only_until_they_are() -> None:
    """An error in a turn behind the limit is not seen."""
    turns: list[Any] = [{"speaker": "Ann", "text": "a" * 9_000}] * 3
    error = refusal({"dialogue": [*turns, {"speaker": 5}]})
    assert error.field == "dialogue"
    assert "over 20000 characters in its first 3 turns" in error.message


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([(place, name) for place, (table, _) in PLACES.items() for name in sorted(table.known)]),
            st.sampled_from(sorted(SMALL)),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_hostile_values_side_by_side_are_one_plain_outcome(chosen: list[tuple[tuple[str, str], str]]) -> None:
    """Several at once in one object, and several objects of one payload."""
    payload: dict[str, Any] = {}
    for place in {place for (place, _), _ in chosen}:
        body = {name: SMALL[kind] for (where, name), kind in chosen if where == place}
        payload |= PLACES[place][1](body)
    assert_plain(outcome(payload))
