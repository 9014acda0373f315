"""The licence texts that deploy/image/notices.py collects."""

from __future__ import annotations

from importlib.metadata import distributions
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT
from tests.helpers.scripts import script

NOTICES = script("deploy/image/notices.py")


def package(site: Path, name: str, metadata: str, **texts: str) -> None:
    folder = site / f"{name}-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: 1.0\n{metadata}")
    for path, text in texts.items():
        file = folder / path.replace("__", "/")
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    record = [f"{file.relative_to(site)},," for file in folder.rglob("*") if file.is_file()]
    (folder / "RECORD").write_text("\n".join(record))


def test_each_package_has_its_line_and_its_texts(tmp_path: Path) -> None:
    site, into = tmp_path / "site", tmp_path / "licenses"
    site.mkdir()
    into.mkdir()
    package(site, "one", "License-Expression: MIT\n", licenses__LICENSE="text of one")
    package(site, "two", "License: BSD\n", LICENSE="text", licenses__LICENSE="other text", COPYING="third")
    package(site, "three", "Classifier: License :: OSI Approved :: Apache Software License\n")
    package(site, "four", "")
    NOTICES.write_python_notices(distributions(path=[str(site)]), into)
    rows = (into / "python.md").read_text().splitlines()[2:]
    assert rows[0] == "| four | 1.0 | not named | none in the package |"
    assert rows[1] == "| one | 1.0 | MIT | python/one/LICENSE |"
    assert rows[2] == "| three | 1.0 | Apache Software License | none in the package |"
    assert {path.read_text() for path in (into / "python/two").iterdir()} == {"text", "other text", "third"}


@pytest.mark.parametrize(
    "said", ["Boson Higgs Audio 2 Community License", "bosonai/higgs-audio-v2-tokenizer", "demo/README.md", "ffmpeg"]
)
def test_the_notice_names_what_is_under_other_terms(said: str) -> None:
    assert said in " ".join((ROOT / "NOTICE").read_text().split())
