"""The file as a whole."""

from maas_client.dataset.codes._code import ERROR, Code, SeverityByTarget

CODES = (
    Code(
        "FILE_NOT_FOUND",
        ERROR,
        "there is no such file",
        "Check the path; a relative one starts in the folder you are in.",
        "The path names nothing, or a link to nothing.",
        "maas-client validate trian.jsonl",
        "maas-client validate train.jsonl",
    ),
    Code(
        "FILE_NOT_REGULAR",
        ERROR,
        "this is not a file",
        "Give the data file itself; a pipe as standard input (maas-client validate - < PIPE); for a "
        "folder, list its files: maas-client validate FOLDER/*.jsonl",
        "A folder, a pipe or a device. A data set is read twice (to check it and to send it), so it has "
        "to be a regular file. `maas-client validate -` keeps standard input in a temporary file while it "
        "is checked; in Python, and for what writes or uploads, write it to a file first.",
        "maas-client validate data/",
        "maas-client validate data/*.jsonl",
    ),
    Code(
        "FILE_UNREADABLE",
        ERROR,
        "the file cannot be read",
        "Check its permissions and the disk it lies on.",
        "The operating system refused to open or to read the file; the message holds its reason.",
        "chmod 000 train.jsonl",
        "chmod 600 train.jsonl",
    ),
    Code(
        "FILE_CHANGED",
        ERROR,
        "the file changed while it was read",
        "Wait until whatever writes it has finished, then check again.",
        "Its size or the time it was written was another one at the end than at the start, or another file "
        "had taken its place, so the report describes neither.",
        "maas-client validate growing.jsonl",
    ),
    Code(
        "FILE_EMPTY",
        ERROR,
        "there is nothing in the file",
        "Write one chat per line: "
        '{"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}',
        "No bytes, or only blanks, line ends or a byte order mark. A job on such a file fails after "
        "it was queued.",
        "(0 bytes)",
        '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]}',
    ),
    Code(
        "FILE_EXTENSION",
        SeverityByTarget("error", "error", None),
        "the file's name does not end in .jsonl",
        "Rename it to NAME.jsonl; convert it first if it holds anything but JSON Lines "
        "(maas-client datasets convert).",
        "Azure's fine-tuning reads files whose name ends in .jsonl and no others. The local server "
        "does not mind.",
        "train.json",
        "train.jsonl",
    ),
    Code(
        "FILE_UTF16",
        ERROR,
        "the file is in UTF-16 or UTF-32, not in UTF-8",
        "Save it as UTF-8, or: maas-client validate FILE --fix OUT.jsonl",
        "Windows PowerShell's > and 'Unicode' in some editors write UTF-16. JSON Lines is UTF-8.",
        "FF FE 7B 00 22 00 ...",
        "7B 22 ...",
    ),
    Code(
        "FILE_CR_ONLY",
        ERROR,
        "the lines end in a carriage return alone",
        "Save it with line feeds, or: maas-client validate FILE --fix OUT.jsonl",
        "Old Macintosh line ends. For every reader of JSON Lines such a file is one single line.",
        '{"messages": ...}\\r{"messages": ...}\\r',
        '{"messages": ...}\\n{"messages": ...}\\n',
    ),
    Code(
        "FILE_JSON_ARRAY",
        ERROR,
        "the file is one JSON array, not one object per line",
        "Turn it into lines: maas-client datasets convert FILE OUT.jsonl",
        "JSON Lines has no brackets around the rows and no commas between them. The services skip "
        "every line of such a file.",
        '[{"messages": [...]}, {"messages": [...]}]',
        '{"messages": [...]}\n{"messages": [...]}',
    ),
    Code(
        "FILE_PRETTY_PRINTED",
        ERROR,
        "the objects are spread over several lines",
        "Write each on a line of its own: maas-client datasets convert FILE OUT.jsonl",
        "The file is JSON printed for people. JSON Lines wants one whole object per line; the services "
        "skip every line of such a file.",
        '{\n  "messages": [\n    ...\n  ]\n}',
        '{"messages": [...]}',
    ),
    Code(
        "FILE_CSV",
        ERROR,
        "the file is a table (CSV or TSV), not JSON Lines",
        "Turn it into lines: maas-client datasets convert FILE OUT.jsonl",
        "The first lines are column names and separated values.",
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
