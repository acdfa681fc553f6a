"""Text streams: whole characters, stop strings across tokens, held-back tool calls."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from maas_client.local.generate.text_stream import TextStream


def as_bytes(tokens: list[int]) -> str:
    return bytes(tokens).decode("utf-8", errors="replace")


def stream(*stop: str, hold: tuple[str, ...] = ()) -> TextStream:
    return TextStream(as_bytes, stop, hold)


def feed(stream: TextStream, text: bytes) -> list[str]:
    return [stream.feed(byte) for byte in text]


def test_characters_are_sent_whole() -> None:
    out = stream()
    assert feed(out, "aÖ🦆".encode()) == ["a", "", "Ö", "", "", "", "🦆"]
    assert out.finish() == ""


@given(st.text(max_size=40))
def test_pieces_concatenate_to_the_text(text: str) -> None:
    out = stream()
    pieces = feed(out, text.encode())
    assert all("�" not in piece for piece in pieces) or "�" in text
    assert "".join(pieces) + out.finish() == text


def test_incomplete_character_at_the_end_is_replaced_once() -> None:
    out = stream()
    assert feed(out, "🦆".encode()[:2]) == ["", ""]
    assert out.finish() == "�"


def test_invalid_bytes_do_not_block_the_stream() -> None:
    out = stream()
    assert "".join(feed(out, b"\xff" * 9 + b"ok")) + out.finish() == "�" * 9 + "ok"


def test_stop_string_across_tokens_is_not_sent() -> None:
    out = stream("END")
    assert feed(out, b"ab ENDxyz") == ["a", "b", " ", "", "", "", "", "", ""]
    assert out.stopped
    assert out.finish() == ""
    assert out.text == "ab "


def test_partial_stop_string_is_sent() -> None:
    out = stream("END", "###")
    assert "".join(feed(out, b"EN#E EN")) == "EN#E "
    assert out.finish() == "EN"
    assert not out.stopped


def test_first_stop_string_ends_the_text() -> None:
    out = TextStream(lambda tokens: "one two three" if tokens else "", ["three", "two"])
    assert out.feed(0) == "one "
    assert out.text == "one "


@given(
    st.text(alphabet="abE", max_size=30),
    st.lists(st.text(alphabet="abE", min_size=1, max_size=4), max_size=3),
)
@settings(max_examples=1000, deadline=None)
@example("EEE", ["Ea", "EEE"])
def test_stop_strings_match_a_text_search(text: str, stops: list[str]) -> None:
    out = stream(*stops)
    sent = "".join(feed(out, text.encode())) + out.finish()
    ends = [len(text[:n]) for n in range(len(text) + 1) if any(text[:n].endswith(s) for s in stops)]
    first = min(ends, default=None)
    full_text = text[:first]
    cut = min((full_text.find(s) for s in stops if s in full_text), default=len(full_text))
    assert sent == (text if first is None else full_text[:cut])


def test_text_after_a_tool_marker_is_held_back() -> None:
    out = stream(hold=("<call>",))
    assert "".join(feed(out, b"ok <b> <call>[1]")) == "ok <b> "
    assert out.text == "ok <b> <call>[1]"
    assert out.finish() == "<call>[1]"


@pytest.mark.parametrize("decode", [as_bytes])
def test_decoder_gets_the_previous_token(
    decode: Callable[[list[int]], str],
) -> None:
    def spaced(tokens: list[int]) -> str:  # like SentencePiece: no space before the first word
        return " ".join(map(str, tokens))

    out = TextStream(spaced)
    assert [out.feed(n) for n in (1, 2, 3)] == ["1", " 2", " 3"]
