"""Decode a response body in small pieces and within limits.

Requests ask for ``identity``, but a gateway may compress all the same. httpx decodes each piece of the network
as a whole, and 64 KiB of gzip can be 64 MiB of text; so it is decoded here, and refused when it is larger than
a response of this kind can be.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping

from maas_client.errors import TransportError

MAX_COMPRESSED_RESPONSE_BYTES = 16 * 2**20
"""The largest response that is decoded, in bytes of text."""
_PIECE_BYTES = 64 * 2**10


class BodyDecoder:
    """Decodes one response body.

    Args:
        url: The address of the request, without its query, for errors.
        headers: The response headers, names in lower case.
        max_bytes: The largest body that is accepted if it is not compressed; None for no limit.

    Raises:
        TransportError: The body is larger than allowed, or in an encoding that was not asked for.
    """

    def __init__(self, url: str, headers: Mapping[str, str], max_bytes: int | None) -> None:
        self._url = url
        self._size = 0
        self._is_empty = True
        self._inflate: zlib._Decompress | None = None
        self._max_bytes = max_bytes
        encoding = headers.get("content-encoding", "").strip().lower()
        if encoding in ("gzip", "x-gzip", "deflate"):
            self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 32)
            limit = MAX_COMPRESSED_RESPONSE_BYTES
            self._max_bytes = limit if max_bytes is None else min(limit, max_bytes)
        elif encoding not in ("", "identity"):
            raise TransportError(
                f"{url}: the response is encoded as {encoding[:40]!r}, which was not asked for",
                url=url,
                hint="A proxy or a gateway may have changed the response.",
            )
        length = headers.get("content-length", "")
        if self._max_bytes is not None and length.isdecimal() and int(length) > self._max_bytes:
            raise self._too_large()

    def decode(self, data: bytes) -> Iterator[bytes]:
        """Yield the decoded text of one piece of the network."""
        if self._inflate is None:
            self._count(data)
            yield data
            return
        self._is_empty = self._is_empty and not data
        try:
            while data and not self._inflate.eof:
                piece = self._inflate.decompress(data, _PIECE_BYTES)
                data = self._inflate.unconsumed_tail
                self._count(piece)
                yield piece
        except zlib.error as error:
            raise TransportError(
                f"{self._url}: the compressed response is damaged", url=self._url
            ) from error

    def finish(self) -> None:
        """Check that the compressed body is complete."""
        if self._inflate is not None and not self._inflate.eof and not self._is_empty:
            raise TransportError(
                f"{self._url}: the compressed response is incomplete", url=self._url
            )

    def _count(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._max_bytes is not None and self._size > self._max_bytes:
            raise self._too_large()

    def _too_large(self) -> TransportError:
        return TransportError(
            f"{self._url}: the response is larger than {self._max_bytes:,} bytes", url=self._url
        )
