"""Codes for lines that are not one strict JSON value in UTF-8."""

from maas_client.dataset.codes import ERROR, WARNING, Code

_SKIPPED = "Azure ML silently skips such a line, and the job trains on the rest."
_WRITE = "Write the file with a JSON library (json.dumps in Python), one object per line."

CODES = (
    Code(
        "JSON_UTF8",
        ERROR,
        "the line is not UTF-8",
        "Save the file as UTF-8; if this line is Windows-1252 or Latin-1, run: "
        "maas-client validate FILE --fix OUT.jsonl",
        "These bytes are not valid UTF-8. Usual causes are Latin-1 or Windows-1252, a character cut in two, "
        f"and an encoded surrogate. {_SKIPPED} "
        "`--fix` converts a line that can only be Windows-1252 (which includes Latin-1) in a Western European "
        "language. It leaves a line unchanged that is damaged or may be in another code page.",
        '{"messages": [{"role": "user", "content": "caf\\xE9"}, ...]}',
        '{"messages": [{"role": "user", "content": "café"}, ...]}',
    ),
    Code(
        "JSON_BOM",
        ERROR,
        "a byte order mark that is not at the start of the file",
        "Remove the three bytes EF BB BF; one mark at the very start of the file is allowed.",
        "When files are joined (cat a.jsonl b.jsonl), the mark of the second file ends up in the middle. A "
        "single mark at the start of the file is accepted for every target.",
        "EF BB BF at the start of a line other than the first",
    ),
    Code(
        "JSON_BLANK_LINE",
        WARNING,
        "the line is blank",
        "Remove it to keep line numbers and row numbers the same; no data is lost.",
        "The line contains only white space. Every target skips it.",
        "(an empty line between two rows)",
    ),
    Code(
        "JSON_LINE_TOO_LONG",
        ERROR,
        "the line is longer than the limit",
        "Split the conversation, or check whether line feeds were lost when the file was written.",
        "A line is read up to the limit (16 MiB) and no further. No model has a context that long. Almost "
        "always all rows were written without line ends.",
        "(a file of 1 GB without a line feed)",
    ),
    Code(
        "JSON_NUL",
        ERROR,
        "a NUL byte",
        "Write the file again from its source: it was damaged or padded.",
        "The text contains a byte 00. Writers that crashed and block devices leave such bytes. No JSON "
        "reader accepts one.",
        '{"messages": ...}\\x00',
    ),
    Code(
        "JSON_CONTROL_CHARACTER",
        ERROR,
        "a raw control character inside a string",
        f"Escape it (\\n, \\t, \\u001b). {_WRITE}",
        f"JSON strings must not contain raw tabs or other characters below U+0020. {_SKIPPED}",
        '{"messages": [{"role": "user", "content": "a<TAB>b"}, ...]}',
        '{"messages": [{"role": "user", "content": "a\\tb"}, ...]}',
    ),
    Code(
        "JSON_ESCAPE",
        ERROR,
        "a backslash that does not start a JSON escape",
        f'Double the backslash, or escape the quote after it as \\". {_WRITE}',
        'The JSON escapes are \\" \\\\ \\/ \\b \\f \\n \\r \\t and \\uXXXX. Usual causes are Windows paths and '
        f"regular expressions that were pasted by hand. {_SKIPPED}",
        '{"content": "C:\\data"}',
        '{"content": "C:\\\\data"}',
    ),
    Code(
        "JSON_SURROGATE",
        ERROR,
        "half of a surrogate pair",
        "Write the whole character or remove the half. A common cause is text cut at a fixed length.",
        "An escape \\uD800 to \\uDFFF without its partner is not a character. Some readers accept it and "
        "fail later, when the text is encoded for the model.",
        '{"content": "\\ud83d"}',
        '{"content": "\\ud83d\\ude00"}',
    ),
    Code(
        "JSON_DUPLICATE_KEY",
        ERROR,
        "the same key twice in one object",
        "Keep the intended one: JSON readers differ in which one they use.",
        "Most JSON readers silently use the last one, some the first. The data that is trained on may then "
        "differ from the data that was checked.",
        '{"role": "user", "role": "assistant", "content": "Hi"}',
        '{"role": "user", "content": "Hi"}',
    ),
    Code(
        "JSON_NOT_FINITE",
        ERROR,
        "a number that JSON cannot represent",
        "Write null or remove the member; pandas and json.dumps write NaN for a missing value.",
        "NaN, Infinity, and numbers too large for a double, such as 1e400. Readers reject them or change them.",
        '{"messages": [...], "score": NaN}',
        '{"messages": [...], "score": null}',
    ),
    Code(
        "JSON_INTEGER_RANGE",
        ERROR,
        "an integer beyond 2^53",
        "Write it as a string.",
        "Readers that store numbers as doubles silently change such an integer. Very long ones crash some "
        "readers.",
        '{"messages": [...], "id": 12345678901234567890}',
        '{"messages": [...], "id": "12345678901234567890"}',
    ),
    Code(
        "JSON_NUMBER",
        ERROR,
        "an invalid number",
        "Remove leading zeros and the plus sign, write digits on both sides of the point, or quote it if it "
        "is text.",
        "01, 1., .5, +1, 0x1F and 1_000 are not JSON.",
        '{"weight": 01}',
        '{"weight": 1}',
    ),
    Code(
        "JSON_DEPTH",
        ERROR,
        "nested too deeply",
        "Flatten the value; a chat needs five levels, a tool's parameters a few more.",
        "Beyond 64 levels JSON readers differ, and some crash.",
        "[[[[...]]]]",
    ),
    Code(
        "JSON_TOO_MANY_VALUES",
        ERROR,
        "too many values on one line",
        "Check whether line feeds were lost when the file was written.",
        "A chat has some dozens of values. A line with hundreds of thousands is not read to its end: it "
        "holds many rows, or it was made to slow readers down.",
        "[0, 0, 0, ...]",
    ),
    Code(
        "JSON_SEVERAL_VALUES",
        ERROR,
        "more than one value on the line",
        "Put a line feed between the objects.",
        f"One line is one row. {_SKIPPED}",
        '{"messages": [...]}{"messages": [...]}',
        '{"messages": [...]}\n{"messages": [...]}',
    ),
    Code(
        "JSON_TRAILING_DATA",
        ERROR,
        "extra characters after the value",
        "Remove what follows the closing brace; rows are not separated by commas.",
        f"One line is one JSON value and nothing else. {_SKIPPED}",
        '{"messages": [...]},',
        '{"messages": [...]}',
    ),
    Code(
        "JSON_TRAILING_COMMA",
        ERROR,
        "a comma before a closing bracket",
        f"Remove the comma. {_WRITE}",
        f"Python and JavaScript allow it, JSON does not. {_SKIPPED}",
        '{"messages": [...],}',
        '{"messages": [...]}',
    ),
    Code(
        "JSON_PYTHON",
        ERROR,
        "this is Python, not JSON",
        f"{_WRITE} str(row) and print(row) write Python.",
        "Single quotes, None, True or False (or undefined): the row was printed instead of written as "
        f"JSON. {_SKIPPED}",
        "{'messages': [{'role': 'user', 'content': None}]}",
        '{"messages": [{"role": "user", "content": null}]}',
    ),
    Code(
        "JSON_COMMENT",
        ERROR,
        "a comment",
        "Remove it: JSON has no comments.",
        f"// and # and /* */ are not JSON. {_SKIPPED}",
        '{"messages": [...]} // the best one',
        '{"messages": [...]}',
    ),
    Code(
        "JSON_CUT_SHORT",
        ERROR,
        "the line ends too early",
        "Write the row again. Common causes are a download or a writer that stopped early, and a raw line "
        "feed inside a string where \\n should be.",
        f"A string, an object or an array is never closed. {_SKIPPED}",
        '{"messages": [{"role": "user", "content": "Hel',
        '{"messages": [{"role": "user", "content": "Hello"}, ...]}',
    ),
    Code(
        "JSON_SYNTAX",
        ERROR,
        "not JSON",
        f'Fix the syntax here. A common cause is an unescaped " inside a string. {_WRITE}',
        f"JSON does not allow this character here. {_SKIPPED}",
        '{"content": "she said "hello""}',
        '{"content": "she said \\"hello\\""}',
    ),
)
