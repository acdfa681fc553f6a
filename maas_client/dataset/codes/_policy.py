"""What is in the rows: quality, secrets, personal data. None of it is a matter of format, so none
of it stops the local trainer."""

from maas_client.dataset.codes._code import ERROR, Code, Severity, SeverityByTarget

_TAKE_OUT = (
    "Take it out and revoke it: what is in training data can be read by everyone who may use the "
    "model. --ignore CODE if it is no secret."
)


def _secret(name: str, what: str, form: str) -> Code:
    return Code(
        f"SECRET_{name}",
        ERROR,
        what,
        _TAKE_OUT,
        f"Found by its form: {form}. A model repeats what it was trained on, so a key in the data is a "
        "key given away. The secret itself is never printed.",
        f"({form})",
        is_policy=True,
    )


def _quality(name: str, message: str, hint: str, about: str, example: str) -> Code:
    return Code(f"QUALITY_{name}", _WARN, message, hint, about, example, is_policy=True)


def _pii(name: str, what: str, form: str) -> Code:
    return Code(
        f"PII_{name}",
        _WARN,
        what,
        "Replace it by an invented one or a placeholder, unless you may use it.",
        f"{form}. Personal data in training data can come out in answers; Azure screens for it before a "
        "model is deployed. Nothing of it is printed.",
        f"({form})",
        is_policy=True,
    )


_WARNS: Severity = "warning"
_WARN = SeverityByTarget(_WARNS, _WARNS, _WARNS)

CODES = (
    _quality(
        "DUPLICATE",
        "a row that is not new",
        "Take it out, unless the row is meant to count twice.",
        "Byte for byte the same as an earlier line (white space at the end aside). Repeated rows are "
        "paid for and learned more strongly.",
        "(line 17 is line 3 again)",
    ),
    _quality(
        "NEAR_DUPLICATE",
        "a row that is hardly new",
        "Keep the better of the two.",
        "Most of the words are the same. Many such rows make the model recite.",
        "(two rows that differ in one word)",
    ),
    _quality(
        "CONFLICT",
        "a question that has another answer elsewhere",
        "Decide which answer is right.",
        "The messages before the last answer are those of an earlier row, the answer is not. The model "
        "learns to toss a coin.",
        "(two rows with the same question and different answers)",
    ),
    _quality(
        "LEAKAGE",
        "a question of the training file",
        "Take it out of one of the files; maas-client datasets split keeps them apart.",
        "A validation loss over rows that were trained on says nothing.",
        "(the same conversation in both files)",
    ),
    _quality(
        "CUT_OFF",
        "the answer seems to end in the middle",
        "Complete the answer, or take the row out.",
        "It ends without a sentence's end, or within a code block or a list: often the mark of a token "
        "limit where the data was made.",
        '"To install it, first open the"',
    ),
    _quality(
        "REFUSAL",
        "the answer is a refusal",
        "Take it out, unless the model is to refuse this.",
        "A phrase such as 'As an AI language model, I cannot': left behind by the model that wrote the "
        "data, and learned from few examples.",
        '"I\'m sorry, but as an AI language model I cannot ..."',
    ),
    _quality(
        "PLACEHOLDER",
        "the text holds a placeholder",
        "Fill it in, or take the row out.",
        "A template's gap that was never filled, such as {{name}}, [INSERT DATE], lorem ipsum or TODO.",
        '"Dear {{customer_name}}, ..."',
    ),
    _quality(
        "MOJIBAKE",
        "characters that were decoded wrongly",
        "Read the source as UTF-8 and write the file again.",
        "UTF-8 that was read as Latin-1 or Windows-1252 and written again, or a replacement character.",
        '"cafÃ©"',
    ),
    _quality(
        "NUL",
        "a NUL character in a text",
        "Take out \\u0000; it comes from padded database fields.",
        "U+0000 is valid JSON, but tokenizers, databases and C programs end or drop the text there.",
        '"Hi\\u0000"',
    ),
    _secret("AWS_KEY", "an AWS access key", "AKIA or ASIA and 16 letters, or the secret beside it"),
    _secret("AZURE_STORAGE_KEY", "an Azure account key", "64 bytes in base64"),
    _secret(
        "AZURE_SAS", "an Azure shared access signature", "a URL with sig= and 32 bytes in base64"
    ),
    _secret("AZURE_CONNECTION_STRING", "an Azure connection string", "SharedAccessKey=..."),
    _secret("AZURE_KEY", "an Azure key or client secret", "the mark of Azure's key formats"),
    _secret("GITHUB_TOKEN", "a GitHub token", "ghp_, gho_, ghu_, ghs_, ghr_ or github_pat_"),
    _secret("ANTHROPIC_KEY", "an Anthropic key", "sk-ant-..."),
    _secret("OPENAI_KEY", "an OpenAI key", "sk-..."),
    _secret("SLACK_TOKEN", "a Slack token", "xoxb-..., xapp-... or a webhook's address"),
    _secret("GOOGLE_KEY", "a Google API key", "AIza and 35 characters"),
    _secret("HUGGINGFACE_TOKEN", "a Hugging Face token", "hf_..."),
    _secret("GITLAB_TOKEN", "a GitLab token", "glpat-..."),
    _secret("PACKAGE_TOKEN", "a package registry's token", "npm_... or pypi-..."),
    _secret("STRIPE_KEY", "a Stripe key", "sk_live_... or rk_live_..."),
    _secret("SENDGRID_KEY", "a SendGrid key", "SG.... in three parts"),
    _secret("DATABRICKS_TOKEN", "a Databricks token", "dapi and 32 hex digits"),
    _secret("JWT", "a signed token (JWT)", "three base64 parts, the first one a header with alg"),
    _secret("PRIVATE_KEY", "a private key", "-----BEGIN ... PRIVATE KEY----- and what follows"),
    _secret(
        "CONNECTION_STRING", "a connection string with a password", "scheme://user:password@host"
    ),
    _pii("EMAIL", "an e-mail address", "name@host.tld"),
    _pii("PHONE", "a phone number", "an international or national form"),
    _pii("CARD", "a payment card's number", "13 to 19 digits with a valid Luhn digit"),
    _pii("IBAN", "a bank account (IBAN)", "an IBAN whose check digits are right"),
    _pii("SSN", "a US social security number", "three, two and four digits that can be one"),
    _pii("IP", "an IP address", "IPv4 or IPv6, public or private"),
)
