"""A job in a file, with the places of its fields, so that what is wrong is named with line and column."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from higgs_core.errors import RequestError
from serverless.client.errors import ClientError
from serverless.client.options import MAX_INPUT_BYTES
from serverless.payload.json_text import JsonTextError, parse_json, position_of, read_text
from serverless.payload.precheck import check_input


@dataclass(frozen=True)
class JobText:
    """job: {"input": {...}}. text, name: what it was read from; "" for a job of the command line."""

    job: Mapping[str, Any]
    text: str = ""
    name: str = ""

    def check(self, job_input: Mapping[str, Any], from_options: Collection[str] = ()) -> tuple[str, ...]:
        """Warnings about the input, which is the job's with the fields of the options on top.

        Raises ClientError for what no worker takes, with line and column where the field stands in the file.
        """
        try:
            return check_input(job_input)
        except RequestError as error:
            top = (error.field or "").partition(".")[0].partition("[")[0]
            if not self.text or top in from_options:
                raise ClientError(error.message) from None
            line, column = position_of(self.text, f"input.{error.field}" if error.field else "input")
            raise ClientError(f"{self.name}:{line}:{column}: {error.message}") from None


def read_job(file: Path) -> JobText:
    """Raises ClientError."""
    try:
        text = read_text(file, max_bytes=MAX_INPUT_BYTES)
        job = parse_json(text)
    except OSError as error:
        raise ClientError(f"{file} cannot be read: {error.strerror}.") from None
    except JsonTextError as error:
        raise ClientError(f"{file}:{error.line}:{error.column}: {error.sentence}") from None
    if not isinstance(job, dict) or not isinstance(job.get("input"), dict):
        line, column = position_of(text, "input")
        raise ClientError(f"{file}:{line}:{column}: this is not an object with 'input', an object.")
    return JobText(job, text, str(file))
