"""A line that is not one strict JSON value in UTF-8."""

from maas_client.dataset.codes._code import ERROR, WARNING, Code

_SKIPPED = "Azure ML skips such a line without a word; the job trains on the rest."
_WRITE = "Write the file with a JSON library (json.dumps in Python), one object per line."

CODES = (
    Code(
        "JSON_UTF8",
        ERROR,
        "the line is not UTF-8",
        "Save the file as UTF-8; if this line is Windows-1252 or Latin-1, this mends it: "
        "maas-client validate FILE --fix OUT.jsonl",
        "These bytes are no character in UTF-8: often Latin-1 or Windows-1252, a character cut in two, "
        f"or an encoded surrogate. {_SKIPPED} "
        "`--fix` mends a line that can only be Windows-1252 (Latin-1 is part of it) in a language of "
        "western Europe; one that may be in another code page, or is damaged, it leaves as it is.",
        '{"messages": [{"role": "user", "content": "caf\\xE9"}, ...]}',
        '{"messages": [{"role": "user", "content": "café"}, ...]}',
    ),
    Code(
        "JSON_BOM",
        ERROR,
        "a byte order mark stands where none may be",
        "Take out the three bytes EF BB BF; one at the very start of the file is fine.",
        "Files that were joined (cat a.jsonl b.jsonl) carry the second one's mark into the middle. A "
        "single mark at the start of the file is accepted for every target.",
        "EF BB BF in front of a line other than the first",
    ),
    Code(
        "JSON_BLANK_LINE",
        WARNING,
        "the line is blank",
        "Nothing is lost; take it out to keep line numbers and row numbers the same.",
        "Only white space. Every target passes over it.",
        "(an empty line between two rows)",
    ),
    Code(
        "JSON_LINE_TOO_LONG",
        ERROR,
        "the line is longer than the limit",
        "Split the conversation, or check whether line feeds were lost when the file was written.",
        "A line is read up to the limit (16 MiB) and no further. No model has a context that long; such "
        "a line nearly always means that all rows were written without line ends.",
        "(a file of 1 GB without a line feed)",
    ),
    Code(
        "JSON_NUL",
        ERROR,
        "a NUL byte",
        "The file was damaged or padded; write it again from its source.",
        "A byte 00 in the text. Crashed writers and block devices leave them behind; no JSON reader "
        "accepts one.",
        '{"messages": ...}\\x00',
    ),
    Code(
        "JSON_CONTROL_CHARACTER",
        ERROR,
        "a raw control character inside a string",
        f"Escape it (\\n, \\t, \\u001b). {_WRITE}",
        f"JSON strings hold no raw tabs or other characters below U+0020. {_SKIPPED}",
        '{"messages": [{"role": "user", "content": "a<TAB>b"}, ...]}',
        '{"messages": [{"role": "user", "content": "a\\tb"}, ...]}',
    ),
    Code(
        "JSON_ESCAPE",
        ERROR,
        "a backslash that begins no JSON escape",
        f'Double the backslash, or escape the quote after it as \\". {_WRITE}',
        'JSON knows \\" \\\\ \\/ \\b \\f \\n \\r \\t and \\uXXXX. Windows paths and regular expressions '
        f"pasted by hand are the usual cause. {_SKIPPED}",
        '{"content": "C:\\data"}',
        '{"content": "C:\\\\data"}',
    ),
    Code(
        "JSON_SURROGATE",
        ERROR,
        "half of a surrogate pair",
        "Write the whole character, or take out the half; text cut at a fixed length is the usual cause.",
        "An escape \\uD800 to \\uDFFF without its partner is no character. Some readers accept it and "
        "fail later, when the text is encoded for the model.",
        '{"content": "\\ud83d"}',
        '{"content": "\\ud83d\\ude00"}',
    ),
    Code(
        "JSON_DUPLICATE_KEY",
        ERROR,
        "the same key twice in one object",
        "Keep the one that is meant; readers differ in which they take.",
        "Most JSON readers take the last silently, some the first: what you checked and what is trained "
        "may be two data sets.",
        '{"role": "user", "role": "assistant", "content": "Hi"}',
        '{"role": "user", "content": "Hi"}',
    ),
    Code(
        "JSON_NOT_FINITE",
        ERROR,
        "a number that JSON does not have",
        "Write null or leave the member out; pandas and json.dumps write NaN for a missing value.",
        "NaN, Infinity, and numbers too large for a double such as 1e400. Readers refuse them, or turn "
        "them into something else.",
        '{"messages": [...], "score": NaN}',
        '{"messages": [...], "score": null}',
    ),
    Code(
        "JSON_INTEGER_RANGE",
        ERROR,
        "an integer beyond 2^53",
        "Write it as a string.",
        "Readers that hold numbers as doubles change such an integer silently; very long ones crash some.",
        '{"messages": [...], "id": 12345678901234567890}',
        '{"messages": [...], "id": "12345678901234567890"}',
    ),
    Code(
        "JSON_NUMBER",
        ERROR,
        "not a number as JSON writes them",
        "No leading zeros or plus sign, digits on both sides of the point; put it in quotes if it is text.",
        "01, 1., .5, +1, 0x1F and 1_000 are not JSON.",
        '{"weight": 01}',
        '{"weight": 1}',
    ),
    Code(
        "JSON_DEPTH",
        ERROR,
        "nested too deeply",
        "Flatten the value; a chat needs five levels, a tool's parameters a few more.",
        "Beyond 64 levels readers begin to differ, and some crash.",
        "[[[[...]]]]",
    ),
    Code(
        "JSON_TOO_MANY_VALUES",
        ERROR,
        "too many values on one line",
        "Check whether line feeds were lost when the file was written.",
        "A chat has some dozens of values. A line with hundreds of thousands is not read to its end: it "
        "is many rows in one, or made to keep readers busy.",
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
        "something follows the value",
        "Take out what stands behind the closing brace; rows are not separated by commas.",
        f"One line is one JSON value and nothing else. {_SKIPPED}",
        '{"messages": [...]},',
        '{"messages": [...]}',
    ),
    Code(
        "JSON_TRAILING_COMMA",
        ERROR,
        "a comma before a closing bracket",
        f"Take out the comma. {_WRITE}",
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
        "Take it out; JSON has no comments.",
        f"// and # and /* */ are not JSON. {_SKIPPED}",
        '{"messages": [...]} // the best one',
        '{"messages": [...]}',
    ),
    Code(
        "JSON_CUT_SHORT",
        ERROR,
        "the line ends too early",
        "Write the row again; a download or a writer stopped in the middle, or a line feed stands inside "
        "a string where \\n should.",
        f"A string, an object or an array is never closed. {_SKIPPED}",
        '{"messages": [{"role": "user", "content": "Hel',
        '{"messages": [{"role": "user", "content": "Hello"}, ...]}',
    ),
    Code(
        "JSON_SYNTAX",
        ERROR,
        "not JSON",
        f'Mend the place; an unescaped " inside a text is the usual cause. {_WRITE}',
        f"Something stands where JSON does not allow it. {_SKIPPED}",
        '{"content": "she said "hello""}',
        '{"content": "she said \\"hello\\""}',
    ),
)
