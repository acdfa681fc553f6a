"""What the target does with the file and its rows, before it does it."""

from maas_client.dataset.codes._code import WARNING, Code, SeverityByTarget

_CLOUD_ERROR = SeverityByTarget("error", "error", None)
_CLOUD_WARNING = SeverityByTarget("warning", "warning", None)

CODES = (
    Code(
        "SERVICE_NO_ROWS",
        SeverityByTarget("error", "error", "error"),
        "no row is left to train on",
        "Mend the rows that are named; every one of them was refused.",
        "After the rows that cannot be read or used are taken out, nothing remains. The service says so "
        "only after the file was uploaded and the job was queued.",
        "(a file in which every line has an error)",
    ),
    Code(
        "SERVICE_TOO_FEW_ROWS",
        _CLOUD_ERROR,
        "too few rows",
        "Add rows; 10 are the least, 50 a sensible start.",
        "Both routes refuse a job with fewer than 10 rows. Azure ML counts after it has dropped, in "
        "silence, the rows it cannot read and those with fewer than two messages: so does this count.",
        "(a file of 9 rows)",
        is_policy=True,
    ),
    Code(
        "SERVICE_FEW_ROWS",
        _CLOUD_WARNING,
        "few rows",
        "Fine for a trial; 50 rows are a sensible start.",
        "A model tuned on so few rows rarely changes what it says.",
        "(a file of 12 rows)",
        is_policy=True,
    ),
    Code(
        "SERVICE_ROWS_SKIPPED",
        SeverityByTarget("warning", None, None),
        "Azure ML would skip rows in silence",
        "Mend the rows that are named, or the job trains on fewer rows than the file has.",
        "Rows that cannot be parsed or have no messages are passed over; the only trace is one line in "
        "the job's log, 'Total N json lines skipped'.",
        "(a file with three broken lines)",
    ),
    Code(
        "SERVICE_ROW_DROPPED",
        SeverityByTarget("warning", None, None),
        "the service would drop this row in silence",
        "Give it a question and an answer, or take it out.",
        "Azure ML drops rows with fewer than two messages before it trains, without naming them.",
        '{"messages": [{"role": "assistant", "content": "Hello."}]}',
    ),
    Code(
        "SERVICE_FILE_TOO_LARGE",
        _CLOUD_ERROR,
        "the file is larger than the service takes",
        "Split it (maas-client datasets split), or leave rows out.",
        "512 MB per file on Azure ML and on Foundry's /files, 5 GB through Foundry's uploads.",
        "(a file of 600 MB)",
        is_policy=True,
    ),
    Code(
        "SERVICE_UPLOADS_ONLY",
        SeverityByTarget(None, "warning", None),
        "the file is too large for /files and goes through the uploads API",
        "Nothing to do: maas-client takes that route by itself; a client that posts to /files fails.",
        "Foundry's /files takes 512 MB. Between that and 5 GB the uploads API takes the file in parts.",
        "(a file of 600 MB)",
        is_policy=True,
    ),
    Code(
        "SERVICE_TOO_MANY_TOKENS",
        _CLOUD_ERROR,
        "more tokens times epochs than the service trains",
        "Leave rows out or take fewer epochs.",
        "A job may train on at most two billion tokens, each counted once per epoch.",
        "(900 million tokens, 3 epochs)",
        is_policy=True,
    ),
    Code(
        "SERVICE_MANY_TOKENS",
        _CLOUD_WARNING,
        "tokens times epochs may be more than the service trains",
        "Count exactly with the model's tokenizer, or take fewer epochs.",
        "The number is an estimate, and its upper bound is over two billion.",
        "(about 700 million tokens, 3 epochs)",
        is_policy=True,
    ),
    Code(
        "SERVICE_TRUNCATED",
        WARNING,
        "the row is longer than the model is trained on",
        "Shorten it or split the conversation; what is beyond the limit is cut off and not learned.",
        "Rows are cut at the model's length. The end is lost first, and the end is the answer.",
        "(a row of 5,000 tokens for Phi-3-mini-4k-instruct)",
        is_policy=True,
    ),
    Code(
        "SERVICE_NOTHING_LEFT",
        SeverityByTarget("error", "error", "warning"),
        "nothing to learn is left of this row once it is cut at the model's length",
        "Shorten what stands before the answer, or take the row out.",
        "The answer lies wholly beyond the limit: the row is dropped. If all rows are, the job ends with "
        "'No assistant tokens found after preprocessing'.",
        "(a question of 5,000 tokens for Phi-3-mini-4k-instruct)",
        is_policy=True,
    ),
    Code(
        "SERVICE_SPLIT",
        SeverityByTarget("warning", None, None),
        "without a validation file Azure ML validates on the last fifth, unshuffled",
        "Fine if the rows are in no order; otherwise maas-client datasets split writes two files.",
        "The last 20 % of the rows are cut off for validation. This file is in an order that makes "
        "them differ from the rest.",
        "(rows sorted by topic)",
        is_policy=True,
    ),
    Code(
        "SERVICE_MODEL",
        _CLOUD_WARNING,
        "the target does not tune this model",
        "See maas-client models show MODEL for where it can be tuned.",
        "The rows are checked for this model all the same.",
        "maas-client validate FILE --model Phi-4-mini-instruct --target foundry",
        is_policy=True,
    ),
)
