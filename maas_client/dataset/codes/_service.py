"""Codes for what the target would do with the file and its rows."""

from maas_client.dataset.codes import ERROR, WARNING, Code, SeverityByTarget

_CLOUD_ERROR = SeverityByTarget("error", "error", None)
_CLOUD_WARNING = SeverityByTarget("warning", "warning", None)
_AZUREML_WARNING = SeverityByTarget("warning", None, None)

CODES = (
    Code(
        "SERVICE_NO_ROWS",
        ERROR,
        "no row is left to train on",
        "Fix the reported rows.",
        "Nothing is left after the rows that cannot be read or used are removed. The service reports it only "
        "after the file was uploaded and the job was queued.",
        "(a file in which every line has an error)",
    ),
    Code(
        "SERVICE_TOO_FEW_ROWS",
        _CLOUD_ERROR,
        "too few rows",
        "Add rows: 10 is the minimum, 50 a sensible start.",
        "Azure ML and Foundry reject a job with fewer than 10 rows. Azure ML first silently drops the rows "
        "that it cannot read and those with fewer than two messages, and so does this count.",
        "(a file of 9 rows)",
        is_policy=True,
    ),
    Code(
        "SERVICE_FEW_ROWS",
        _CLOUD_WARNING,
        "few rows",
        "Add rows, unless this is a trial: 50 is a sensible start.",
        "A model that is tuned on so few rows rarely changes its answers.",
        "(a file of 12 rows)",
        is_policy=True,
    ),
    Code(
        "SERVICE_ROWS_SKIPPED",
        _AZUREML_WARNING,
        "Azure ML would silently skip rows",
        "Fix the reported rows. Otherwise the job trains on fewer rows than the file has.",
        "Rows that cannot be parsed or have no messages are skipped. The only trace is one line in "
        "the job's log: 'Total N json lines skipped'.",
        "(a file with three broken lines)",
    ),
    Code(
        "SERVICE_ROW_DROPPED",
        _AZUREML_WARNING,
        "the service would silently drop this row",
        "Add a question and an answer, or remove the row.",
        "Azure ML drops rows with fewer than two messages before training, without reporting them.",
        '{"messages": [{"role": "assistant", "content": "Hello."}]}',
    ),
    Code(
        "SERVICE_FILE_TOO_LARGE",
        _CLOUD_ERROR,
        "the file is larger than the service accepts",
        "Split it (maas-client datasets split), or remove rows.",
        "The limit is 512 MB per file on Azure ML and on Foundry's /files, and 5 GB with Foundry's uploads.",
        "(a file of 600 MB)",
        is_policy=True,
    ),
    Code(
        "SERVICE_UPLOADS_ONLY",
        SeverityByTarget(None, "warning", None),
        "the file is too large for /files and needs the uploads API",
        "No action is needed: maas-client uses the uploads API by itself. A client that posts to /files fails.",
        "Foundry's /files accepts 512 MB. Files of up to 5 GB are sent in parts through the uploads API.",
        "(a file of 600 MB)",
        is_policy=True,
    ),
    Code(
        "SERVICE_TOO_MANY_TOKENS",
        _CLOUD_ERROR,
        "more tokens times epochs than the service trains",
        "Remove rows or use fewer epochs.",
        "A job may train on at most two billion tokens, each counted once per epoch.",
        "(900 million tokens, 3 epochs)",
        is_policy=True,
    ),
    Code(
        "SERVICE_MANY_TOKENS",
        _CLOUD_WARNING,
        "tokens times epochs may be more than the service trains",
        "Count exactly with the model's tokenizer, or use fewer epochs.",
        "The number is an estimate, and its upper bound is above two billion.",
        "(about 700 million tokens, 3 epochs)",
        is_policy=True,
    ),
    Code(
        "SERVICE_TRUNCATED",
        WARNING,
        "the row is longer than the model's training length",
        "Shorten it or split the conversation: what exceeds the limit is truncated and not trained on.",
        "Rows are truncated at the model's length. The end is lost first, and the end is the answer.",
        "(a row of 5,000 tokens for Phi-3-mini-4k-instruct)",
        is_policy=True,
    ),
    Code(
        "SERVICE_NOTHING_LEFT",
        SeverityByTarget("error", "error", "warning"),
        "nothing to train on is left of this row once it is truncated to the model's length",
        "Shorten the messages before the answer, or remove the row.",
        "The whole answer is beyond the limit, so the row is dropped. If all rows are, the job ends with "
        "'No assistant tokens found after preprocessing'.",
        "(a question of 5,000 tokens for Phi-3-mini-4k-instruct)",
        is_policy=True,
    ),
    Code(
        "SERVICE_SPLIT",
        _AZUREML_WARNING,
        "Azure ML would validate on rows that differ from those it trains on",
        "Shuffle the rows, or write a training and a validation file with maas-client datasets split.",
        "Without a validation file Azure ML takes the last 20 % of the rows, in the order of the file. Here "
        "most of them have another system message than the rows before, as in a file that is sorted by task. "
        "The model is not trained on those tasks, and the validation loss says nothing about the others.",
        "(rows sorted by topic)",
        is_policy=True,
    ),
    Code(
        "SERVICE_MODEL",
        _CLOUD_WARNING,
        "the target does not tune this model",
        "Run maas-client models show MODEL to see where it can be tuned.",
        "The rows are still checked for this model.",
        "maas-client validate FILE --model Phi-4-mini-instruct --target foundry",
        is_policy=True,
    ),
)
