"""How a web server is asked for ranges of files, several side by side."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
from fsspec.implementations.http import HTTPFileSystem

from rosetta.errors import DamagedFileError, UsageError
from rosetta.sources.afar.store import BLOCK, Facts, Span

TRIES = 4
PAUSE = 0.25  # seconds before the second try; twice as long before each further one
LONGEST_PAUSE = 20.0  # seconds that a server may ask for
CONNECT, SILENCE = 10.0, 20.0  # seconds to be connected in, and without a byte
AT_ONCE = 8  # requests
WHOLE = 64 << 20  # bytes of a file beside the weights that may come whole where a server knows no ranges
WEIGHTS = (".gguf", ".apr", ".safetensors")
_AGAIN = frozenset([408, 425, 429, 500, 502, 503, 504])  # what a server says of now, not of the file
_ABSENT = frozenset([404, 410])
PAGES = ("text/html", "application/xhtml+xml")  # types of what no model has among its files


@dataclass(frozen=True)
class _Answer:
    """What a server sent for a range: None where there is no such file."""

    data: bytes
    size: int
    version: str | None


class WebFiles:
    """Files of a web server.

    Args:
        address: the whole address of a file, by its name in the store.
        headers: that go with every request.
        listed: the files, where these are known; else a server cannot list.
        revision: that all addresses name, where they do: such files do not change.
    """

    def __init__(
        self,
        address: Callable[[str], str],
        headers: Mapping[str, str] | None = None,
        listed: Sequence[str] | None = None,
        revision: str | None = None,
    ) -> None:
        self._address, self._listed, self._revision = address, listed, revision
        self._system = _Ranges(headers or {})

    @property
    def requests(self) -> int:
        """See `Files.requests`."""
        return self._system.requests

    def facts(self, name: str) -> Facts | None:
        """See `Files.facts`: by asking for the first block."""
        if self._listed is not None and name not in self._listed:
            return None
        found = self._system.first(self._address(name), may_be_whole=not name.endswith(WEIGHTS))
        return None if found is None else Facts(found.size, self._revision or found.version, found.data)

    def names(self, folder: str) -> Sequence[str] | None:
        """See `Files.names`."""
        if self._listed is None:
            return None
        prefix = f"{folder}/" if folder else ""
        inside = (name.removeprefix(prefix) for name in self._listed if name.startswith(prefix))
        return list(dict.fromkeys(name.partition("/")[0] for name in inside))

    def ranges(self, name: str, spans: Sequence[Span], facts: Facts) -> list[bytes]:
        """See `Files.ranges`."""
        address = self._address(name)
        self._system.pins[address] = (facts.size, None if self._revision else facts.version)
        found: list[bytes | Exception] = self._system.cat_ranges(
            [address] * len(spans),
            *map(list, zip(*spans, strict=True)),
            batch_size=AT_ONCE,
            on_error="return",
        )
        for part in found:
            if isinstance(part, Exception):
                raise part
        return [part for part in found if isinstance(part, bytes)]


class _Ranges(HTTPFileSystem):  # type: ignore[misc]  # fsspec has no types
    """fsspec's file system of the web, which holds each answer to what was asked."""

    cachable = False  # fsspec gives equal calls one object, and each store counts for itself

    def __init__(self, headers: Mapping[str, str]) -> None:
        timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT, sock_connect=CONNECT, sock_read=SILENCE)
        super().__init__(
            client_kwargs={"headers": {"Accept-Encoding": "identity", **headers}, "timeout": timeout},
            encoded=False,
        )
        self.requests = 0
        self.pins: dict[str, tuple[int, str | None]] = {}

    def first(self, url: str, *, may_be_whole: bool) -> _Answer | None:
        """The first block of a file; all of it where the server knows no ranges and it may be so; None where there is
        no file."""
        from fsspec.asyn import sync

        found: _Answer | None = sync(self.loop, self._asked, url, 0, BLOCK, may_be_whole)
        return found

    async def _cat_file(self, url: str, start: int = 0, end: int = 0, **_: Any) -> bytes:
        found = await self._asked(url, start, end, False)
        size, version = self.pins[url]
        if found is None:
            raise DamagedFileError("is gone since it was opened", file=url, remedy=_STILL)
        if (found.size, found.version if version else None) != (size, version):
            was, now = f"{size:,} bytes, {version}", f"{found.size:,} bytes, {found.version}"
            raise DamagedFileError(
                f"has changed since it was opened: {was}, now {now}", file=url, remedy=_STILL
            )
        return found.data

    async def _asked(self, url: str, start: int, stop: int, may_be_whole: bool) -> _Answer | None:
        """One range, asked for again where the server is busy, silent or breaks off."""
        pause, reason = PAUSE, ""
        for again in range(TRIES):
            if again:
                await asyncio.sleep(pause)
                pause *= 2
            try:
                session = await self.set_session()
                self.requests += 1
                headers = {"Range": f"bytes={start}-{stop - 1}"}
                async with session.get(self.encode_url(url), headers=headers) as answer:
                    if answer.status in _AGAIN:
                        reason = f"the server says {answer.status} {answer.reason or ''}".rstrip()
                        pause = max(pause, _asked_pause(answer.headers.get("Retry-After")))
                        continue
                    return await _read(url, answer, start, stop, may_be_whole)
            except TimeoutError:
                reason = f"the server said nothing for {SILENCE:g} seconds"
            except aiohttp.InvalidURL as error:
                raise UsageError("is no address", file=url, remedy="check it") from error
            except aiohttp.TooManyRedirects as error:
                message = f"leads to other addresses without end, {len(error.history)} of them"
                raise UsageError(message, file=url, remedy="check the address") from error
            except aiohttp.ClientPayloadError:
                reason = "the server broke off in the midst of an answer"
            except (aiohttp.ClientError, OSError) as error:
                reason = f"{error}" or type(error).__name__
        raise UsageError(
            f"cannot be read, tried {TRIES} times: {reason}",
            file=url,
            remedy="check the address and the network, or try again later",
        )


_STILL = "compare what does not change, or download it first"
_LOGIN = "check the address, and whether it asks to log in first"
_DENIED = "check the address; what its owner must vouch for takes a token of the environment (HF_TOKEN, for the hub)"


async def _read(
    url: str, answer: aiohttp.ClientResponse, start: int, stop: int, may_be_whole: bool
) -> _Answer | None:
    version = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
    if answer.status in _ABSENT:
        return None
    if answer.status in (401, 403):
        raise UsageError(f"may not be read: the server says {answer.status}", file=url, remedy=_DENIED)
    if answer.status == 416:  # it has fewer bytes than where the range starts
        return _Answer(b"", _total(answer) or 0, version)
    if answer.status in (200, 206) and answer.content_type in PAGES:
        raise UsageError("the server answers with a web page, not with the file", file=url, remedy=_LOGIN)
    if answer.status == 206:
        size, begin = _total(answer), _begin(answer)
        if size is None or begin != start:
            said = answer.headers.get("Content-Range", "nothing")
            message = f"the server answers bytes {start:,} to {stop:,} with the range {said!r:.60}"
            raise UsageError(message, file=url, remedy=_NO_RANGES)
        return _Answer(await _body(url, answer, min(stop, size) - start), size, version)
    if answer.status == 200:
        size = answer.content_length
        if size is not None and start == 0 and size <= (WHOLE if may_be_whole else stop):
            return _Answer(await _body(url, answer, size), size, version)
        message = "the server sends whole files only, and a model is read by ranges"
        raise UsageError(message, file=url, remedy=_NO_RANGES)
    raise UsageError(f"cannot be read: the server says {answer.status}", file=url, remedy="check the address")


_NO_RANGES = "download it, and give the file"


async def _body(url: str, answer: aiohttp.ClientResponse, nbytes: int) -> bytes:
    """As many bytes as were promised; more are not taken."""
    data = bytearray()
    async for part in answer.content.iter_chunked(1 << 18):
        data += part
        if len(data) > nbytes:
            raise UsageError("the server sends more than it was asked for", file=url, remedy=_NO_RANGES)
    if len(data) < nbytes:
        raise aiohttp.ClientPayloadError
    return bytes(data)


def _total(answer: aiohttp.ClientResponse) -> int | None:
    """Bytes of the whole file: `Content-Range: bytes 0-9/1234` (RFC 9110, 14.4)."""
    total = answer.headers.get("Content-Range", "").rpartition("/")[2]
    return int(total) if total.isascii() and total.isdigit() and len(total) < 19 else None


def _begin(answer: aiohttp.ClientResponse) -> int | None:
    begin = answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0].strip()
    return int(begin) if begin.isascii() and begin.isdigit() and len(begin) < 19 else None


def _asked_pause(text: str | None) -> float:
    """Seconds that `Retry-After` asks for, which is a number of them or a date (RFC 9110, 10.2.3)."""
    if text is None:
        return 0.0
    if text.isascii() and text.isdigit():
        return min(float(text), LONGEST_PAUSE)
    try:
        wait = parsedate_to_datetime(text).timestamp() - time.time()
    except (ValueError, OverflowError):
        return 0.0
    return min(max(wait, 0.0), LONGEST_PAUSE)
