"""Voices over HTTP: the list, and what each sounds like."""

from __future__ import annotations

import io

import pytest
import soundfile

from higgs_core.audio import encode_audio
from tests.helpers.http_server import Running
from tests.helpers.voice_routes import FACTS, ROUTE, SHIPPED, SPEECH, delete, get, upload

# -- The list ----------------------------------------------------------------------------------------------------------


def test_every_voice_is_listed_with_where_it_comes_from(worker: Running) -> None:
    answer = get(worker).json()
    assert answer["object"] == "list"
    assert answer["data"] == answer["voices"]
    assert answer["uploaded_voices"] == []
    first, *others = answer["voices"]
    assert (first["id"], first["name"], first["source"], first["preview_url"]) == ("default", "Default", "model", None)
    by_id = {voice["id"]: voice for voice in others}
    assert set(by_id) == {"belinda", *SHIPPED}
    for name, voice in by_id.items():
        assert set(voice) == FACTS
        assert voice["object"] == "voice"
        assert voice["preview_url"] == f"{ROUTE}/{name}/preview"
        assert voice["deletable"] is False
    assert (by_id["alloy"]["name"], by_id["alloy"]["source"]) == ("Alloy", "shipped")
    assert by_id["alloy"]["description"]
    assert (by_id["belinda"]["source"], by_id["belinda"]["transcript"]) == ("folder", "A tone of one second.")


def test_open_webui_and_older_clients_read_it(worker: Running) -> None:
    assert {voice["id"]: voice["name"] for voice in get(worker).json()["voices"]}["nova"] == "Nova"
    names = get(worker, params={"legacy": "true"}).json()
    assert set(names) == {"voices"}
    assert names["voices"][0] == "default"
    assert {"belinda"} | SHIPPED < set(names["voices"])
    assert get(worker, params={"legacy": "0"}).json() == get(worker).json()
    refusal = get(worker, params={"legacy": "<script>"})
    assert refusal.status_code == 400
    assert refusal.json()["error"]["message"] == "legacy is a text of 8 characters; allowed is true or false."


def test_one_voice_is_told_as_in_the_list_and_an_unknown_one_not_at_all(worker: Running) -> None:
    listed = {voice["id"]: voice for voice in get(worker).json()["voices"]}
    assert get(worker, "/belinda").json() == listed["belinda"]
    assert get(worker, "/default").json() == listed["default"]
    missing = get(worker, "/belinde")
    assert missing.status_code == 404
    assert missing.json()["error"]["code"] == "voice_not_found"


# -- The preview -------------------------------------------------------------------------------------------------------


def test_a_preview_is_a_wav_file_that_a_browser_may_keep_and_asks_about(worker: Running) -> None:
    answer = get(worker, "/belinda/preview")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "audio/wav")
    audio, rate = soundfile.read(io.BytesIO(answer.content))
    assert (len(audio), rate) == (24_000, 24_000)
    assert answer.headers["Cache-Control"] == "private, no-cache"
    tag = answer.headers["ETag"]
    for sent in (tag, tag.removeprefix("W/"), f'"other", {tag}', "*"):
        again = get(worker, "/belinda/preview", headers={"If-None-Match": sent})
        assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", tag)
    for sent in ('"other"', tag.strip('W/"'), ""):
        assert get(worker, "/belinda/preview", headers={"If-None-Match": sent}).content == answer.content


def test_another_voice_of_the_same_name_has_another_preview(worker: Running) -> None:
    assert upload(worker).status_code == 200
    first = get(worker, "/anna/preview")
    delete(worker, "anna")
    tag = {"If-None-Match": first.headers["ETag"]}
    assert get(worker, "/anna/preview", headers=tag).status_code == 404
    assert upload(worker, encode_audio(SPEECH[::-1], "wav")).status_code == 200
    second = get(worker, "/anna/preview", headers=tag)
    assert second.status_code == 200
    assert second.headers["ETag"] != first.headers["ETag"]
    assert second.content != first.content
    delete(worker, "anna")
    assert upload(worker).status_code == 200
    assert get(worker, "/anna/preview", headers=tag).status_code == 304  # the first voice is back


def test_a_preview_of_a_designed_voice_makes_it(worker: Running) -> None:
    assert get(worker, "/onyx").json()["ready"] is False
    audio, _ = soundfile.read(io.BytesIO(get(worker, "/onyx/preview").content))
    assert len(audio) > 0
    assert get(worker, "/onyx").json()["ready"] is True


@pytest.mark.parametrize("name", ["default", "nobody", "%00", "..%2F..%2Fetc%2Fpasswd"])
def test_what_is_no_voice_has_no_preview(worker: Running, name: str) -> None:
    answer = get(worker, f"/{name}/preview")
    assert answer.status_code == 404
    assert "passwd" not in answer.text
