"""What a message says: its content, in the form the template reads."""

from maas_client.dataset.codes._code import ERROR, WARNING, Code

CODES = (
    Code(
        "CHAT_CONTENT_MISSING",
        ERROR,
        "a message has no content",
        "Give it one; only an assistant's message with tool_calls may go without.",
        "Content may be missing or null only where the assistant calls tools instead of speaking.",
        '{"role": "user"}',
        '{"role": "user", "content": "Hi"}',
    ),
    Code(
        "CHAT_CONTENT_TYPE",
        ERROR,
        "content is neither a text nor a list of parts",
        "Write it as a text; an object or a number that is meant as text goes through json.dumps.",
        'Content is a text, or a list of parts such as {"type": "text", "text": "..."}.',
        '{"role": "assistant", "content": {"answer": 42}}',
        '{"role": "assistant", "content": "{\\"answer\\": 42}"}',
    ),
    Code(
        "CHAT_CONTENT_EMPTY",
        ERROR,
        "content is empty",
        "Fill it, or take the message or the row out.",
        "An empty answer teaches the model to say nothing; an empty question teaches it to answer "
        "nothing.",
        '{"role": "assistant", "content": ""}',
        '{"role": "assistant", "content": "Hello."}',
    ),
    Code(
        "CHAT_CONTENT_BLANK",
        ERROR,
        "content is only white space",
        "Fill it, or take the message or the row out.",
        "As empty: nothing is said.",
        '{"role": "assistant", "content": "  \\n"}',
        '{"role": "assistant", "content": "Hello."}',
    ),
    Code(
        "CHAT_CONTROL_TOKEN",
        ERROR,
        "a control token of the model's template inside the content",
        "Take it out: the template adds its tokens by itself; text about tokens is written <| end |>.",
        "The tokenizer turns such text into a control token: the turn ends in the middle, or someone "
        "else seems to speak. It comes from data that was rendered with a template already, or from an "
        "attack. Tokens of other models' templates are found as well when no model is given.",
        '{"role": "assistant", "content": "Hello.<|end|>"}',
        '{"role": "assistant", "content": "Hello."}',
        not_in_schema=True,
    ),
    Code(
        "CHAT_FOREIGN_TOKEN",
        WARNING,
        "a control token of another model's template inside the content",
        "Take it out; it was left behind by data rendered for another model.",
        "To this model it is plain text, and it will learn to write it.",
        '{"role": "assistant", "content": "Hello.<|im_end|>"}  for Phi-3-mini-4k-instruct',
        '{"role": "assistant", "content": "Hello."}',
        not_in_schema=True,
    ),
    Code(
        "CHAT_PART",
        ERROR,
        "a content part that is not one",
        'Write parts as {"type": "text", "text": "..."}.',
        "Every part is an object with a type, and under the type's name what it holds.",
        '"content": ["Hi"]',
        '"content": [{"type": "text", "text": "Hi"}]',
    ),
    Code(
        "CHAT_PART_UNKNOWN",
        ERROR,
        "a content part of an unknown type",
        "Use text parts; nothing else is trained on.",
        "Known types are text, image_url, input_audio and file, and of these only text can be learned "
        "from by a text model.",
        '"content": [{"type": "video", "video": "..."}]',
        '"content": [{"type": "text", "text": "..."}]',
    ),
    Code(
        "CHAT_PART_MODALITY",
        ERROR,
        "an image, a sound or a file in the data of a text model",
        "Take the part out, or describe it in words.",
        "The models that can be tuned here read text: fine-tuning takes text parts alone, for "
        "Phi-4-multimodal-instruct too. An image part would be dropped, and the answer would be learned "
        "without what it is about.",
        '"content": [{"type": "image_url", "image_url": {"url": "..."}}]',
        '"content": [{"type": "text", "text": "A photo of a red bicycle."}]',
    ),
)
