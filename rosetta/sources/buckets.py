"""Files in buckets: `s3://bucket/model.gguf`, `gs://bucket/folder`, with the credentials that their libraries find."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from rosetta.errors import UsageError
from rosetta.sources.remote_path import RemotePath

LIBRARIES = {"s3": "s3fs", "gs": "gcsfs"}


def names_place(operand: str) -> bool:
    """Whether it is an address of a bucket."""
    scheme, colon, _ = operand.partition("://")
    return bool(colon) and scheme in LIBRARIES


def locate(operand: str) -> Path:
    """The file or folder at an address.

    Raises:
        UsageError: the library that reads such buckets is not installed, or no bucket is named.
    """
    scheme, _, rest = operand.partition("://")
    if any(find_spec(name) is None for name in ("fsspec", LIBRARIES[scheme])):
        message = f"is read with {LIBRARIES[scheme]}, which is not installed"
        raise UsageError(message, file=operand, remedy="pip install 'rosetta-trace[remote]'")
    bucket, _, key = rest.strip("/").partition("/")
    if not bucket:
        raise UsageError("names no bucket", file=operand, remedy=f"give {scheme}://BUCKET/FILE")
    from rosetta.sources.afar.bucket_files import BucketFiles
    from rosetta.sources.afar.store import Store

    folder, _, name = key.rpartition("/")
    root = f"{bucket}/{folder}" if folder else bucket
    return RemotePath(Store(BucketFiles(scheme, root), f"{scheme}://{root}"), name)
