"""Codes for the content of a message, in the form that the chat template reads."""

from maas_client.dataset.codes import ERROR, WARNING, Code

CODES = (
    Code(
        "CHAT_CONTENT_MISSING",
        ERROR,
        "a message has no content",
        "Add it; only an assistant message with tool_calls may have none.",
        "Content may be missing or null only where the assistant calls tools instead of writing text.",
        '{"role": "user"}',
        '{"role": "user", "content": "Hi"}',
    ),
    Code(
        "CHAT_CONTENT_TYPE",
        ERROR,
        "content is neither a string nor a list of parts",
        "Write it as a string; convert an object or a number with json.dumps.",
        'Content is a string, or a list of parts such as {"type": "text", "text": "..."}.',
        '{"role": "assistant", "content": {"answer": 42}}',
        '{"role": "assistant", "content": "{\\"answer\\": 42}"}',
    ),
    Code(
        "CHAT_CONTENT_EMPTY",
        ERROR,
        "content is empty",
        "Add text, or remove the message or the row.",
        "An empty answer trains the model to answer nothing; an empty question trains it to answer without "
        "a question.",
        '{"role": "assistant", "content": ""}',
        '{"role": "assistant", "content": "Hello."}',
    ),
    Code(
        "CHAT_CONTENT_BLANK",
        ERROR,
        "content is only white space",
        "Add text, or remove the message or the row.",
        "It has the same effect as empty content.",
        '{"role": "assistant", "content": "  \\n"}',
        '{"role": "assistant", "content": "Hello."}',
    ),
    Code(
        "CHAT_CONTROL_TOKEN",
        ERROR,
        "a control token of the model's chat template inside the content",
        "Remove it: the chat template adds its own tokens. To write about a token, write <| end |>.",
        "The tokenizer turns such text into a control token: the message ends early, or seems to come from "
        "another role. The usual causes are data that was already rendered with a template, and prompt "
        "injection. Tokens of other models' templates are reported as well when no model is given.",
        '{"role": "assistant", "content": "Hello.<|end|>"}',
        '{"role": "assistant", "content": "Hello."}',
        not_in_schema=True,
    ),
    Code(
        "CHAT_FOREIGN_TOKEN",
        WARNING,
        "a control token of another model's chat template inside the content",
        "Remove it: it remains from data that was rendered for another model.",
        "For this model it is plain text, and the model learns to write it.",
        '{"role": "assistant", "content": "Hello.<|im_end|>"}  for Phi-3-mini-4k-instruct',
        '{"role": "assistant", "content": "Hello."}',
        not_in_schema=True,
    ),
    Code(
        "CHAT_PART",
        ERROR,
        "an invalid content part",
        'Write parts as {"type": "text", "text": "..."}.',
        "Every part is an object with a type, and with its value under the key that the type names.",
        '"content": ["Hi"]',
        '"content": [{"type": "text", "text": "Hi"}]',
    ),
    Code(
        "CHAT_PART_UNKNOWN",
        ERROR,
        "a content part of an unknown type",
        "Use text parts: only text is trained on.",
        "Known types are text, image_url, input_audio and file. A text model can be trained on text only.",
        '"content": [{"type": "video", "video": "..."}]',
        '"content": [{"type": "text", "text": "..."}]',
    ),
    Code(
        "CHAT_PART_MODALITY",
        ERROR,
        "an image, audio or file part in the data of a text model",
        "Remove the part, or describe it in words.",
        "Fine-tuning takes text parts only, for Phi-4-multimodal-instruct too. An image part would be "
        "dropped, and the answer would be trained on without what it describes.",
        '"content": [{"type": "image_url", "image_url": {"url": "..."}}]',
        '"content": [{"type": "text", "text": "A photo of a red bicycle."}]',
    ),
)
