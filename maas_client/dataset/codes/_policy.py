"""Codes for what the rows contain: quality, secrets, personal data.

They are policy, not format: none of them stops the local trainer.
"""

from maas_client.dataset.codes import ERROR, WARNING, Code

_REMOVE = (
    "Remove it and revoke it: everyone who may use the model can extract what is in the training "
    "data. If it is not a secret, ignore this code."
)


def _secret(name: str, message: str, pattern: str) -> Code:
    return Code(
        f"SECRET_{name}",
        ERROR,
        message,
        _REMOVE,
        f"Detected by its pattern: {pattern}. A model repeats what it was trained on, so anyone who uses "
        "the model may obtain a key in the data. The secret itself is never printed.",
        f"({pattern})",
        is_policy=True,
    )


def _quality(name: str, message: str, hint: str, explanation: str, example: str) -> Code:
    return Code(f"QUALITY_{name}", WARNING, message, hint, explanation, example, is_policy=True)


def _pii(name: str, message: str, pattern: str) -> Code:
    return Code(
        f"PII_{name}",
        WARNING,
        message,
        "Replace it with an invented value or a placeholder, unless you are allowed to use it.",
        f"{pattern}. Personal data in the training data can appear in answers; Azure screens for it before "
        "a model is deployed. The data itself is never printed.",
        f"({pattern})",
        is_policy=True,
    )


CODES = (
    _quality(
        "DUPLICATE",
        "a duplicate row",
        "Remove it, unless the row is meant to count twice.",
        "It is byte for byte the same as an earlier line, apart from white space at the end. Repeated rows "
        "are billed again and learned more strongly.",
        "(line 17 repeats line 3)",
    ),
    _quality(
        "NEAR_DUPLICATE",
        "a nearly duplicate row",
        "Keep the better of the two.",
        "Its question and its answer are those of an earlier row with small changes. System messages and tools "
        "do not count, and neither do rows made from one template with other names, numbers or things. "
        "Many such rows make the model memorize them.",
        "(two rows that differ in one word)",
    ),
    _quality(
        "CONFLICT",
        "a question that has a different answer elsewhere",
        "Decide which answer is correct and remove the other row.",
        "The messages before the last answer are those of an earlier row, but the answer differs. The model "
        "learns to choose between them at random.",
        "(two rows with the same question and different answers)",
    ),
    _quality(
        "LEAKAGE",
        "a question that is also in the training file",
        "Remove it from one of the files; maas-client datasets split keeps them separate.",
        "The messages before the last answer are those of a row of the training file, or the whole row is a "
        "near duplicate of one. The validation loss on rows that were trained on is meaningless.",
        "(the same conversation in both files)",
    ),
    _quality(
        "CUT_OFF",
        "the answer seems to be cut off",
        "Complete the answer, or remove the row.",
        "The answer ends inside a word, a sentence or a code block. The usual cause is a token limit of the "
        "model that generated the data. An answer that ends with a word is reported only in a file whose "
        "answers otherwise end with a full stop, and not if it is a result, a signature, a list or code.",
        '"To install it, first open the"',
    ),
    _quality(
        "REFUSAL",
        "the answer is a refusal",
        "Remove it, unless the model is meant to refuse this.",
        "It contains a phrase such as 'As an AI language model, I cannot' from the model that generated the "
        "data. A model learns to refuse from a few examples.",
        '"I\'m sorry, but as an AI language model I cannot ..."',
    ),
    _quality(
        "PLACEHOLDER",
        "the text contains a placeholder",
        "Replace the placeholder, or remove the row.",
        "A template variable that was never filled in, such as {{name}}, [INSERT DATE], lorem ipsum or TODO.",
        '"Dear {{customer_name}}, ..."',
    ),
    _quality(
        "MOJIBAKE",
        "characters that were decoded incorrectly",
        "Read the source as UTF-8 and write the file again.",
        "UTF-8 that was read as Latin-1 or Windows-1252 and written again, or a replacement character.",
        '"cafÃ©"',
    ),
    _quality(
        "NUL",
        "a NUL character in a string",
        "Remove \\u0000. A common cause is a padded database field.",
        "U+0000 is valid JSON, but tokenizers, databases and C programs truncate or drop the text there.",
        '"Hi\\u0000"',
    ),
    _secret(
        "AWS_KEY", "an AWS access key", "AKIA or ASIA and 16 letters, or the secret next to it"
    ),
    _secret("AZURE_STORAGE_KEY", "an Azure account key", "64 bytes in base64"),
    _secret(
        "AZURE_SAS", "an Azure shared access signature", "a URL with sig= and 32 bytes in base64"
    ),
    _secret("AZURE_CONNECTION_STRING", "an Azure connection string", "SharedAccessKey=..."),
    _secret("AZURE_KEY", "an Azure key or client secret", "the marker of Azure's key formats"),
    _secret("GITHUB_TOKEN", "a GitHub token", "ghp_, gho_, ghu_, ghs_, ghr_ or github_pat_"),
    _secret("ANTHROPIC_KEY", "an Anthropic key", "sk-ant-..."),
    _secret("OPENAI_KEY", "an OpenAI key", "sk-..."),
    _secret("SLACK_TOKEN", "a Slack token", "xoxb-..., xapp-... or a webhook URL"),
    _secret("GOOGLE_KEY", "a Google API key", "AIza and 35 characters"),
    _secret("HUGGINGFACE_TOKEN", "a Hugging Face token", "hf_..."),
    _secret("GITLAB_TOKEN", "a GitLab token", "glpat-..."),
    _secret("PACKAGE_TOKEN", "a package registry token", "npm_... or pypi-..."),
    _secret("STRIPE_KEY", "a Stripe key", "sk_live_... or rk_live_..."),
    _secret("SENDGRID_KEY", "a SendGrid key", "SG.... in three parts"),
    _secret("DATABRICKS_TOKEN", "a Databricks token", "dapi and 32 hex digits"),
    _secret("JWT", "a signed token (JWT)", "three base64 parts, the first a header with alg"),
    _secret(
        "PRIVATE_KEY", "a private key", "-----BEGIN ... PRIVATE KEY----- and the text after it"
    ),
    _secret(
        "CONNECTION_STRING", "a connection string with a password", "scheme://user:password@host"
    ),
    _pii("EMAIL", "an e-mail address", "name@host.tld"),
    _pii("PHONE", "a phone number", "An international or national format"),
    _pii("CARD", "a payment card number", "13 to 19 digits with a valid Luhn check digit"),
    _pii("IBAN", "a bank account number (IBAN)", "An IBAN with valid check digits"),
    _pii("SSN", "a US social security number", "Three, two and four digits in a valid range"),
    _pii("IP", "an IP address", "IPv4 or IPv6, public or private"),
)
