"""From tokens to text that can be sent: whole characters only, and nothing of a stop string."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_HALF = "�"
"""What a decoder writes for bytes that are no character, or not yet."""
_LONGEST = 8
"""Tokens one character may take; bytes that are still none after that never will be."""


class TextStream:
    """The text of one growing answer.

    ``decode`` turns a list of tokens into text. ``stop`` strings end the answer and are no part of
    it; from a ``hold`` string on (the beginning of a tool call) text is kept back until ``finish``,
    when the caller can tell what it was. Both are found across token boundaries.
    """

    def __init__(
        self,
        decode: Callable[[list[int]], str],
        stop: Sequence[str] = (),
        hold_back: Sequence[str] = (),
    ) -> None:
        self._decode = decode
        self._stop = tuple(stop)
        self._hold = tuple(hold_back)
        self._tokens: list[int] = []
        self._start = 0  # decoding begins here: a little before the first token not yet text
        self._read = 0  # tokens up to here are text
        self.text = ""
        self._sent = 0
        self.stopped = False

    def feed(self, token: int) -> str:
        """Take one token and return what can be sent now, often nothing."""
        if self.stopped:
            return ""
        self._tokens.append(token)
        self._take(flush=len(self._tokens) - self._read >= _LONGEST)
        return self._send(self._safe())

    def finish(self) -> str:
        """Return what was kept back. Nothing is fed after this."""
        if not self.stopped:
            self._take(flush=True)
        return self._send(len(self.text))

    def _take(self, *, flush: bool) -> None:
        """Decode with the tokens before, since a token's text depends on its neighbour's."""
        known = self._decode(self._tokens[self._start : self._read])
        whole = self._decode(self._tokens[self._start :])
        if len(whole) <= len(known) or (whole.endswith(_HALF) and not flush):
            return
        before = len(self.text)
        self.text += whole[len(known) :]
        self._start, self._read = self._read, len(self._tokens)
        longest = max(map(len, self._stop), default=0)
        found = [self.text.find(text, max(0, before - longest)) for text in self._stop]
        ends = [at for at in found if at >= 0]
        if ends:
            self.text, self.stopped = self.text[: min(ends)], True

    def _safe(self) -> int:
        """Return how much of the text cannot turn out to be a stop string or held."""
        end = len(self.text)
        for mark in self._hold:
            at = self.text.find(mark)
            end = min(end, at) if at >= 0 else end
        if self.stopped:
            return end
        for mark in (*self._stop, *self._hold):
            sizes = range(min(len(mark) - 1, len(self.text)), 0, -1)
            begun = next((n for n in sizes if self.text.endswith(mark[:n])), 0)
            end = min(end, len(self.text) - begun)
        return end

    def _send(self, end: int) -> str:
        piece = self.text[self._sent : end]
        self._sent = max(self._sent, end)
        return piece
