"""Broken lines and files, one problem each, with the code and the location that ``validate`` must report.

``at`` is the text in the line that the problem's offset must point at, after ``skip`` earlier occurrences.
"""
# ruff: noqa: E501 - tables, one fault to a line

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from maas_client._files.package_data import read_schema

Json = dict[str, Any]


def load_schema(name: str) -> Json:
    """Return one of the project's JSON Schemas, parsed."""
    schema: Json = json.loads(read_schema(f"{name}.schema.json"))
    return schema


@dataclass(frozen=True)
class BrokenLine:
    """A broken line among valid ones."""

    name: str
    code: str
    line: bytes
    at: bytes = b""
    pointer: str = ""
    skip: int = 0
    severity: str = "error"
    target: str = "azureml"
    model: str | None = None

    @property
    def offset(self) -> int:
        at = -1
        for _ in range(self.skip + 1):
            at = self.line.index(self.at, at + 1)
        return at


@dataclass(frozen=True)
class BrokenFile:
    """A file that is wrong as a whole."""

    name: str
    code: str
    data: bytes
    suffix: str = ".jsonl"
    severity: str = "error"
    target: str = "azureml"


def message(role: str, content: Any, **members: Any) -> Json:
    return {"role": role, "content": content, **members}


def dump(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def row(*messages: Any, **members: Any) -> bytes:
    return dump({"messages": list(messages), **members})


SYSTEM = message("system", "Du bist freundlich. 😀")
USER = message("user", "Wie groß ist ein Größenwahn? 日本")
ANSWER = message("assistant", "Sehr groß – “unendlich”. 🚀")
GOOD = row(SYSTEM, USER, ANSWER)


def valid_line(n: int) -> bytes:
    return row(
        SYSTEM,
        message("user", f"Frage {n}: wie viel ist {n} + {n}? äöü"),
        message("assistant", f"Es ist {2 * n}. 🙂"),
    )


PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def tool(name: str = "weather", **members: Any) -> Json:
    return {"type": "function", "function": {"name": name, "parameters": PARAMETERS, **members}}


def call(id: str = "call_1", name: str = "weather", arguments: Any = '{"city": "Ulm"}') -> Json:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def message_with_calls(*each: Any, **members: Any) -> Json:
    return {"role": "assistant", "tool_calls": list(each), **members}


def result_message(id: Any = "call_1", content: Any = "21 °C") -> Json:
    return {"role": "tool", "tool_call_id": id, "content": content}


WEATHER = [tool()]


def row_with_tools(*messages: Any, tools: Any = WEATHER, **members: Any) -> bytes:
    return row(USER, *messages, tools=tools, **members)


def line_with_keys(**members: Any) -> bytes:
    return dump(members)


def answer(content: Any, **members: Any) -> bytes:
    return row(SYSTEM, USER, message("assistant", content, **members))


def with_raw_answer(text: str) -> bytes:
    """Return a valid row with any text, JSON or not, in place of its answer."""
    return GOOD.replace(dump(ANSWER), text.encode("utf-8", "surrogatepass"))


BROKEN_JSON = [
    BrokenLine("bad utf-8", "JSON_UTF8", GOOD.replace("groß ist".encode(), b"gro\xdf ist"), b"\xdf ist"),
    BrokenLine("utf-8 cut in a character", "JSON_UTF8", GOOD.replace("日本".encode(), "日".encode() + b"\xe6\x9c"), b"\xe6\x9c\""),
    BrokenLine("encoded surrogate", "JSON_UTF8", GOOD.replace("🚀".encode(), b"\xed\xa0\x80"), b"\xed\xa0\x80"),
    BrokenLine("overlong utf-8", "JSON_UTF8", GOOD.replace("🚀".encode(), b"\xc0\x80"), b"\xc0\x80"),
    BrokenLine("beyond unicode", "JSON_UTF8", GOOD.replace("🚀".encode(), b"\xf5\x80\x80\x80"), b"\xf5"),
    BrokenLine("latin-1 line", "JSON_UTF8", '{"messages": [{"role": "user", "content": "café"}]}'.encode("latin-1"), b"\xe9"),
    BrokenLine("bom in the middle", "JSON_BOM", b"\xef\xbb\xbf" + GOOD, b"\xef\xbb\xbf"),
    BrokenLine("nul after the value", "JSON_NUL", GOOD + b"\0", b"\0"),
    BrokenLine("nul in a string", "JSON_NUL", GOOD.replace(b"Sehr", b"Se\0r"), b"\0"),
    BrokenLine("line of nuls", "JSON_NUL", b"\0\0\0\0", b"\0"),
    BrokenLine("raw tab in a string", "JSON_CONTROL_CHARACTER", GOOD.replace(b"Sehr ", b"Sehr\t"), b"\t"),
    BrokenLine("raw escape character", "JSON_CONTROL_CHARACTER", GOOD.replace(b"Sehr ", b"Sehr\x1b"), b"\x1b"),
    BrokenLine("raw carriage return inside", "JSON_CONTROL_CHARACTER", GOOD.replace(b"Sehr ", b"Sehr\r"), b"\r"),
    BrokenLine("bad escape", "JSON_ESCAPE", GOOD.replace(b"Sehr ", b"C:\\data "), b"\\data"),
    BrokenLine("short unicode escape", "JSON_ESCAPE", GOOD.replace(b"Sehr ", b"\\u12 "), b"\\u12"),
    BrokenLine("lone high surrogate", "JSON_SURROGATE", GOOD.replace(b"Sehr ", b"Sehr \\ud83d "), b"\\ud83d", "/messages/2/content"),
    BrokenLine("lone low surrogate", "JSON_SURROGATE", GOOD.replace(b"Sehr ", b"Sehr \\udc00 "), b"\\udc00", "/messages/2/content"),
    BrokenLine("reversed pair", "JSON_SURROGATE", GOOD.replace(b"Sehr ", b"\\ude00\\ud83d"), b"\\ude00", "/messages/2/content"),
    BrokenLine("pair and lone half", "JSON_SURROGATE", GOOD.replace(b"Sehr ", b"\\ud83d\\ude00\\ud83dx"), b"\\ud83dx", "/messages/2/content"),
    BrokenLine("duplicate messages", "JSON_DUPLICATE_KEY", GOOD[:-1] + b', "messages": []}', b'"messages": []', "/messages"),
    BrokenLine("duplicate role", "JSON_DUPLICATE_KEY", with_raw_answer('{"role": "user", "role": "assistant", "content": "x"}'), b'"role": "assistant"', "/messages/2/role"),
    BrokenLine("duplicate content, same value", "JSON_DUPLICATE_KEY", with_raw_answer('{"role": "assistant", "content": "x", "content": "x"}'), b'"content": "x"}', "/messages/2/content"),
    BrokenLine("duplicate key by escape", "JSON_DUPLICATE_KEY", with_raw_answer('{"role": "assistant", "content": "x", "c\\u006fntent": "y"}'), b'"c\\u006f', "/messages/2/content"),
    BrokenLine("duplicate key balanced by escaped quotes", "JSON_DUPLICATE_KEY", with_raw_answer('{"role": "assistant", "content": "\\u0022\\u0022\\u0022\\u0022", "role": "assistant"}'), b'"role": "assistant"}', "/messages/2/role"),
    BrokenLine("duplicate key in parameters", "JSON_DUPLICATE_KEY", row_with_tools(message_with_calls(call())).replace(b'"required": ["city"]', b'"type": "object"'), b'"type": "object"}', "/tools/0/function/parameters/type"),
    BrokenLine("NaN", "JSON_NOT_FINITE", GOOD[:-1] + b', "score": NaN}', b"NaN", "/score"),
    BrokenLine("Infinity", "JSON_NOT_FINITE", GOOD[:-1] + b', "score": Infinity}', b"Infinity", "/score"),
    BrokenLine("-Infinity", "JSON_NOT_FINITE", GOOD[:-1] + b', "score": [-Infinity]}', b"-Infinity", "/score/0"),
    BrokenLine("1e400", "JSON_NOT_FINITE", GOOD[:-1] + b', "score": 1e400}', b"1e400", "/score"),
    BrokenLine("2^64", "JSON_INTEGER_RANGE", GOOD[:-1] + b', "id": 18446744073709551616}', b"1844", "/id"),
    BrokenLine("5,000 digits", "JSON_INTEGER_RANGE", GOOD[:-1] + b', "id": ' + b"7" * 5000 + b"}", b"7777", "/id"),
    BrokenLine("leading zero", "JSON_NUMBER", with_raw_answer('{"role": "assistant", "content": "x", "weight": 01}'), b"01"),
    BrokenLine("no digits after the point", "JSON_NUMBER", GOOD[:-1] + b', "score": 1.}', b"1."),
    BrokenLine("plus sign", "JSON_SYNTAX", GOOD[:-1] + b', "score": +1}', b"+1"),
    BrokenLine("hexadecimal", "JSON_NUMBER", GOOD[:-1] + b', "score": 0x1F}', b"0x1F"),
    BrokenLine("nesting bomb", "JSON_DEPTH", b"[" * 100_000, b"[", skip=64),
    BrokenLine("nesting bomb, closed", "JSON_DEPTH", b'{"a":' * 5000 + b"1" + b"}" * 5000, b"{", skip=64),
    BrokenLine("nested in an extra key", "JSON_DEPTH", GOOD[:-1] + b', "x": ' + b"[" * 90 + b"]" * 90 + b"}", b"[", skip=64),
    BrokenLine("two objects", "JSON_SEVERAL_VALUES", GOOD + GOOD, b'{"messages"', skip=1),
    BrokenLine("two objects and a space", "JSON_SEVERAL_VALUES", GOOD + b" " + GOOD, b'{"messages"', skip=1),
    BrokenLine("two objects and a comma", "JSON_SEVERAL_VALUES", GOOD + b", " + GOOD, b', {"messages"'),
    BrokenLine("comma at the end", "JSON_TRAILING_DATA", GOOD + b",", b",", skip=GOOD.count(b",")),
    BrokenLine("text behind", "JSON_TRAILING_DATA", GOOD + b" tail", b"tail"),
    BrokenLine("extra brace", "JSON_TRAILING_DATA", GOOD + b"}", b"}", skip=GOOD.count(b"}")),
    BrokenLine("no-break space behind", "JSON_TRAILING_DATA", GOOD + "\u00a0".encode(), "\u00a0".encode()),
    BrokenLine("vertical tab behind", "JSON_TRAILING_DATA", GOOD + b"\x0b", b"\x0b"),
    BrokenLine("trailing comma in a list", "JSON_TRAILING_COMMA", GOOD[:-2] + b",]}", b",]"),
    BrokenLine("trailing comma in an object", "JSON_TRAILING_COMMA", GOOD[:-1] + b",}", b",}"),
    BrokenLine("python repr", "JSON_PYTHON", b"{'messages': [{'role': 'user', 'content': 'Hi'}]}", b"'messages'"),
    BrokenLine("None", "JSON_PYTHON", with_raw_answer('{"role": "assistant", "content": None}'), b"None"),
    BrokenLine("True", "JSON_PYTHON", GOOD[:-1] + b', "ok": True}', b"True"),
    BrokenLine("undefined", "JSON_PYTHON", GOOD[:-1] + b', "ok": undefined}', b"undefined"),
    BrokenLine("comment behind", "JSON_COMMENT", GOOD + b" // best", b"// best"),
    BrokenLine("comment inside", "JSON_COMMENT", b'{"messages": /* none */ []}', b"/*"),
    BrokenLine("cut in a string", "JSON_CUT_SHORT", GOOD[: GOOD.index(b"Sehr") + 3], b'"Seh'),
    BrokenLine("cut after a colon", "JSON_CUT_SHORT", b'{"messages":', b":"),
    BrokenLine("cut in an object", "JSON_CUT_SHORT", GOOD[:-3], b'"', skip=GOOD.count(b'"') - 1),
    BrokenLine("unquoted key", "JSON_SYNTAX", b"{messages: []}", b"messages"),
    BrokenLine("unescaped quote", "JSON_SYNTAX", GOOD.replace(b"Sehr ", b'Sehr "so" '), b'so"'),
    BrokenLine("missing comma", "JSON_SYNTAX", GOOD.replace(b'", "content"', b'" "content"', 1), b'"content"'),
    BrokenLine("missing colon", "JSON_SYNTAX", GOOD.replace(b'"role": ', b'"role" ', 1), b'"system"'),
    BrokenLine("typographic quotes", "JSON_SYNTAX", "{“messages”: []}".encode(), "“".encode()),
    BrokenLine("plain text", "JSON_SYNTAX", b"user: Hi", b"user"),
    BrokenLine("blank line", "JSON_BLANK_LINE", b"", severity="warning"),
    BrokenLine("line of spaces", "JSON_BLANK_LINE", b" \t ", severity="warning"),
]  # fmt: skip

BROKEN_CHATS = [
    BrokenLine("a list", "CHAT_NOT_OBJECT", dump([USER, ANSWER]), b"["),
    BrokenLine("a text", "CHAT_NOT_OBJECT", b'"Hi"', b'"Hi"'),
    BrokenLine("a number", "CHAT_NOT_OBJECT", b"7", b"7"),
    BrokenLine("null", "CHAT_NOT_OBJECT", b"null", b"null"),
    BrokenLine("no messages", "CHAT_NO_MESSAGES", line_with_keys(id=7), b"{"),
    BrokenLine("messages misspelt", "CHAT_NO_MESSAGES", line_with_keys(mesages=[USER, ANSWER]), b'"mesages"', "/mesages"),
    BrokenLine("messages null", "CHAT_MESSAGES_TYPE", line_with_keys(messages=None), b"null", "/messages"),
    BrokenLine("messages a text", "CHAT_MESSAGES_TYPE", line_with_keys(messages="Hi"), b'"Hi"', "/messages"),
    BrokenLine("messages an object", "CHAT_MESSAGES_TYPE", line_with_keys(messages=USER), b'{"role"', "/messages"),
    BrokenLine("messages empty", "CHAT_MESSAGES_EMPTY", line_with_keys(messages=[]), b"[]", "/messages"),
    BrokenLine("message a text", "CHAT_MESSAGE_TYPE", row("Hi", ANSWER), b'"Hi"', "/messages/0"),
    BrokenLine("message null", "CHAT_MESSAGE_TYPE", row(USER, None, ANSWER), b"null", "/messages/1"),
    BrokenLine("prompt and completion", "CHAT_SHAPE_PROMPT_COMPLETION", line_with_keys(prompt="Hi", completion="Hello."), b"{"),
    BrokenLine("text and ground truth", "CHAT_SHAPE_TEXT_GROUND_TRUTH", line_with_keys(text="Hi", ground_truth="Hello."), b"{"),
    BrokenLine("alpaca", "CHAT_SHAPE_ALPACA", line_with_keys(instruction="Translate", input="Hallo", output="Hello"), b"{"),
    BrokenLine("instruction and output", "CHAT_SHAPE_ALPACA", line_with_keys(instruction="Say hi", output="Hi"), b"{"),
    BrokenLine("sharegpt", "CHAT_SHAPE_SHAREGPT", line_with_keys(conversations=[{"from": "human", "value": "Hi"}]), b"{"),
    BrokenLine("sharegpt under messages", "CHAT_SHAPE_SHAREGPT", row({"from": "human", "value": "Hi"}), b'{"from"', "/messages/0"),
    BrokenLine("dpo of azure", "CHAT_SHAPE_DPO", line_with_keys(input={"messages": [USER]}, preferred_output=[ANSWER], non_preferred_output=[ANSWER]), b"{"),
    BrokenLine("dpo of trl", "CHAT_SHAPE_DPO", line_with_keys(prompt="Hi", chosen="Hello.", rejected="No."), b"{"),
    BrokenLine("messages and preferences", "CHAT_SHAPE_DPO", line_with_keys(messages=[USER], chosen=ANSWER, rejected=ANSWER), b'[{"role"', "/messages"),
    BrokenLine("kto", "CHAT_SHAPE_KTO", line_with_keys(prompt="Hi", completion="Hello.", label=True), b"{"),
    BrokenLine("question and answer", "CHAT_SHAPE_QUESTION_ANSWER", line_with_keys(question="1 + 1?", answer="2"), b"{"),
    BrokenLine("classification", "CHAT_SHAPE_CLASSIFICATION", line_with_keys(text="Good", label="positive"), b"{"),
    BrokenLine("plain text rows", "CHAT_SHAPE_TEXT", line_with_keys(text="Once upon a time"), b"{"),
    BrokenLine("batch request", "CHAT_SHAPE_BATCH", line_with_keys(custom_id="1", method="POST", url="/chat", body={"messages": [USER]}), b"{"),
    BrokenLine("glaive", "CHAT_SHAPE_GLAIVE", line_with_keys(system="SYSTEM: Hi", chat="USER: Hi"), b"{"),
    BrokenLine("gemini", "CHAT_SHAPE_GEMINI", line_with_keys(contents=[{"role": "user", "parts": [{"text": "Hi"}]}]), b"{"),
    BrokenLine("no role", "CHAT_ROLE_MISSING", row({"content": "Hi"}, ANSWER), b'{"content"', "/messages/0"),
    BrokenLine("role misspelt", "CHAT_ROLE_MISSING", row({"rol": "user", "content": "Hi"}, ANSWER), b'"rol"', "/messages/0/rol"),
    BrokenLine("role a number", "CHAT_ROLE_TYPE", row(message(1, "Hi"), ANSWER), b"1", "/messages/0/role"),
    BrokenLine("role a list", "CHAT_ROLE_TYPE", row(message(["user"], "Hi"), ANSWER), b'["user"]', "/messages/0/role"),
    BrokenLine("role null", "CHAT_ROLE_TYPE", row(message(None, "Hi"), ANSWER), b"null", "/messages/0/role"),
    BrokenLine("role bot", "CHAT_ROLE_UNKNOWN", row(USER, message("bot", "Hello.")), b'"bot"', "/messages/1/role"),
    BrokenLine("role in capitals", "CHAT_ROLE_UNKNOWN", row(message("User", "Hi"), ANSWER), b'"User"', "/messages/0/role"),
    BrokenLine("role developer", "CHAT_ROLE_UNKNOWN", row(message("developer", "Be kind."), USER, ANSWER), b'"developer"', "/messages/0/role"),
    BrokenLine("role empty", "CHAT_ROLE_UNKNOWN", row(message("", "Hi"), ANSWER), b'""', "/messages/0/role"),
    BrokenLine("role with a space", "CHAT_ROLE_UNKNOWN", row(message("user ", "Hi"), ANSWER), b'"user "', "/messages/0/role"),
    BrokenLine("no user", "CHAT_NO_USER", row(SYSTEM, ANSWER), b"[", "/messages"),
    BrokenLine("no assistant", "CHAT_NO_ASSISTANT", row(SYSTEM, USER), b"[", "/messages"),
    BrokenLine("last is user", "CHAT_LAST_ROLE", row(USER, ANSWER, USER), b'"user"', "/messages/2/role", skip=1),
    BrokenLine("last is tool", "CHAT_LAST_ROLE", row_with_tools(message_with_calls(call()), result_message()), b'"tool"', "/messages/2/role"),
    BrokenLine("system in the middle", "CHAT_SYSTEM_POSITION", row(USER, SYSTEM, ANSWER), b'"system"', "/messages/1/role"),
    BrokenLine("two systems", "CHAT_SYSTEM_POSITION", row(SYSTEM, SYSTEM, USER, ANSWER), b'"system"', "/messages/1/role", skip=1),
    BrokenLine("system last", "CHAT_SYSTEM_POSITION", row(USER, ANSWER, SYSTEM), b'"system"', "/messages/2/role"),
    BrokenLine("two users", "CHAT_ALTERNATION", row(USER, USER, ANSWER), b'"user"', "/messages/1/role", skip=1),
    BrokenLine("two assistants", "CHAT_ALTERNATION", row(USER, ANSWER, ANSWER), b'"assistant"', "/messages/2/role", skip=1),
    BrokenLine("two users, local", "CHAT_ALTERNATION", row(USER, USER, ANSWER), b'"user"', "/messages/1/role", skip=1, severity="warning", target="local"),
    BrokenLine("assistant first", "CHAT_ASSISTANT_FIRST", row(ANSWER, USER, ANSWER), b'"assistant"', "/messages/0/role", severity="warning"),
    BrokenLine("unknown key", "CHAT_KEY_UNKNOWN", row(USER, {**ANSWER, "mood": 1}), b'"mood"', "/messages/1/mood", severity="warning"),
    BrokenLine("unknown key, foundry", "CHAT_KEY_UNKNOWN", row(USER, {**ANSWER, "mood": 1}), b'"mood"', "/messages/1/mood", target="foundry"),
    BrokenLine("mask of another tool", "CHAT_KEY_UNKNOWN", row(USER, {**ANSWER, "loss": False}), b'"loss"', "/messages/1/loss", severity="warning"),
    BrokenLine("mask of another tool, foundry", "CHAT_KEY_UNKNOWN", row(USER, {**ANSWER, "train_on_turn": 0}), b'"train_on_turn"', "/messages/1/train_on_turn", target="foundry"),
    BrokenLine("system beside messages", "CHAT_SYSTEM_OUTSIDE", row(USER, ANSWER, system="Be brief."), b'"system"', "/system", severity="warning"),
    BrokenLine("a wrong answer", "CHAT_ROW_KEY", row(USER, ANSWER, is_correct=False), b'"is_correct"', "/is_correct", severity="warning"),
    BrokenLine("score beside messages", "CHAT_ROW_KEY", row(USER, ANSWER, score=0.1), b'"score"', "/score", severity="warning"),
    BrokenLine("list around a row", "CHAT_NOT_OBJECT", dump([{"messages": [USER, ANSWER]}]), b"[", ""),
    BrokenLine("row as text", "CHAT_NOT_OBJECT", dump(row(USER, ANSWER).decode()), b'"', ""),
    BrokenLine("messages as text", "CHAT_MESSAGES_TYPE", dump({"messages": dump([USER, ANSWER]).decode()}), b'"[', "/messages"),
    BrokenLine("messages in a list", "CHAT_MESSAGE_TYPE", row([USER, ANSWER]), b"[{", "/messages/0"),
    BrokenLine("text, then call", "CHAT_ALTERNATION", row_with_tools(ANSWER, message_with_calls(call())), b'"assistant"', "/messages/2/role", skip=1),
    BrokenLine("text, then call, local", "CHAT_ALTERNATION", row_with_tools(ANSWER, message_with_calls(call())), b'"assistant"', "/messages/2/role", skip=1, severity="warning", target="local"),
    BrokenLine("two calls, two messages", "CHAT_ALTERNATION", row_with_tools(message_with_calls(call()), message_with_calls(call("call_2")), result_message(), result_message("call_2"), ANSWER), b'"assistant"', "/messages/2/role", skip=1),
    BrokenLine("name a number", "CHAT_NAME", row({**USER, "name": 7}, ANSWER), b"7", "/messages/0/name"),
    BrokenLine("weight 2", "CHAT_WEIGHT", row(USER, {**ANSWER, "weight": 2}), b"2", "/messages/1/weight"),
    BrokenLine("weight a text", "CHAT_WEIGHT", row(USER, {**ANSWER, "weight": "1"}), b'"1"', "/messages/1/weight"),
    BrokenLine("weight true", "CHAT_WEIGHT", row(USER, {**ANSWER, "weight": True}), b"true", "/messages/1/weight"),
    BrokenLine("weight one half", "CHAT_WEIGHT", row(USER, {**ANSWER, "weight": 0.5}), b"0.5", "/messages/1/weight"),
    BrokenLine("weight on a user", "CHAT_WEIGHT_ROLE", row({**USER, "weight": 1}, ANSWER), b'"weight"', "/messages/0/weight", severity="warning"),
    BrokenLine("all weights 0", "CHAT_NOTHING_LEARNED", row(USER, {**ANSWER, "weight": 0}), b"0", "/messages/1/weight"),
    BrokenLine("no content", "CHAT_CONTENT_MISSING", row({"role": "user"}, ANSWER), b'{"role": "user"}', "/messages/0"),
    BrokenLine("content null", "CHAT_CONTENT_MISSING", row(USER, message("assistant", None)), b"null", "/messages/1/content"),
    BrokenLine("content misspelt", "CHAT_CONTENT_MISSING", row({"role": "user", "contnet": "Hi"}, ANSWER), b'"contnet"', "/messages/0/contnet"),
    BrokenLine("content a number", "CHAT_CONTENT_TYPE", answer(42), b"42", "/messages/2/content"),
    BrokenLine("content an object", "CHAT_CONTENT_TYPE", answer({"a": 1}), b'{"a"', "/messages/2/content"),
    BrokenLine("content true", "CHAT_CONTENT_TYPE", answer(True), b"true", "/messages/2/content"),
    BrokenLine("content empty", "CHAT_CONTENT_EMPTY", answer(""), b'""', "/messages/2/content"),
    BrokenLine("user empty", "CHAT_CONTENT_EMPTY", row(message("user", ""), ANSWER), b'""', "/messages/0/content"),
    BrokenLine("system empty", "CHAT_CONTENT_EMPTY", row(message("system", ""), USER, ANSWER), b'""', "/messages/0/content"),
    BrokenLine("content no parts", "CHAT_CONTENT_EMPTY", answer([]), b"[]", "/messages/2/content"),
    BrokenLine("content blank", "CHAT_CONTENT_BLANK", answer(" \n "), b'" ', "/messages/2/content", skip=0),
    BrokenLine("content no-break spaces", "CHAT_CONTENT_BLANK", answer("\u00a0\u2003"), '"\u00a0'.encode(), "/messages/2/content"),
    BrokenLine("part blank", "CHAT_CONTENT_BLANK", answer([{"type": "text", "text": " "}]), b'" "', "/messages/2/content/0/text"),
    BrokenLine("nul character", "QUALITY_NUL", answer("Hi\0"), b'"Hi', "/messages/2/content", severity="warning"),
    BrokenLine("control token", "CHAT_CONTROL_TOKEN", answer("Hi<|end|>"), b'"Hi', "/messages/2/content"),
    BrokenLine("control token, user", "CHAT_CONTROL_TOKEN", row(message("user", "<|assistant|>Yes"), ANSWER), b'"<|', "/messages/0/content"),
    BrokenLine("control token escaped", "CHAT_CONTROL_TOKEN", answer("@").replace(b"@", b"\\u003c\\u007cend\\u007c\\u003e"), b'"\\u003c', "/messages/2/content"),
    BrokenLine("control token in a part", "CHAT_CONTROL_TOKEN", answer([{"type": "text", "text": "<|im_end|>"}]), b'"<|im_end', "/messages/2/content/0/text"),
    BrokenLine("sentence end of the model", "CHAT_CONTROL_TOKEN", answer("Hi</s>"), b'"Hi', "/messages/2/content", model="Phi-3-mini-4k-instruct"),
    BrokenLine("token of another model", "CHAT_FOREIGN_TOKEN", answer("Hi<|im_end|>"), b'"Hi', "/messages/2/content", severity="warning", model="Phi-3-mini-4k-instruct"),
    BrokenLine("part a text", "CHAT_PART", answer(["Hi"]), b'"Hi"', "/messages/2/content/0"),
    BrokenLine("part without type", "CHAT_PART", answer([{"text": "Hi"}]), b'{"text"', "/messages/2/content/0"),
    BrokenLine("part without text", "CHAT_PART", answer([{"type": "text"}]), b'{"type"', "/messages/2/content/0"),
    BrokenLine("unknown part", "CHAT_PART_UNKNOWN", answer([{"type": "video"}]), b'"video"', "/messages/2/content/0/type"),
    BrokenLine("image", "CHAT_PART_MODALITY", row(message("user", [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]), ANSWER), b'{"type"', "/messages/0/content/0"),
    BrokenLine("sound", "CHAT_PART_MODALITY", row(message("user", [{"type": "input_audio"}]), ANSWER), b'{"type"', "/messages/0/content/0"),
    BrokenLine("tool role without template", "CHAT_ROLE_UNSUPPORTED", row_with_tools(ANSWER), b'"tools"', "/tools", model="Phi-3-mini-4k-instruct"),
    BrokenLine("system merged", "CHAT_SYSTEM_MERGED", GOOD, b'"system"', "/messages/0/role", severity="warning", model="Phi-3-medium-4k-instruct"),
]  # fmt: skip

BROKEN_TOOLS = [
    BrokenLine("tools an object", "TOOL_LIST", row_with_tools(message_with_calls(call()), tools=tool()), b'{"type": "function", "function": {"name": "weather", "para', "/tools"),
    BrokenLine("tools a text", "TOOL_LIST", row_with_tools(ANSWER, tools="weather"), b'"weather"', "/tools"),
    BrokenLine("tools as JSON text", "TOOL_LIST", row_with_tools(ANSWER, tools=dump([tool()]).decode()), b'"[{', "/tools"),
    BrokenLine("tool a text", "TOOL_DEFINITION", row_with_tools(ANSWER, tools=["weather"]), b'"weather"', "/tools/0"),
    BrokenLine("tool without function", "TOOL_DEFINITION", row_with_tools(ANSWER, tools=[{"type": "function"}]), b'{"type"', "/tools/0"),
    BrokenLine("tool of unknown type", "TOOL_DEFINITION", row_with_tools(ANSWER, tools=[{**tool(), "type": "retrieval"}]), b'"retrieval"', "/tools/0/type"),
    BrokenLine("tool flat", "TOOL_DEFINITION", row_with_tools(ANSWER, tools=[{"type": "function", "name": "weather"}]), b'{"type"', "/tools/0"),
    BrokenLine("tool without name", "TOOL_DEFINITION", row_with_tools(ANSWER, tools=[{"type": "function", "function": {"description": "x"}}]), b'{"description"', "/tools/0/function"),
    BrokenLine("tool name with spaces", "TOOL_NAME", row_with_tools(ANSWER, tools=[tool("get weather!")]), b'"get weather!"', "/tools/0/function/name", severity="warning"),
    BrokenLine("tool name, foundry", "TOOL_NAME", row_with_tools(ANSWER, tools=[tool("get weather!")]), b'"get weather!"', "/tools/0/function/name", target="foundry"),
    BrokenLine("two tools of a name", "TOOL_TWICE", row_with_tools(ANSWER, tools=[tool(), tool()]), b'"weather"', "/tools/1/function/name", skip=1),
    BrokenLine("parameters a text", "TOOL_PARAMETERS", row_with_tools(ANSWER, tools=[tool(parameters="none")]), b'"none"', "/tools/0/function/parameters"),
    BrokenLine("parameters of no type", "TOOL_PARAMETERS", row_with_tools(ANSWER, tools=[tool(parameters={"type": "objekt"})]), b'"objekt"', "/tools/0/function/parameters/type"),
    BrokenLine("parameters a bad schema", "TOOL_PARAMETERS", row_with_tools(ANSWER, tools=[tool(parameters={"type": "object", "required": "city"})]), b'"city"', "/tools/0/function/parameters/required"),
    BrokenLine("parallel a text", "TOOL_PARALLEL", row_with_tools(ANSWER, parallel_tool_calls="no"), b'"no"', "/parallel_tool_calls"),
    BrokenLine("parallel off, two calls", "TOOL_PARALLEL_OFF", row_with_tools(message_with_calls(call(), call("call_2")), parallel_tool_calls=False), b'[{"id"', "/messages/1/tool_calls", severity="warning"),
    BrokenLine("functions", "TOOL_FUNCTIONS_DEPRECATED", row(USER, ANSWER, functions=[{"name": "weather"}]), b'"functions"', "/functions"),
    BrokenLine("function_call", "TOOL_FUNCTIONS_DEPRECATED", row(USER, {"role": "assistant", "function_call": {"name": "w", "arguments": "{}"}}), b'"function_call"', "/messages/1/function_call"),
    BrokenLine("role function", "TOOL_FUNCTIONS_DEPRECATED", row(USER, ANSWER, message("function", "21", name="w"), ANSWER), b'"function"', "/messages/2/role"),
    BrokenLine("tool_calls an object", "TOOL_CALLS_LIST", row_with_tools({"role": "assistant", "tool_calls": call()}), b'{"id"', "/messages/1/tool_calls"),
    BrokenLine("tool_calls empty", "TOOL_CALLS_LIST", row_with_tools({**ANSWER, "tool_calls": []}), b"[]", "/messages/1/tool_calls"),
    BrokenLine("tool_calls of a user", "TOOL_CALLS_ROLE", row({**USER, "tool_calls": [call()]}, ANSWER, tools=[tool()]), b'"tool_calls"', "/messages/0/tool_calls"),
    BrokenLine("call a text", "TOOL_CALL", row_with_tools(message_with_calls("weather")), b'"weather"', "/messages/1/tool_calls/0"),
    BrokenLine("call without function", "TOOL_CALL", row_with_tools(message_with_calls({"id": "1", "type": "function"})), b'{"id"', "/messages/1/tool_calls/0"),
    BrokenLine("call of another type", "TOOL_CALL", row_with_tools(message_with_calls({**call(), "type": "code"})), b'"code"', "/messages/1/tool_calls/0/type"),
    BrokenLine("call without name", "TOOL_CALL", row_with_tools(message_with_calls({**call(), "function": {"arguments": "{}"}})), b'{"arguments"', "/messages/1/tool_calls/0/function"),
    BrokenLine("call without id", "TOOL_CALL_ID", row_with_tools(message_with_calls({"type": "function", "function": call()["function"]})), b'{"type"', "/messages/1/tool_calls/0"),
    BrokenLine("call id a number", "TOOL_CALL_ID", row_with_tools(message_with_calls(call(1))), b"1", "/messages/1/tool_calls/0/id"),
    BrokenLine("two calls of an id", "TOOL_CALL_ID", row_with_tools(message_with_calls(call(), call())), b'"call_1"', "/messages/1/tool_calls/1/id", skip=1),
    BrokenLine("arguments an object", "TOOL_ARGUMENTS_TYPE", row_with_tools(message_with_calls(call(arguments={"city": "Ulm"}))), b'{"city": "Ulm"}', "/messages/1/tool_calls/0/function/arguments"),
    BrokenLine("no arguments", "TOOL_ARGUMENTS_TYPE", row_with_tools(message_with_calls({**call(), "function": {"name": "weather"}})), b'{"name": "weather"}', "/messages/1/tool_calls/0/function"),
    BrokenLine("arguments not json", "TOOL_ARGUMENTS_JSON", row_with_tools(message_with_calls(call(arguments="{city: Ulm}"))), b'"{city', "/messages/1/tool_calls/0/function/arguments"),
    BrokenLine("arguments empty", "TOOL_ARGUMENTS_JSON", row_with_tools(message_with_calls(call(arguments=""))), b'""', "/messages/1/tool_calls/0/function/arguments"),
    BrokenLine("arguments twice a key", "TOOL_ARGUMENTS_JSON", row_with_tools(message_with_calls(call(arguments='{"city": "Ulm", "city": "Bonn"}'))), b'"{\\"city', "/messages/1/tool_calls/0/function/arguments"),
    BrokenLine("arguments a bomb", "TOOL_ARGUMENTS_JSON", row_with_tools(message_with_calls(call(arguments="[" * 10_000))), b'"[[[', "/messages/1/tool_calls/0/function/arguments"),
    BrokenLine("arguments encoded twice", "TOOL_ARGUMENTS_TWICE", row_with_tools(message_with_calls(call(arguments=json.dumps('{"city": "Ulm"}')))), b'"\\"{', "/messages/1/tool_calls/0/function/arguments"),
    BrokenLine("arguments a list", "TOOL_ARGUMENTS_OBJECT", row_with_tools(message_with_calls(call(arguments='["Ulm"]'))), b'"[\\"Ulm', "/messages/1/tool_calls/0/function/arguments"),
    BrokenLine("arguments misfit", "TOOL_ARGUMENTS_MISMATCH", row_with_tools(message_with_calls(call(arguments='{"town": "Ulm"}'))), b'"{\\"town', "/messages/1/tool_calls/0/function/arguments", severity="warning"),
    BrokenLine("undefined tool", "TOOL_UNDEFINED", row_with_tools(message_with_calls(call(name="wether"))), b'"wether"', "/messages/1/tool_calls/0/function/name"),
    BrokenLine("no tools defined", "TOOL_NONE_DEFINED", row(USER, message_with_calls(call())), b'"weather"', "/messages/1/tool_calls/0/function/name", severity="warning"),
    BrokenLine("result without id", "TOOL_RESULT_ID", row_with_tools(message_with_calls(call()), message("tool", "21"), ANSWER), b'{"role": "tool"', "/messages/2"),
    BrokenLine("result id a number", "TOOL_RESULT_ID", row_with_tools(message_with_calls(call()), result_message(7), ANSWER), b"7", "/messages/2/tool_call_id"),
    BrokenLine("orphan result", "TOOL_RESULT_ORPHAN", row_with_tools(message_with_calls(call()), result_message(), result_message("call_9"), ANSWER), b'"call_9"', "/messages/3/tool_call_id"),
    BrokenLine("result before any call", "TOOL_RESULT_ORPHAN", row_with_tools(result_message(), ANSWER), b'"call_1"', "/messages/1/tool_call_id"),
    BrokenLine("result answered twice", "TOOL_RESULT_ORPHAN", row_with_tools(message_with_calls(call()), result_message(), result_message(), ANSWER), b'"call_1"', "/messages/3/tool_call_id", skip=2),
    BrokenLine("call never answered", "TOOL_RESULT_MISSING", row_with_tools(message_with_calls(call()), USER, ANSWER), b'{"id"', "/messages/1/tool_calls/0"),
    BrokenLine("one of two answered", "TOOL_RESULT_MISSING", row_with_tools(message_with_calls(call(), call("call_2")), result_message(), ANSWER), b'{"id": "call_2"', "/messages/1/tool_calls/1"),
    BrokenLine("result without content", "CHAT_CONTENT_MISSING", row_with_tools(message_with_calls(call()), {"role": "tool", "tool_call_id": "call_1"}, ANSWER), b'{"role": "tool"', "/messages/2"),
]  # fmt: skip

BROKEN_LINES = [*BROKEN_JSON, *BROKEN_CHATS, *BROKEN_TOOLS]


def file(*lines: bytes, end: bytes = b"\n") -> bytes:
    return end.join(lines) + end


VALID_LINES = [valid_line(n) for n in range(12)]
BROKEN_FILES = [
    BrokenFile("empty", "FILE_EMPTY", b""),
    BrokenFile("white space", "FILE_EMPTY", b" \n\n\t\n"),
    BrokenFile("a mark alone", "FILE_EMPTY", b"\xef\xbb\xbf"),
    BrokenFile("extension", "FILE_EXTENSION", file(*VALID_LINES), suffix=".json"),
    BrokenFile("utf-16 with mark", "FILE_UTF16", file(*VALID_LINES).decode().encode("utf-16")),
    BrokenFile("utf-16-le", "FILE_UTF16", file(*VALID_LINES).decode().encode("utf-16-le")),
    BrokenFile("utf-16-be", "FILE_UTF16", file(*VALID_LINES).decode().encode("utf-16-be")),
    BrokenFile("utf-32", "FILE_UTF16", file(*VALID_LINES).decode().encode("utf-32")),
    BrokenFile("utf-32-be", "FILE_UTF16", file(*VALID_LINES).decode().encode("utf-32-be")),
    BrokenFile("cr only", "FILE_CR_ONLY", file(*VALID_LINES, end=b"\r")),
    BrokenFile("array on a line", "FILE_JSON_ARRAY", b"[" + b", ".join(VALID_LINES) + b"]"),
    BrokenFile("array on lines", "FILE_JSON_ARRAY", b"[\n" + b",\n".join(VALID_LINES) + b"\n]\n"),
    BrokenFile("array, first row beside", "FILE_JSON_ARRAY", b"[" + b",\n".join(VALID_LINES) + b"]\n"),
    BrokenFile("array pretty", "FILE_JSON_ARRAY", json.dumps([json.loads(x) for x in VALID_LINES], indent=2).encode()),
    BrokenFile("pretty objects", "FILE_PRETTY_PRINTED", b"\n".join(json.dumps(json.loads(x), indent=2).encode() for x in VALID_LINES)),
    BrokenFile("csv", "FILE_CSV", b"prompt,completion\nHi,Hello.\nBye,See you.\n"),
    BrokenFile("tsv", "FILE_CSV", b"prompt\tcompletion\nHi\tHello.\n"),
    BrokenFile("gzip", "FILE_BINARY", b"\x1f\x8b\x08\x00" + bytes(64)),
    BrokenFile("parquet", "FILE_BINARY", b"PAR1" + bytes(64)),
    BrokenFile("zip", "FILE_BINARY", b"PK\x03\x04" + bytes(64)),
    BrokenFile("nine rows", "SERVICE_TOO_FEW_ROWS", file(*VALID_LINES[:9])),
    BrokenFile("nine rows, foundry", "SERVICE_TOO_FEW_ROWS", file(*VALID_LINES[:9]), target="foundry"),
    BrokenFile("nine rows are left", "SERVICE_TOO_FEW_ROWS", file(*VALID_LINES[:9], b"{", b"{", b"{")),
    BrokenFile("twelve rows", "SERVICE_FEW_ROWS", file(*VALID_LINES), severity="warning"),
    BrokenFile("rows skipped", "SERVICE_ROWS_SKIPPED", file(*VALID_LINES, b"{"), severity="warning"),
    BrokenFile("no rows left", "SERVICE_NO_ROWS", file(b"{}", b"{"), target="local"),
]  # fmt: skip

VALID_FILES = {
    "plain": file(*VALID_LINES),
    "without system": file(*[row(USER, ANSWER)] * 12),
    "several turns": file(*[row(SYSTEM, USER, ANSWER, USER, ANSWER)] * 12),
    "byte order mark": b"\xef\xbb\xbf" + file(*VALID_LINES),
    "crlf": file(*VALID_LINES, end=b"\r\n"),
    "no final newline": b"\n".join(VALID_LINES),
    "compact": file(*[json.dumps(json.loads(x), separators=(",", ":")).encode() for x in VALID_LINES]),
    "ascii": file(*[json.dumps(json.loads(x)).encode() for x in VALID_LINES]),
    "odd white space": file(*[b" " + x.replace(b'": ', b'" :\t') + b"  " for x in VALID_LINES]),
    "content before role": file(*[dump({"messages": [{"content": m["content"], "role": m["role"]} for m in json.loads(x)["messages"]]}) for x in VALID_LINES]),
    "keys beside messages": file(*[dump({"id": n, "prompt": "x", **json.loads(x), "tags": ["a", {"b": None}]}) for n, x in enumerate(VALID_LINES)]),
    "quotes and escapes": file(*[answer('He said "no" \\ "yes"\n\t\u2028 "') for _ in VALID_LINES]),
    "escaped quotes": file(*[x.replace(b"Frage", b"\\u0022Frage\\u0022") for x in VALID_LINES]),
    "line separators": file(*[answer("a\u2028b\u2029c\u0085d\x0c") for _ in VALID_LINES]),
    "text parts": file(*[row(SYSTEM, message("user", [{"type": "text", "text": "Hi"}, {"type": "text", "text": "there"}]), ANSWER) for _ in VALID_LINES]),
    "weights": file(*[row(USER, message("assistant", "No.", weight=0), USER, message("assistant", "Yes.", weight=1)) for _ in VALID_LINES]),
    "names": file(*[row(message("user", "Hi", name="ann"), ANSWER) for _ in VALID_LINES]),
    "nulls for absent": file(*[row({**USER, "tool_calls": None, "name": None, "weight": None}, {**ANSWER, "tool_calls": None}, tools=None) for _ in VALID_LINES]),
    "calls without content": file(*[row_with_tools(message_with_calls(call())) for _ in VALID_LINES]),
    "calls with null content": file(*[row_with_tools(message_with_calls(call(), content=None)) for _ in VALID_LINES]),
    "calls with empty content": file(*[row_with_tools(message_with_calls(call(), content="")) for _ in VALID_LINES]),
    "calls with content": file(*[row_with_tools(message_with_calls(call(), content="Let me see.")) for _ in VALID_LINES]),
    "calls and results": file(*[row_with_tools(message_with_calls(call()), result_message(), ANSWER) for _ in VALID_LINES]),
    "empty result": file(*[row_with_tools(message_with_calls(call()), result_message(content=""), ANSWER) for _ in VALID_LINES]),
    "parallel calls": file(*[row_with_tools(message_with_calls(call(), call("call_2")), result_message("call_2"), result_message(), ANSWER) for _ in VALID_LINES]),
    "ids used again": file(*[row_with_tools(message_with_calls(call()), result_message(), ANSWER, USER, message_with_calls(call()), result_message(), ANSWER) for _ in VALID_LINES]),
    "calls one after another": file(*[row_with_tools(message_with_calls(call()), result_message(), message_with_calls(call("call_2")), result_message("call_2"), ANSWER) for _ in VALID_LINES]),
    "tools never called": file(*[row_with_tools(ANSWER, parallel_tool_calls=True) for _ in VALID_LINES]),
    "tool without parameters": file(*[row_with_tools(message_with_calls(call(name="now", arguments="{}")), tools=[{"type": "function", "function": {"name": "now"}}]) for _ in VALID_LINES]),
    "angles in text": file(*[answer("if a < b || b > c: <b>x</b> <s>y</s> <| end |> <|") for _ in VALID_LINES]),
    "emoji and scripts": file(*[answer("👩‍👩‍👧 שלום नमस्ते \U0001f600") for _ in VALID_LINES]),
    "long texts": file(*[answer("wort " * 5000) for _ in VALID_LINES]),
}  # fmt: skip
