"""How a bucket is asked for ranges of files, several side by side, through fsspec."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import fsspec

from rosetta.errors import DamagedFileError, RosettaError, UsageError
from rosetta.sources.afar.store import Facts, Span
from rosetta.sources.buckets import LIBRARIES

AT_ONCE = 8  # requests
OPTIONS: dict[str, dict[str, Any]] = {
    "s3": {"config_kwargs": {"connect_timeout": 10, "read_timeout": 20, "retries": {"max_attempts": 2}}},
    "gs": {},
}
"""Of the library that reads a kind of bucket."""
ANONYMOUS: dict[str, dict[str, Any]] = {"s3": {"anon": True}, "gs": {"token": "anon"}}
"""What reads a public bucket where no credentials are found."""
# What says which file it is, the surest first.
_VERSIONS = ("VersionId", "generation", "ETag", "etag", "md5Hash")
# Amazon S3, error responses: another region is asked than the bucket's; there is too much to do.
ELSEWHERE = ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "301")
BUSY = ("SlowDown", "InternalError", "ServiceUnavailable", "500", "503")
_STILL = "compare what does not change, or download it first"
Result = TypeVar("Result")


class BucketFiles:
    """Files under one folder of a bucket.

    Args:
        scheme: `s3`, `gs`.
        root: the bucket, and the folder in it.
    """

    def __init__(self, scheme: str, root: str) -> None:
        self._scheme, self._root, self.requests = scheme, root, 0
        self._system = _system(scheme)

    def facts(self, name: str) -> Facts | None:
        """See `Files.facts`."""
        info = self._info(name)
        return None if info is None else Facts(int(info["size"]), _version(info))

    def names(self, folder: str) -> Sequence[str]:
        """See `Files.names`."""
        place = self._place(folder)

        def listed() -> list[str]:
            try:
                return [str(path) for path in self._system.ls(place, detail=False)]
            except FileNotFoundError:
                return []

        paths = self._asked(folder, listed)
        return [path.rstrip("/").rpartition("/")[2] for path in paths if path.rstrip("/") != place]

    def ranges(self, name: str, spans: Sequence[Span], facts: Facts) -> list[bytes]:
        """See `Files.ranges`. What the file is is asked for again after its bytes have come, so that all are of it."""
        place = self._place(name)
        self.requests += len(spans)
        starts, ends = map(list, zip(*spans, strict=True))
        found = self._asked(
            name,
            lambda: self._system.cat_ranges(
                [place] * len(spans), starts, ends, batch_size=AT_ONCE, on_error="raise"
            ),
        )
        info = self._info(name)
        if info is None:
            raise DamagedFileError("is gone since it was opened", file=self._shown(name), remedy=_STILL)
        now = int(info["size"]), _version(info)
        if now != (facts.size, facts.version):
            was = f"{facts.size:,} bytes, {facts.version}"
            message = f"has changed since it was opened: {was}, now {now[0]:,} bytes, {now[1]}"
            raise DamagedFileError(message, file=self._shown(name), remedy=_STILL)
        return [bytes(part) for part in found]

    def _info(self, name: str) -> dict[str, Any] | None:
        def info() -> dict[str, Any] | None:
            try:
                found = dict(self._system.info(self._place(name)))
            except FileNotFoundError:
                return None
            return found if found.get("type") == "file" else None

        self.requests += 1
        return self._asked(name, info)

    def _asked(self, name: str, what: Callable[[], Result]) -> Result:
        """What a call of the library gives; without credentials it is called again as anybody may."""
        try:
            return what()
        except RosettaError:
            raise
        except Exception as error:  # each library has its own, and those of what is beneath it
            if type(error).__name__ != "NoCredentialsError" or self._system.storage_options.get("anon"):
                raise self._retold(name, error) from error
        self._system = _system(self._scheme, **ANONYMOUS[self._scheme])
        return self._asked(name, what)

    def _retold(self, name: str, error: Exception) -> UsageError:
        strerror = error.strerror if isinstance(error, OSError) else None
        said = ((strerror or str(error)).splitlines() or [""])[0].rstrip(".") or type(error).__name__
        code, region = _answer(error)
        how, remedy = "cannot be read", "check the address and the network"
        if code in ELSEWHERE:
            remedy = f"name the region of the bucket{f', {region},' if region else ''} in AWS_DEFAULT_REGION"
        elif code in BUSY:
            remedy = "run it again later"
        elif isinstance(error, PermissionError):
            how, remedy = "may not be read", "give credentials that may, in the environment"
        return UsageError(f"{how}: {said:.200}", file=self._shown(name), remedy=remedy)

    def _place(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    def _shown(self, name: str) -> str:
        return f"{self._scheme}://{self._place(name)}"


def _system(scheme: str, **options: Any) -> Any:
    # What goes wrong is raised, and said in one sentence: Python would show what the libraries log beside it, with
    # tracebacks, where nobody has asked for their logs.
    for library in ("fsspec", LIBRARIES[scheme]):
        logging.getLogger(library).addHandler(logging.NullHandler())
    return fsspec.filesystem(
        scheme, skip_instance_cache=True, use_listings_cache=False, **OPTIONS[scheme], **options
    )


def _answer(error: BaseException | None) -> tuple[str | None, str | None]:
    """The code of an answer of Amazon's protocol, and the region that it names; botocore's ClientError has both, and
    lies beneath what s3fs raises."""
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, dict):
            said = response.get("Error", {})
            headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
            return said.get("Code"), said.get("Region") or headers.get("x-amz-bucket-region")
        error = error.__cause__ or error.__context__
    return None, None


def _version(info: dict[str, Any]) -> str | None:
    """What tells a file from a later one at its place."""
    found = next((info[key] for key in _VERSIONS if info.get(key) not in (None, "null")), None)
    return None if found is None else str(found)
