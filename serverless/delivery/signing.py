"""Signature version 4 of the two requests that a bucket is used with. Computed here: nothing is contacted.

Only botocore's signers are used. Its client would choose hosts and follow redirects by itself, and ask a store whose
bucket has the name of a directory bucket for a session first.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serverless.config.s3 import S3Config


class Signer:
    """Signs for the keys of one bucket. It never shows them."""

    def __init__(self, config: S3Config) -> None:
        self._access_key_id = config.access_key_id
        self._secret_access_key = config.secret_access_key

    def put(self, url: str, data: bytes, *, content_type: str, region: str) -> dict[str, str]:
        """The headers of a PUT of `data`, whose hash is signed too. Blocking: reads all of it."""
        from botocore.auth import S3SigV4Auth

        return dict(self._signed(S3SigV4Auth, "PUT", url, region, data=data, headers={"Content-Type": content_type})[1])

    def link(self, url: str, *, region: str, lifetime_seconds: int) -> str:
        """A URL that gets the object, for whoever holds it, for so long from now."""
        from botocore.auth import S3SigV4QueryAuth

        return self._signed(partial(S3SigV4QueryAuth, expires=lifetime_seconds), "GET", url, region)[0]

    def _signed(self, auth: Any, method: str, url: str, region: str, **parts: Any) -> tuple[str, Any]:
        """The URL and the headers of a request, signed."""
        from botocore.awsrequest import AWSRequest
        from botocore.credentials import Credentials

        keys = Credentials(self._access_key_id.get_secret_value(), self._secret_access_key.get_secret_value())
        request = AWSRequest(method, url, **parts)
        auth(keys, "s3", region).add_auth(request)
        return request.url, request.headers
