"""Why a voice cannot be found, added or removed; the HTTP server has a status for each code."""

from __future__ import annotations

from higgs_core.errors import RequestError


class VoiceNotFoundError(RequestError):
    """No voice has that name."""

    code = "voice_not_found"


class VoiceExistsError(RequestError):
    """A voice of that name exists, and an added one does not replace it."""

    code = "voice_exists"


class VoiceFixedError(RequestError):
    """The voice came with the worker or with the operator's folder, or that folder cannot be changed."""

    code = "voice_not_deletable"


class TooManyVoicesError(RequestError):
    """As many voices were added as the worker keeps."""

    code = "too_many_voices"
