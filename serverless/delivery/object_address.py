"""Where an object of a bucket lies: chosen from the endpoint as text, before any host is checked or dialled.

A store is asked under the bucket's own host (`https://bucket.host/key`, virtual-hosted style) where the endpoint is
written so or AWS is meant, else under a path (`https://host/bucket/key`).
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, replace
from urllib.parse import quote, urlsplit

_DEFAULT_REGION = "us-east-1"  # what stores that have no regions are signed for
_REGION = re.compile(r"[a-z]{2,}(-[a-z0-9]+)+")
_REGION_IN_HOST = re.compile(rf"(?:^|\.)s3(?:-fips)?(?:\.dualstack)?[.-]({_REGION.pattern})\.")
_AWS_SUFFIXES = {"cn-": "amazonaws.com.cn", "eusc-": "amazonaws.eu"}  # by the start of the region
_AWS_HOST = re.compile(r"(?:.+\.)?amazonaws\.(?:com|com\.cn|eu)")
_AWS_S3_HOST = re.compile(r"s3(?:[.-][a-z0-9-]+)*\.amazonaws\.(?:com|com\.cn|eu)")
_HOST_LABEL = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")  # a name with dots has no certificate as a host's part


@dataclass(frozen=True)
class ObjectAddress:
    """The address of every key of one bucket. url_start: up to the slash before the key. region: to sign for.

    is_aws: the host follows from bucket and region, and is not the operator's or the job's choice.
    """

    url_start: str
    bucket: str
    region: str
    is_aws: bool

    def url(self, key: str) -> str:
        """Percent-encoded as S3 signs it."""
        return f"{self.url_start}/{quote(key, safe='/~')}"

    def in_region(self, region: str) -> ObjectAddress | None:
        """The same bucket where a store says that it is; None when that is no news, or no region.

        Only AWS's own hosts follow the region. Any other store is asked at the same address again, signed anew.
        """
        if region == self.region or len(region) > 64 or not _REGION.fullmatch(region):
            return None
        return _on_aws(self.bucket, region) if self.is_aws else replace(self, region=region)


def object_address(endpoint: str | None, bucket: str, region: str | None) -> ObjectAddress:
    """How the objects of `bucket` are addressed. endpoint: as config/types.py checks it; None is AWS itself.

    RunPod's own examples write the bucket into the endpoint, as host or path: it is not added twice.
    """
    if endpoint is None:
        return _on_aws(bucket, region or _DEFAULT_REGION)
    parts = urlsplit(endpoint)
    host, port = parts.hostname or "", f":{parts.port}" if parts.port else ""
    region = region or region_of(host)
    path = parts.path.rstrip("/")
    if _AWS_HOST.fullmatch(host):
        host, path = host.removeprefix(f"{bucket}."), path.removesuffix(f"/{bucket}")
        is_aws = parts.scheme == "https" and not port and not path and bool(_AWS_S3_HOST.fullmatch(host))
        return ObjectAddress(_start(parts.scheme, host, port, path, bucket), bucket, region, is_aws)
    if not path.endswith(f"/{bucket}") and not (_is_name(host) and host.startswith(f"{bucket.lower()}.")):
        path += f"/{bucket}"
    return ObjectAddress(f"{parts.scheme}://{_in_authority(host)}{port}{path}", bucket, region, is_aws=False)


def region_of(host: str) -> str:
    """The region that a host names (`s3.eu-west-1.amazonaws.com`), else the one that stores ignore."""
    named = _REGION_IN_HOST.search(host)
    return named[1] if named else _DEFAULT_REGION


def _on_aws(bucket: str, region: str) -> ObjectAddress:
    suffix = next((name for start, name in _AWS_SUFFIXES.items() if region.startswith(start)), "amazonaws.com")
    return ObjectAddress(_start("https", f"s3.{region}.{suffix}", "", "", bucket), bucket, region, is_aws=True)


def _start(scheme: str, host: str, port: str, path: str, bucket: str) -> str:
    """On AWS: the bucket in the host, where it can stand there."""
    if _HOST_LABEL.fullmatch(bucket) and not path:
        return f"{scheme}://{bucket}.{host}{port}"
    return f"{scheme}://{host}{port}{path}/{bucket}"


def _is_name(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return True
    return False


def _in_authority(host: str) -> str:
    return f"[{host}]" if ":" in host else host
