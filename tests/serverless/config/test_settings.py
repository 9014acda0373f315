"""The environment table of the contract: names, defaults, bounds, and the one line that stops a boot."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from higgs_core.built_in import BUILT_IN
from higgs_core.engine_config import EngineConfig
from higgs_core.errors import SettingsError
from serverless.config.settings import DEFAULT_SYSTEM_PROMPT, Settings, unknown_variables, variables

BUCKET = {"BUCKET_NAME": "clips", "BUCKET_ACCESS_KEY_ID": "key-id", "BUCKET_SECRET_ACCESS_KEY": "s3cret"}

CONTRACT_DEFAULTS: dict[str, Any] = {
    "model_id": "bosonai/higgs-audio-v2-generation-3B-base",
    "audio_tokenizer_id": "bosonai/higgs-audio-v2-tokenizer",
    "tokenizer_id": None,
    "model_revision": None,
    "audio_tokenizer_revision": None,
    "system_prompt": "Generate audio following instruction.\n\n<|scene_desc_start|>\n"
    "Audio is recorded from a quiet room.\n<|scene_desc_end|>",
    "max_new_tokens": 2600,
    "temperature": 0.3,
    "top_p": 0.95,
    "top_k": 50,
    "ras_win_len": 7,
    "ras_win_max_num_repeat": 2,
    "response_format": "wav",
    "download_timeout": 30.0,
    "device": "auto",
    "torch_dtype": "auto",
    "weights": "auto",
    "log_level": "INFO",
    "streaming": False,
    "mode": "queue",
    "max_concurrency": "auto",
    "max_context": 8192,
    "reference_dirs": (Path("/runpod-volume"),),
    "voices_dir": None,
    "voices_read_only": False,
    "voices_at_boot": (),
    "max_saved_voices": 256,
    "api_key": None,
    "max_script_characters": 20_000,
    "max_references": 16,
    "max_reference_bytes": 20_000_000,
    "max_reference_seconds": 60.0,
    "max_total_reference_seconds": 300.0,
    "max_clip_memory_bytes": 500_000_000,
    "min_reference_seconds": 0.3,
    "max_redirects": 3,
    "max_inline_bytes": 18_000_000,
    "max_stream_chunk_bytes": 700_000,
}

# variable, text, field, value
READ = [
    ("HIGGS_AUDIO_MODEL_ID", "tiny", "model_id", "tiny"),
    ("HIGGS_AUDIO_MODEL_ID", " some/model\n", "model_id", "some/model"),
    ("HIGGS_AUDIO_AUDIO_TOKENIZER_ID", "a/codec", "audio_tokenizer_id", "a/codec"),
    ("HIGGS_AUDIO_TOKENIZER_ID", "a/tokenizer", "tokenizer_id", "a/tokenizer"),
    ("HIGGS_AUDIO_MODEL_REVISION", "abc", "model_revision", "abc"),
    ("HIGGS_AUDIO_AUDIO_TOKENIZER_REVISION", "def", "audio_tokenizer_revision", "def"),
    ("HIGGS_AUDIO_SYSTEM_PROMPT", "Be brief.\n", "system_prompt", "Be brief.\n"),
    ("HIGGS_AUDIO_SYSTEM_PROMPT", "", "system_prompt", ""),
    ("HIGGS_AUDIO_MAX_NEW_TOKENS", "256", "max_new_tokens", 256),
    ("HIGGS_AUDIO_TEMPERATURE", "0", "temperature", 0.0),
    ("HIGGS_AUDIO_TOP_P", "0.5", "top_p", 0.5),
    ("HIGGS_AUDIO_TOP_P", "", "top_p", None),
    ("HIGGS_AUDIO_TOP_K", "7", "top_k", 7),
    ("HIGGS_AUDIO_TOP_K", " ", "top_k", None),
    ("HIGGS_AUDIO_TOP_K", "0", "top_k", None),
    ("HIGGS_AUDIO_TOP_K", "-1", "top_k", None),
    ("HIGGS_AUDIO_RAS_WIN_LEN", "9", "ras_win_len", 9),
    ("HIGGS_AUDIO_RAS_WIN_LEN", "0", "ras_win_len", None),
    ("HIGGS_AUDIO_RAS_WIN_LEN", "-1", "ras_win_len", None),
    ("HIGGS_AUDIO_RAS_WIN_LEN", "", "ras_win_len", None),
    ("HIGGS_AUDIO_RAS_WIN_MAX_REPEAT", "3", "ras_win_max_num_repeat", 3),
    ("HIGGS_AUDIO_RESPONSE_FORMAT", "FLAC", "response_format", "flac"),
    ("HIGGS_AUDIO_DOWNLOAD_TIMEOUT", "2.5", "download_timeout", 2.5),
    ("HIGGS_AUDIO_DEVICE", "CUDA:1", "device", "cuda:1"),
    ("HIGGS_AUDIO_DEVICE", "", "device", "auto"),
    ("HIGGS_AUDIO_TORCH_DTYPE", "fp32", "torch_dtype", "float32"),
    ("HIGGS_AUDIO_TORCH_DTYPE", "float32", "torch_dtype", "float32"),
    ("HIGGS_AUDIO_TORCH_DTYPE", "FP16", "torch_dtype", "float16"),
    ("HIGGS_AUDIO_TORCH_DTYPE", "float16", "torch_dtype", "float16"),
    ("HIGGS_AUDIO_TORCH_DTYPE", "bf16", "torch_dtype", "bfloat16"),
    ("HIGGS_AUDIO_TORCH_DTYPE", "bfloat16", "torch_dtype", "bfloat16"),
    ("HIGGS_AUDIO_WEIGHTS", "INT8", "weights", "int8"),
    ("HIGGS_AUDIO_WEIGHTS", "fp8", "weights", "fp8"),
    ("HIGGS_AUDIO_KERNELS", "0", "kernels", False),
    ("HIGGS_AUDIO_LOG_LEVEL", "debug", "log_level", "DEBUG"),
    ("HIGGS_AUDIO_LOG_LEVEL", "WARN", "log_level", "WARNING"),
    ("HIGGS_AUDIO_LOG_LEVEL", "fatal", "log_level", "CRITICAL"),
    ("HIGGS_AUDIO_MAX_CONCURRENCY", "32", "max_concurrency", 32),
    ("HIGGS_AUDIO_MAX_CONCURRENCY", " AUTO", "max_concurrency", "auto"),
    ("HIGGS_AUDIO_MAX_CONCURRENCY", "", "max_concurrency", "auto"),
    ("HIGGS_AUDIO_HANG_SECONDS", "90.5", "hang_seconds", 90.5),
    ("HIGGS_AUDIO_HANG_SECONDS", " Auto", "hang_seconds", "auto"),
    ("HIGGS_AUDIO_STREAMING", "1", "streaming", True),
    ("HIGGS_AUDIO_MODE", "HTTP", "mode", "http"),
    ("HIGGS_AUDIO_MAX_CONTEXT", "4096", "max_context", 4096),
    ("HIGGS_AUDIO_REFERENCE_DIRS", "/a:/b c", "reference_dirs", (Path("/a"), Path("/b c"))),
    ("HIGGS_AUDIO_REFERENCE_DIRS", "", "reference_dirs", ()),
    ("HIGGS_AUDIO_CORS_ORIGINS", "*", "cors_origins", ("*",)),
    (
        "HIGGS_AUDIO_CORS_ORIGINS",
        "https://A.example:443/, http://b:3000",
        "cors_origins",
        ("https://a.example", "http://b:3000"),
    ),
    ("HIGGS_AUDIO_VOICES_DIR", "/voices", "voices_dir", Path("/voices")),
    ("HIGGS_AUDIO_VOICES_AT_BOOT", " alloy, nova ,", "voices_at_boot", ("alloy", "nova")),
    ("HIGGS_AUDIO_VOICES_READ_ONLY", "1", "voices_read_only", True),
    ("HIGGS_AUDIO_VOICES_AT_BOOT", "all", "voices_at_boot", ("all",)),
    ("HIGGS_AUDIO_API_KEY", "k", "api_key", SecretStr("k")),
    ("HIGGS_AUDIO_API_KEY", "  ", "api_key", None),
    ("HIGGS_AUDIO_HOST", "127.0.0.1", "host", "127.0.0.1"),
    ("PORT", "80", "port", 80),
    ("PORT_HEALTH", "81", "port_health", 81),
    ("BUCKET_REGION", "eu-west-1", "bucket_region", "eu-west-1"),
    ("BUCKET_PREFIX", "speech/", "bucket_prefix", "speech/"),
    ("BUCKET_URL_TTL_SECONDS", "60", "bucket_url_ttl_seconds", 60),
    ("HIGGS_AUDIO_MAX_SCRIPT_CHARACTERS", "100", "max_script_characters", 100),
]

# variable, the last values allowed, the first ones that are not
BOUNDS: list[tuple[str, list[str], list[str]]] = [
    ("HIGGS_AUDIO_MAX_NEW_TOKENS", ["1", "8192"], ["0", "8193", "1.5", "many"]),
    ("HIGGS_AUDIO_TEMPERATURE", ["0", "10"], ["-0.1", "10.1", "nan", "inf", "warm"]),
    ("HIGGS_AUDIO_TOP_P", ["0.001", "1"], ["0", "1.01", "nan"]),
    ("HIGGS_AUDIO_TOP_K", ["1", "1000000"], ["-2", "1000001", "1.5"]),
    ("HIGGS_AUDIO_RAS_WIN_LEN", ["64"], ["65", "x"]),
    ("HIGGS_AUDIO_RAS_WIN_MAX_REPEAT", ["1", "1000000"], ["0", "1000001"]),
    ("HIGGS_AUDIO_RESPONSE_FORMAT", ["wav", "flac", "mp3", "opus", "pcm"], ["ogg", "wave"]),
    ("HIGGS_AUDIO_DOWNLOAD_TIMEOUT", ["0.1", "300"], ["0", "-1", "301", "inf"]),
    ("HIGGS_AUDIO_DEVICE", ["auto", "cpu", "cuda", "cuda:0"], ["gpu", "cuda:", "cpu:0", "mps"]),
    ("HIGGS_AUDIO_TORCH_DTYPE", ["auto"], ["int8", "float64"]),
    ("HIGGS_AUDIO_WEIGHTS", ["auto", "int8", "fp8"], ["int4", "bf16", "8"]),
    ("HIGGS_AUDIO_LOG_LEVEL", ["WARNING", "ERROR", "CRITICAL"], ["TRACE", "5"]),
    ("HIGGS_AUDIO_STREAMING", ["0", "1", "true", "false"], ["2", "maybe"]),
    ("HIGGS_AUDIO_KERNELS", ["0", "1", "off", "on"], ["2", "triton"]),
    ("HIGGS_AUDIO_MODE", ["queue", "http"], ["both"]),
    ("HIGGS_AUDIO_MAX_CONCURRENCY", ["1", "256", "auto"], ["0", "257", "-1", "2.5", "automatic"]),
    ("HIGGS_AUDIO_MAX_CONTEXT", ["256", "131072"], ["255", "131073"]),
    ("HIGGS_AUDIO_REFERENCE_DIRS", ["/"], ["relative", "/a:b"]),
    ("HIGGS_AUDIO_CORS_ORIGINS", ["http://localhost"], ["a.example", "https://a.example/app", "*,https://a.example"]),
    ("HIGGS_AUDIO_PUBLIC_LISTS", ["0", "1"], ["open"]),
    ("HIGGS_AUDIO_DOCS", ["0", "1"], ["off-ish"]),
    ("HIGGS_AUDIO_MAX_IDLE_SECONDS", ["0.1", "86400"], ["0", "86401", "nan"]),
    ("HIGGS_AUDIO_MAX_BATCH_BYTES", ["1000", "1000000000"], ["999", "1000000001"]),
    ("HIGGS_AUDIO_VOICES_DIR", ["/"], ["voices"]),
    ("PORT", ["1", "65535"], ["0", "65536", "http"]),
    ("PORT_HEALTH", ["1", "65535"], ["0", "65536"]),
    ("BUCKET_REGION", ["auto"], ["EU West"]),
    ("BUCKET_URL_TTL_SECONDS", ["1", "604800"], ["0", "604801"]),
    ("HIGGS_AUDIO_MAX_REQUEST_BYTES", ["1000", "30000000"], ["999", "30000001"]),
    ("HIGGS_AUDIO_MAX_CONNECTIONS", ["16", "10000"], ["15", "10001"]),
    ("HIGGS_AUDIO_MAX_HEADER_SECONDS", ["0.1", "600"], ["0", "601"]),
    ("HIGGS_AUDIO_MAX_BODY_SECONDS", ["0.1", "600"], ["0", "601"]),
    ("HIGGS_AUDIO_MAX_STALLED_SECONDS", ["0.1", "600"], ["0", "601"]),
    ("HIGGS_AUDIO_MAX_BODIES_BYTES", ["1000", "100000000000"], ["999", "100000000001"]),
    ("HIGGS_AUDIO_MAX_UNREAD_BYTES", ["1000", "100000000000"], ["999", "100000000001"]),
    ("HIGGS_AUDIO_MAX_SCRIPT_CHARACTERS", ["1", "1000000"], ["0", "1000001"]),
    ("HIGGS_AUDIO_MAX_MESSAGE_PARTS", ["1", "10000"], ["0", "10001"]),
    ("HIGGS_AUDIO_MAX_PIECES", ["1", "10000"], ["0", "10001"]),
    ("HIGGS_AUDIO_MAX_AUDIO_SECONDS", ["1", "86400"], ["0.9", "86401"]),
    ("HIGGS_AUDIO_HANG_SECONDS", ["1", "86400", "auto"], ["0", "0.5", "86401", "-1", "off", "nan"]),
    ("HIGGS_AUDIO_MAX_QUEUED_REQUESTS", ["0", "10000"], ["-1", "10001"]),
    ("HIGGS_AUDIO_MAX_REFERENCES", ["0", "64"], ["-1", "65"]),
    ("HIGGS_AUDIO_MAX_REFERENCE_BYTES", ["1000", "100000000"], ["999", "100000001"]),
    ("HIGGS_AUDIO_MIN_REFERENCE_SECONDS", ["0", "10"], ["-1", "10.1"]),
    ("HIGGS_AUDIO_MAX_REFERENCE_SECONDS", ["1", "300"], ["0.9", "301"]),
    ("HIGGS_AUDIO_MAX_TOTAL_REFERENCE_SECONDS", ["1", "3600"], ["0.9", "3601"]),
    ("HIGGS_AUDIO_MAX_CLIP_MEMORY_BYTES", ["1000000", "100000000000"], ["999999", "100000000001"]),
    ("HIGGS_AUDIO_MAX_DOWNLOAD_TIMEOUT", ["30", "3600"], ["0", "3601"]),
    ("HIGGS_AUDIO_MAX_REDIRECTS", ["0", "10"], ["-1", "11"]),
    ("HIGGS_AUDIO_MAX_SAVED_VOICES", ["0", "10000"], ["-1", "10001"]),
    ("HIGGS_AUDIO_MAX_INLINE_BYTES", ["1000", "19000000"], ["999", "19000001"]),
    ("HIGGS_AUDIO_MAX_UPLOAD_SECONDS", ["0.5", "3600"], ["0", "3601", "nan"]),
    ("HIGGS_AUDIO_MAX_STREAM_CHUNK_BYTES", ["1000", "700000"], ["999", "700001"]),
    ("HIGGS_AUDIO_MAX_RESULT_HOLD", ["1", "3600"], ["0", "3601"]),
]


def test_an_empty_environment_gives_the_defaults_of_the_contract() -> None:
    settings = Settings.from_environment({})
    assert {name: getattr(settings, name) for name in CONTRACT_DEFAULTS} == CONTRACT_DEFAULTS


@pytest.mark.parametrize(("variable", "text", "field", "value"), READ)
def test_a_variable_reaches_its_field(variable: str, text: str, field: str, value: object) -> None:
    assert getattr(Settings.from_environment({variable: text}), field) == value


def test_every_variable_is_covered_by_a_test_that_reads_or_bounds_it() -> None:
    covered = {row[0] for row in READ} | {row[0] for row in BOUNDS} | {*BUCKET, "BUCKET_ENDPOINT_URL"}
    assert set(variables()) == covered


@pytest.mark.parametrize(("variable", "text"), [(name, text) for name, allowed, _ in BOUNDS for text in allowed])
def test_a_value_at_the_edge_is_allowed(variable: str, text: str) -> None:
    Settings.from_environment({variable: text})


@pytest.mark.parametrize(("variable", "text"), [(name, text) for name, _, refused in BOUNDS for text in refused])
def test_a_wrong_value_is_one_line_with_variable_value_and_what_is_allowed(variable: str, text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment({variable: text})
    message = str(caught.value)
    assert message.startswith(f"{variable} is ")
    assert text in message.split(";")[0]
    assert "allowed is " in message
    assert "\n" not in message


def test_a_long_value_is_cut_in_the_error() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment({"HIGGS_AUDIO_DEVICE": "x" * 10_000 + "\nsecond line"})
    assert len(str(caught.value)) < 200
    assert "\n" not in str(caught.value)


def test_os_environ_is_the_default_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "HIGGS_AUDIO_TEMPERATURE", "0.9")
    assert Settings.from_environment().temperature == 0.9


def test_settings_built_in_a_test_do_not_read_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "HIGGS_AUDIO_TEMPERATURE", "0.9")
    assert Settings().temperature == 0.3


def test_variables_of_others_are_left_alone() -> None:
    assert Settings.from_environment({"PATH": "/bin", "temperature": "9", "HIGGS_AUDIO_NEW": "1"}) == Settings()


def test_settings_are_frozen_and_refuse_unknown_fields() -> None:
    with pytest.raises(ValidationError):
        Settings().port = 1  # type: ignore[misc]
    with pytest.raises(ValidationError):
        Settings(prot=1)  # type: ignore[call-arg]


def test_secrets_show_neither_in_repr_nor_in_an_error() -> None:
    environment = {
        **BUCKET,
        "HIGGS_AUDIO_API_KEY": "api-s3cret",
        "BUCKET_ENDPOINT_URL": "https://user:s3cret@host",
    }
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment(environment)
    assert "BUCKET_ENDPOINT_URL" in str(caught.value)
    assert "s3cret" not in str(caught.value)
    settings = Settings.from_environment(environment | {"BUCKET_ENDPOINT_URL": "https://host"})
    assert "s3cret" not in f"{settings!r} {settings.s3_config!r}"
    assert "key-id" not in f"{settings!r} {settings.s3_config!r}"


def test_no_bucket_is_no_s3() -> None:
    assert Settings.from_environment({"BUCKET_REGION": "auto", "BUCKET_PREFIX": "x"}).s3_config is None


def test_a_bucket_is_read_whole() -> None:
    endpoint = {"BUCKET_ENDPOINT_URL": "https://s3.example.com/", "BUCKET_REGION": "auto"}
    config = Settings.from_environment({**BUCKET, **endpoint}).s3_config
    assert config is not None
    assert (config.bucket_name, config.endpoint_url, config.region) == ("clips", "https://s3.example.com", "auto")
    assert config.access_key_id.get_secret_value() == "key-id"
    assert config.secret_access_key.get_secret_value() == "s3cret"


@pytest.mark.parametrize("missing", BUCKET)
def test_half_a_bucket_is_an_error_that_names_what_is_missing(missing: str) -> None:
    with pytest.raises(SettingsError, match=f"^{missing} is not set"):
        Settings.from_environment({name: value for name, value in BUCKET.items() if name != missing})


@pytest.mark.parametrize("name", ["a", "../up", "a/b", "-a", "a b"])
def test_a_bucket_must_have_the_name_of_one(name: str) -> None:
    with pytest.raises(SettingsError, match=r"^BUCKET_NAME is "):
        Settings.from_environment({**BUCKET, "BUCKET_NAME": name})


def test_an_endpoint_alone_is_half_a_bucket() -> None:
    with pytest.raises(SettingsError, match=r"^BUCKET_NAME is not set"):
        Settings.from_environment({"BUCKET_ENDPOINT_URL": "https://host"})


@pytest.mark.parametrize(
    "url", ["host", "ftp://host", "https://", "https://h/?q", "https://h/#f", "https://h:x", "https://[", "https://h o"]
)
def test_a_bucket_address_must_be_an_address(url: str) -> None:
    with pytest.raises(SettingsError, match=r"^BUCKET_ENDPOINT_URL is not allowed"):
        Settings.from_environment({**BUCKET, "BUCKET_ENDPOINT_URL": url})


def test_a_small_context_lowers_the_default_but_not_what_was_asked_for() -> None:
    settings = Settings.from_environment({"HIGGS_AUDIO_MAX_CONTEXT": "512"})
    assert settings.max_new_tokens_ceiling == 512
    with pytest.raises(SettingsError, match=r"HIGGS_AUDIO_MAX_NEW_TOKENS is 513.*HIGGS_AUDIO_MAX_CONTEXT.*512"):
        Settings.from_environment({"HIGGS_AUDIO_MAX_CONTEXT": "512", "HIGGS_AUDIO_MAX_NEW_TOKENS": "513"})


def test_the_health_port_is_the_port_unless_it_is_set() -> None:
    assert Settings(port=5000).health_port == 5000
    assert Settings(port=5000, port_health=5001).health_port == 5001


def test_the_system_prompt_is_builtin_until_the_operator_sets_one() -> None:
    assert Settings().system_prompt_is_builtin
    assert Settings.from_environment({"HIGGS_AUDIO_SYSTEM_PROMPT": DEFAULT_SYSTEM_PROMPT}).system_prompt_is_builtin
    assert not Settings.from_environment({"HIGGS_AUDIO_SYSTEM_PROMPT": ""}).system_prompt_is_builtin


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_built_in_model_is_loaded_with_its_own_codec_and_tokenizer(name: str) -> None:
    config = Settings(model_id=name, tokenizer_id="org/other").engine_config(progress=False)
    assert (config.model, config.audio_tokenizer, config.tokenizer) == (name, None, None)
    assert name in variables()["HIGGS_AUDIO_MODEL_ID"]


def test_what_the_engine_is_loaded_from_follows_the_settings() -> None:
    settings = Settings(max_concurrency=3, device="cpu", torch_dtype="float32", weights="int8", kernels=False)
    assert settings.engine_config(progress=True) == EngineConfig(
        model="bosonai/higgs-audio-v2-generation-3B-base",
        audio_tokenizer="bosonai/higgs-audio-v2-tokenizer",
        device="cpu",
        dtype="float32",
        max_batch_size=3,
        max_context=8192,
        progress=True,
        weights="int8",
        kernels=False,
    )


def test_the_concurrency_that_is_not_allowed_is_told_in_one_sentence() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment({"HIGGS_AUDIO_MAX_CONCURRENCY": "all"})
    assert str(caught.value) == (
        "HIGGS_AUDIO_MAX_CONCURRENCY is 'all'; allowed is auto (as many as suit the GPU) or 1 to 256."
    )


def test_a_misspelt_variable_is_pointed_out() -> None:
    sentences = unknown_variables({"HIGGS_AUDIO_TEMPRATURE": "1", "HIGGS_AUDIO_TOP_K": "5", "HIGGS_AUDIO_ZZZ": ""})
    assert sentences == (
        "HIGGS_AUDIO_TEMPRATURE is not a setting; did you mean HIGGS_AUDIO_TEMPERATURE?",
        "HIGGS_AUDIO_ZZZ is not a setting.",
    )
    assert unknown_variables({"OTHER": "1", "HOME": "/", "HUGGING_FACE_HUB_TOKEN": "x", "HIGGINS_ROAD": "5"}) == ()


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("HIGGS_AUDIO_PORT", "PORT"),
        ("HIGGS_AUDIO_MODEL", "HIGGS_AUDIO_MODEL_ID"),
        ("HIGGS_AUDIO_KEY", "HIGGS_AUDIO_API_KEY"),
        ("higgs_audio_mode", "HIGGS_AUDIO_MODE"),
        ("HIGS_AUDIO_VOICES_DIR", "HIGGS_AUDIO_VOICES_DIR"),
        ("HIGGS_AUIDO_MAX_CONTEXT", "HIGGS_AUDIO_MAX_CONTEXT"),
    ],
)
def test_the_nearest_variable_is_named(name: str, near: str) -> None:
    assert unknown_variables({name: "1"}) == (f"{name} is not a setting; did you mean {near}?",)
