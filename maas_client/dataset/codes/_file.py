"""Codes for the file as a whole."""

from maas_client.dataset.codes import ERROR, Code, SeverityByTarget

CODES = (
    Code(
        "FILE_NOT_FOUND",
        ERROR,
        "the file does not exist",
        "Check the path; a relative path starts in the current folder.",
        "The path does not exist, or it is a link to a file that does not exist.",
        "maas-client validate trian.jsonl",
        "maas-client validate train.jsonl",
    ),
    Code(
        "FILE_NOT_REGULAR",
        ERROR,
        "this is not a file",
        "Give the data file itself; a pipe as standard input (maas-client validate - < PIPE); for a "
        "folder, list its files: maas-client validate FOLDER/*.jsonl",
        "The path is a folder, a pipe or a device. A data set is read twice (to check it and to upload it), "
        "so it must be a regular file. `maas-client validate -` copies standard input to a temporary file "
        "for the check. In Python, and before you convert, fix or upload, write it to a file first.",
        "maas-client validate data/",
        "maas-client validate data/*.jsonl",
    ),
    Code(
        "FILE_UNREADABLE",
        ERROR,
        "the file cannot be read",
        "Check its permissions and its disk.",
        "The operating system refused to open or to read the file. The message contains its reason.",
        "chmod 000 train.jsonl",
        "chmod 600 train.jsonl",
    ),
    Code(
        "FILE_CHANGED",
        ERROR,
        "the file changed while it was read",
        "Wait until the program that writes it has finished, then check again.",
        "Its size or modification time changed during the check, or it was replaced by another file. The "
        "report describes neither version.",
        "maas-client validate growing.jsonl",
    ),
    Code(
        "FILE_EMPTY",
        ERROR,
        "the file is empty",
        "Write one chat per line: "
        '{"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}',
        "The file has no bytes, or only white space, line ends or a byte order mark. A job on such a file "
        "fails after it was queued.",
        "(0 bytes)",
        '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]}',
    ),
    Code(
        "FILE_EXTENSION",
        SeverityByTarget("error", "error", None),
        "the file's name does not end in .jsonl",
        "Rename it to NAME.jsonl; if it is not JSON Lines, convert it first "
        "(maas-client datasets convert).",
        "Azure's fine-tuning accepts only files whose name ends in .jsonl. The local server accepts any name.",
        "train.json",
        "train.jsonl",
    ),
    Code(
        "FILE_UTF16",
        ERROR,
        "the file is in UTF-16 or UTF-32, not in UTF-8",
        "Save it as UTF-8, or run: maas-client validate FILE --fix OUT.jsonl",
        "Windows PowerShell's > and the encoding 'Unicode' of some editors write UTF-16. JSON Lines is UTF-8.",
        "FF FE 7B 00 22 00 ...",
        "7B 22 ...",
    ),
    Code(
        "FILE_CR_ONLY",
        ERROR,
        "the lines end in a carriage return alone",
        "Save it with line feeds, or run: maas-client validate FILE --fix OUT.jsonl",
        "These are the line ends of old Macintosh systems. A JSON Lines reader sees such a file as one line.",
        '{"messages": ...}\\r{"messages": ...}\\r',
        '{"messages": ...}\\n{"messages": ...}\\n',
    ),
    Code(
        "FILE_JSON_ARRAY",
        ERROR,
        "the file is one JSON array, not one object per line",
        "Convert it to lines: maas-client datasets convert FILE OUT.jsonl",
        "JSON Lines has no brackets around the rows and no commas between them. The services skip "
        "every line of such a file.",
        '[{"messages": [...]}, {"messages": [...]}]',
        '{"messages": [...]}\n{"messages": [...]}',
    ),
    Code(
        "FILE_PRETTY_PRINTED",
        ERROR,
        "the objects span several lines",
        "Write each object on its own line: maas-client datasets convert FILE OUT.jsonl",
        "The file is pretty-printed JSON. JSON Lines needs one complete object per line. The services "
        "skip every line of such a file.",
        '{\n  "messages": [\n    ...\n  ]\n}',
        '{"messages": [...]}',
    ),
    Code(
        "FILE_CSV",
        ERROR,
        "the file is a table (CSV or TSV), not JSON Lines",
        "Convert it to lines: maas-client datasets convert FILE OUT.jsonl",
        "The file starts with column names and separated values.",
        "prompt,completion\nHi,Hello.",
        '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]}',
    ),
    Code(
        "FILE_BINARY",
        ERROR,
        "the file is not text",
        "Unpack it or export it as JSON Lines first.",
        "The first bytes are those of a compressed file, a Parquet or Arrow file, a spreadsheet, a "
        "PDF or another binary format.",
        "train.jsonl.gz renamed to train.jsonl",
        "gunzip train.jsonl.gz",
    ),
)
