"""The worker's settings, read from the environment into one frozen object; the limits are a part of it.

A field is the variable HIGGS_AUDIO_<FIELD> unless it names another. Its `description` states the allowed values in
errors, so that a bound and its sentence stand side by side.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import Field, SecretStr, ValidationError, model_validator

from higgs_core import repositories
from higgs_core.built_in import BUILT_IN
from higgs_core.engine_config import EngineConfig
from higgs_core.errors import SettingsError
from higgs_core.params import (
    COUNT_RANGE,
    DEFAULT_RAS_WIN_LEN,
    DEFAULT_RAS_WIN_MAX_NUM_REPEAT,
    DEFAULT_TEMPERATURE,
    DEFAULT_TOP_K,
    DEFAULT_TOP_P,
    MAX_COUNT,
    MAX_RAS_WINDOW,
    MAX_TEMPERATURE,
    MAX_TOP_P,
    MIN_TOP_K,
    RAS_WINDOW_RANGE,
    TEMPERATURE_RANGE,
    TOP_K_RANGE,
    TOP_P_RANGE,
)
from higgs_core.text.speech_length import MAX_PIECE_COLUMNS
from serverless.config.limits import PREFIX, Limits
from serverless.config.s3 import BUCKET_NAME, S3Config
from serverless.config.types import (
    MAX_CONCURRENCY,
    Concurrency,
    CountOrOff,
    Device,
    Dtype,
    Folder,
    Folders,
    LogLevel,
    Mode,
    Names,
    OptionalFloat,
    Origins,
    ResponseFormat,
    WebAddress,
    Weights,
)

DEFAULT_SYSTEM_PROMPT = (
    "Generate audio following instruction.\n\n"
    "<|scene_desc_start|>\nAudio is recorded from a quiet room.\n<|scene_desc_end|>"
)
_ECHOED_CHARACTERS = 60
_BLANK_IS_A_VALUE = {
    PREFIX + name for name in ("SYSTEM_PROMPT", "TOP_P", "TOP_K", "RAS_WIN_LEN", "REFERENCE_DIRS")
}  # blank turns each of them off; any other blank variable counts as not set
_NEVER_ECHOED = {"BUCKET_ENDPOINT_URL"}  # may contain a password; secrets accept any text, so they are in no error


class Settings(Limits):
    """The worker's configuration. Build it with `from_environment`; tests pass fields by name."""

    # The model.
    model_id: str = Field(repositories.MODEL, description=f"a hub id, a folder, {' or '.join(BUILT_IN)}")
    audio_tokenizer_id: str = Field(repositories.CODEC, description="a hub id or a folder")
    tokenizer_id: str | None = Field(None, description="a hub id or a folder; the model's own when not set")
    # Not set means the revision that higgs_core/repositories.py knows to be good.
    model_revision: str | None = Field(None, description="a branch, tag or commit of the model's repository")
    audio_tokenizer_revision: str | None = Field(None, description="a branch, tag or commit of the codec's repository")
    device: Device = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:<index>")
    torch_dtype: Dtype = Field("auto", description="auto, float32 (fp32), float16 (fp16) or bfloat16 (bf16)")
    weights: Weights = Field("auto", description="auto (as HIGGS_AUDIO_TORCH_DTYPE), int8 or fp8")
    kernels: bool = Field(True, description="0 or 1")

    # Defaults of a request's fields.
    system_prompt: str = Field(DEFAULT_SYSTEM_PROMPT, description="any text, or blank for no system turn")
    max_new_tokens: int = Field(MAX_PIECE_COLUMNS, ge=1, description="1 to HIGGS_AUDIO_MAX_CONTEXT")
    temperature: float = Field(DEFAULT_TEMPERATURE, ge=0, le=MAX_TEMPERATURE, description=TEMPERATURE_RANGE)
    top_p: OptionalFloat = Field(DEFAULT_TOP_P, gt=0, le=MAX_TOP_P, description=f"{TOP_P_RANGE}, or blank for off")
    top_k: CountOrOff = Field(DEFAULT_TOP_K, ge=MIN_TOP_K, le=MAX_COUNT, description=f"{TOP_K_RANGE} or blank for off")
    ras_win_len: CountOrOff = Field(
        DEFAULT_RAS_WIN_LEN, le=MAX_RAS_WINDOW, description=f"{RAS_WINDOW_RANGE}, 0 or blank for off"
    )
    ras_win_max_num_repeat: int = Field(
        DEFAULT_RAS_WIN_MAX_NUM_REPEAT,
        validation_alias=f"{PREFIX}RAS_WIN_MAX_REPEAT",
        ge=1,
        le=MAX_COUNT,
        description=COUNT_RANGE,
    )
    response_format: ResponseFormat = Field("wav", description="wav, flac, mp3, opus or pcm")
    download_timeout: float = Field(30.0, gt=0, description="above 0 and at most HIGGS_AUDIO_MAX_DOWNLOAD_TIMEOUT")

    # How the worker serves.
    mode: Mode = Field("queue", description="queue or http")
    streaming: bool = Field(False, description="0 or 1")
    max_concurrency: Concurrency = Field(
        EngineConfig.max_batch_size, description=f"auto (as many as suit the GPU) or 1 to {MAX_CONCURRENCY}"
    )
    max_context: int = Field(EngineConfig.max_context, ge=256, le=131_072, description="256 to 131072")
    log_level: LogLevel = Field("INFO", description="DEBUG, INFO, WARNING, ERROR or CRITICAL")
    host: str = Field("0.0.0.0", description="the address that the HTTP server listens on")
    port: int = Field(8000, validation_alias="PORT", ge=1, le=65_535, description="1 to 65535")
    port_health: int | None = Field(
        None, validation_alias="PORT_HEALTH", ge=1, le=65_535, description="1 to 65535, or blank for PORT"
    )
    api_key: SecretStr | None = Field(None, description="the bearer key of the HTTP mode")
    public_lists: bool = Field(False, description="0 or 1")
    cors_origins: Origins = Field((), description="origins such as https://app.example with commas between them, or *")
    docs: bool = Field(True, description="0 or 1")

    # Where clips may come from and results may go.
    reference_dirs: Folders = Field(
        (Path("/runpod-volume"),), description=f"absolute folders with {os.pathsep} between them, or blank for none"
    )
    voices_dir: Folder | None = Field(None, description="an absolute folder")
    voices_read_only: bool = Field(False, description="0 or 1")
    voices_at_boot: Names = Field((), description="names of voices with commas between them, or all")
    bucket_endpoint_url: WebAddress | None = Field(
        None, validation_alias="BUCKET_ENDPOINT_URL", description="an http(s) address without user, query or fragment"
    )
    bucket_access_key_id: SecretStr | None = Field(
        None, validation_alias="BUCKET_ACCESS_KEY_ID", description="an access key"
    )
    bucket_secret_access_key: SecretStr | None = Field(
        None, validation_alias="BUCKET_SECRET_ACCESS_KEY", description="a secret key"
    )
    bucket_name: str | None = Field(
        None, validation_alias="BUCKET_NAME", pattern=f"^{BUCKET_NAME.pattern}$", description="a bucket name"
    )
    bucket_region: str | None = Field(
        None, validation_alias="BUCKET_REGION", pattern=r"^[a-z0-9-]{1,64}$", description="a region such as eu-west-1"
    )
    bucket_prefix: str = Field("", validation_alias="BUCKET_PREFIX", max_length=512, description="the start of keys")
    bucket_url_ttl_seconds: int = Field(
        86_400, validation_alias="BUCKET_URL_TTL_SECONDS", ge=1, le=604_800, description="1 to 604800"
    )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Read the variables (os.environ by default); a blank one counts as not set, save where blank means off.

        Raises SettingsError: one line naming the variable, its value unless it is a secret, and what is allowed.
        """
        source = os.environ if environment is None else environment
        given = {name: source[name] for name in variables() if name in source}
        given = {name: text for name, text in given.items() if text.strip() or name in _BLANK_IS_A_VALUE}
        stripped = {name: text if name == f"{PREFIX}SYSTEM_PROMPT" else text.strip() for name, text in given.items()}
        try:
            return cls.model_validate(stripped)
        except ValidationError as error:
            raise _settings_error(error.errors()[0], source) from None

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.max_new_tokens > self.max_context and "max_new_tokens" in self.model_fields_set:
            raise ValueError(
                f"{PREFIX}MAX_NEW_TOKENS is {self.max_new_tokens}; allowed is 1 to {PREFIX}MAX_CONTEXT, which is "
                f"{self.max_context}."
            )
        if self.download_timeout > self.max_download_timeout:
            raise ValueError(
                f"{PREFIX}DOWNLOAD_TIMEOUT is {self.download_timeout:g}; allowed is above 0 and at most "
                f"{PREFIX}MAX_DOWNLOAD_TIMEOUT, which is {self.max_download_timeout:g}."
            )
        bucket = {
            "BUCKET_NAME": self.bucket_name,
            "BUCKET_ACCESS_KEY_ID": self.bucket_access_key_id,
            "BUCKET_SECRET_ACCESS_KEY": self.bucket_secret_access_key,
        }
        missing = [name for name, value in bucket.items() if value is None]
        if missing and (len(missing) < len(bucket) or self.bucket_endpoint_url is not None):
            raise ValueError(
                f"{missing[0]} is not set; delivery by S3 needs BUCKET_NAME, BUCKET_ACCESS_KEY_ID and "
                "BUCKET_SECRET_ACCESS_KEY together, or none of them and no BUCKET_ENDPOINT_URL."
            )
        return self

    @property
    def s3_config(self) -> S3Config | None:
        """The bucket of BUCKET_*, or None when delivery by S3 is not configured."""
        if self.bucket_name is None or self.bucket_access_key_id is None or self.bucket_secret_access_key is None:
            return None
        return S3Config(
            bucket_name=self.bucket_name,
            access_key_id=self.bucket_access_key_id,
            secret_access_key=self.bucket_secret_access_key,
            endpoint_url=self.bucket_endpoint_url,
            region=self.bucket_region,
        )

    @property
    def system_prompt_is_builtin(self) -> bool:
        """Whether the operator kept the default system prompt, so that a better-suited built-in one may replace it."""
        return self.system_prompt == DEFAULT_SYSTEM_PROMPT

    @property
    def max_new_tokens_ceiling(self) -> int:
        """Most steps of a piece whose request states no max_new_tokens; at most max_context."""
        return min(self.max_new_tokens, self.max_context)

    @property
    def health_port(self) -> int:
        return self.port if self.port_health is None else self.port_health

    def engine_config(self, *, progress: bool) -> EngineConfig:
        """What the engine is loaded from. A built-in checkpoint brings its own codec and tokenizer."""
        built_in = self.model_id in BUILT_IN
        return EngineConfig(
            model=self.model_id,
            audio_tokenizer=None if built_in else self.audio_tokenizer_id,
            tokenizer=None if built_in else self.tokenizer_id,
            revision=self.model_revision,
            audio_tokenizer_revision=self.audio_tokenizer_revision,
            device=self.device,
            dtype=self.torch_dtype,
            max_batch_size=self.max_concurrency,
            max_context=self.max_context,
            hang_seconds=self.hang_seconds,
            progress=progress,
            weights=self.weights,
            kernels=self.kernels,
        )


def variables() -> dict[str, str]:
    """Every variable that Settings reads, with what it may hold."""
    return {str(field.validation_alias): field.description or "" for field in Settings.model_fields.values()}


def unknown_variables(environment: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """One sentence for each variable that is no setting and begins with HIGGS_AUDIO_ or nearly so; most are spelling
    mistakes."""
    known = variables()
    by_rest = {name.removeprefix(PREFIX): name for name in known}  # all begin alike
    sentences = []
    for name in sorted(os.environ if environment is None else environment):
        if name in known or not _nearly_prefixed(name):
            continue
        rest = name.upper()[len(PREFIX) :]
        near = [rest] if rest in by_rest else []
        near = near or sorted((longer for longer in by_rest if longer.startswith(f"{rest}_")), key=len)
        near = near or difflib.get_close_matches(rest, by_rest, n=1, cutoff=0.6)
        near = [by_rest[near[0]]] if near else difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.85)
        sentences.append(f"{name} is not a setting{f'; did you mean {near[0]}?' if near else '.'}")
    return tuple(sentences)


def _nearly_prefixed(name: str) -> bool:
    """Whether a variable's name begins with PREFIX, in any case, or with what a slip of the finger makes of it."""
    start = name[: len(PREFIX)].upper()
    return start == PREFIX or (start[:1] == "H" and difflib.SequenceMatcher(None, start, PREFIX).ratio() >= 0.8)


def _settings_error(error: Any, source: Mapping[str, str]) -> SettingsError:
    if not error["loc"]:  # a check of several variables together, whose message is the whole sentence
        return SettingsError(str(error["ctx"]["error"]))
    variable = str(error["loc"][0])
    value = source.get(variable, "")
    if variable in _NEVER_ECHOED:
        shown = "not allowed"
    else:
        shown = repr(value if len(value) <= _ECHOED_CHARACTERS else value[:_ECHOED_CHARACTERS] + "...")
    return SettingsError(f"{variable} is {shown}; allowed is {variables()[variable]}.", field=variable)
