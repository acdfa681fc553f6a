"""Codes for conversations: the format, the roles and their order, and the content of the messages."""

from maas_client.dataset.codes import ERROR, WARNING, Code, SeverityByTarget
from maas_client.dataset.formats import FORMATS, RowFormat

_VALID_ROW = (
    '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]}'
)
_PREFERENCE = (
    '{"input": {"messages": [{"role": "user", "content": "Hi"}]}, "preferred_output": [{"role": "assistant", '
    '"content": "Hello."}], "non_preferred_output": [{"role": "assistant", "content": "What?"}]}'
)
_CONVERT = "Convert it: maas-client datasets convert FILE OUT.jsonl"
_FIX = "maas-client validate FILE --fix OUT.jsonl"
_SKIPS_ROW = "Azure ML silently skips a row without messages."


_OTHER_HINTS = {
    "dpo": "Convert it: maas-client datasets convert FILE OUT.jsonl keeps the chosen answer, with --to "
    "preference both. To train on preferences, pass the method DPO.",
    "text": "Write chats instead, or train on plain text with another tool: plain text has no question and "
    "no answer. Text with marked turns can be converted: maas-client datasets convert FILE OUT.jsonl",
    "batch": "Use the results that belong to it: a request holds no answer to train on. With them: "
    "maas-client datasets convert FILE OUT.jsonl",
}


def _other_format(row_format: RowFormat) -> Code:
    return Code(
        str(row_format.code),
        ERROR,
        f"the row is in another format ({row_format.title}), not a chat",
        _OTHER_HINTS.get(row_format.name, _CONVERT),
        f"The keys are those of {row_format.title}. Chat completion needs messages with roles. {_SKIPS_ROW}",
        row_format.example,
        _VALID_ROW,
    )


CODES = (
    Code(
        "CHAT_NOT_OBJECT",
        ERROR,
        "the row is not a JSON object",
        f"Write one chat per line: {_VALID_ROW}",
        "The line holds a list, a string or a number instead of an object. validate --fix wraps a list of "
        f"messages. {_SKIPS_ROW}",
        '["user", "Hi"]',
        _VALID_ROW,
    ),
    Code(
        "CHAT_NO_MESSAGES",
        ERROR,
        "the row has no messages",
        f"Put the conversation under the key messages: {_VALID_ROW}",
        f"The object has no key messages. {_SKIPS_ROW}",
        '{"mesages": [...]}',
        _VALID_ROW,
    ),
    Code(
        "CHAT_MESSAGES_TYPE",
        ERROR,
        "messages is not a list",
        f"Make it a list of messages: {_VALID_ROW}",
        "messages is null, a string or a single object. It must be a list, in the order of the conversation. "
        "validate --fix replaces a string that is the JSON text of such a list.",
        '{"messages": {"role": "user", "content": "Hi"}}',
        _VALID_ROW,
    ),
    Code(
        "CHAT_MESSAGES_EMPTY",
        ERROR,
        "messages is empty",
        "Add the messages or remove the row.",
        "A conversation needs at least a user message and an answer. Azure ML silently drops rows with fewer "
        "than two messages.",
        '{"messages": []}',
        _VALID_ROW,
    ),
    Code(
        "CHAT_MESSAGE_TYPE",
        ERROR,
        "a message is not an object",
        'Write it as {"role": "user", "content": "..."}.',
        "Every message is an object with a role and a content.",
        '{"messages": ["Hi", "Hello."]}',
        _VALID_ROW,
    ),
    *map(_other_format, FORMATS),
    Code(
        "CHAT_ROLE_MISSING",
        ERROR,
        "a message has no role",
        "Set its role to system, user, assistant or tool.",
        "Without a role the chat template cannot tell who wrote the message, and nothing in it is trained on.",
        '{"content": "Hi"}',
        '{"role": "user", "content": "Hi"}',
    ),
    Code(
        "CHAT_ROLE_TYPE",
        ERROR,
        "a role is not a string",
        'Write it as "system", "user", "assistant" or "tool".',
        "A role is one of four strings.",
        '{"role": 1, "content": "Hi"}',
        '{"role": "user", "content": "Hi"}',
    ),
    Code(
        "CHAT_ROLE_UNKNOWN",
        ERROR,
        "an unknown role",
        "Use system, user, assistant or tool, in lower case.",
        "Azure ML does not check roles: the chat template drops the message or labels it wrongly, and a "
        "message that was meant as an answer is not trained on.",
        '{"role": "bot", "content": "Hello."}',
        '{"role": "assistant", "content": "Hello."}',
    ),
    Code(
        "CHAT_ROLE_UNSUPPORTED",
        ERROR,
        "the model's chat template does not support this",
        "Remove it, or tune a model whose chat template supports it (Phi-4-mini-instruct for tools).",
        "The model's chat template would silently drop the message or the tools, so the model would be "
        "trained on something other than this row.",
        '{"messages": [..., {"role": "tool", ...}]}  for Phi-3-mini-4k-instruct',
        not_in_schema=True,
    ),
    Code(
        "CHAT_SYSTEM_MERGED",
        WARNING,
        "the model's chat template has no system message",
        "No action is needed: the text is put before the first user message, as the service does.",
        "Early Phi-3-mini and Phi-3-medium drop system messages. The service and the local trainer put "
        "the text before the first user message, followed by a blank line. Do the same in your prompts.",
        '{"messages": [{"role": "system", ...}, {"role": "user", ...}, ...]}  for Phi-3-medium',
        not_in_schema=True,
    ),
    Code(
        "CHAT_NO_USER",
        ERROR,
        "the row has no user message",
        "Add the message that is answered, or remove the row.",
        "At least one message must have the role user. Otherwise the answer has no question.",
        '{"messages": [{"role": "assistant", "content": "Hello."}, ...]}',
        _VALID_ROW,
    ),
    Code(
        "CHAT_NO_ASSISTANT",
        ERROR,
        "the row has no assistant message, so there is nothing to train on",
        "Add an assistant message or remove the row.",
        "Only assistant messages are trained on. Azure ML ends with 'No assistant tokens found after "
        "preprocessing' when no row has one.",
        '{"messages": [{"role": "user", "content": "Hi"}]}',
        _VALID_ROW,
    ),
    Code(
        "CHAT_LAST_ROLE",
        ERROR,
        "the last message is not from the assistant",
        "End the row with the answer to train on; remove what follows it.",
        "Messages after the last answer are never trained on, and usually an answer is missing.",
        '{"messages": [..., {"role": "assistant", ...}, {"role": "user", "content": "Thanks"}]}',
        '{"messages": [..., {"role": "assistant", ...}]}',
        not_in_schema=True,
    ),
    Code(
        "CHAT_SYSTEM_POSITION",
        ERROR,
        "a system message that is not the first message",
        "Move it to the start, and join several system messages into one.",
        "Models expect one system message at the start. Several chat templates drop any other system "
        "message, or put it in an unexpected position.",
        '{"messages": [{"role": "user", ...}, {"role": "system", ...}, ...]}',
        '{"messages": [{"role": "system", ...}, {"role": "user", ...}, ...]}',
    ),
    Code(
        "CHAT_ALTERNATION",
        SeverityByTarget("error", "error", "warning"),
        "two messages in a row have the same role",
        "Join the two messages into one, or add the missing message between them.",
        "After the system message, user and assistant alternate (tool results come between a call and "
        "the next answer). Two messages of one role almost always mean that a message was lost, or that "
        "the text and the calls of one turn were written as two messages, which --fix joins. The local "
        "trainer can train on such a row, so it is a warning there.",
        '[{"role": "user", ...}, {"role": "user", ...}, {"role": "assistant", ...}]',
        '[{"role": "user", ...}, {"role": "assistant", ...}]',
        not_in_schema=True,
    ),
    Code(
        "CHAT_ASSISTANT_FIRST",
        WARNING,
        "the first message is from the assistant",
        "Add the question, unless the message is a greeting.",
        "The first message after the system message is from the assistant. It is trained on as an answer "
        "without a question.",
        '[{"role": "assistant", "content": "Hello!"}, {"role": "user", ...}, ...]',
        not_in_schema=True,
    ),
    Code(
        "CHAT_KEY_UNKNOWN",
        SeverityByTarget("warning", "error", "warning"),
        "a message has an unknown key",
        "Remove it. Known keys are role, content, name, weight, tool_calls and tool_call_id.",
        "Foundry rejects unknown keys in a message. Azure ML and the local trainer ignore them, so "
        "their values are lost. Loss masks of other tools (loss, train, train_on_turn, loss_weight, mask) "
        "are such keys: a message that they mask would be trained on, unless its weight is 0.",
        '{"role": "user", "content": "Hi", "mood": "happy"}',
        '{"role": "user", "content": "Hi"}',
        not_in_schema=True,
    ),
    Code(
        "CHAT_SYSTEM_OUTSIDE",
        WARNING,
        "the system prompt stands beside messages, where no target reads it",
        f"Make it the first message, with the role system; this does it: {_FIX}",
        "Anthropic and Bedrock have the system prompt beside the messages. Here it is a message, and every "
        "other key of the row is ignored, so the row would be trained on without its system prompt.",
        '{"system": "Answer briefly.", "messages": [...]}',
        '{"messages": [{"role": "system", "content": "Answer briefly."}, ...]}',
        not_in_schema=True,
    ),
    Code(
        "CHAT_ROW_KEY",
        WARNING,
        "a key beside messages that is ignored, though it may matter",
        "Write what the model should read into a message, remove rows that must not be learned, then "
        "remove the key.",
        "Only messages, tools and parallel_tool_calls are used. A label, a score or a context beside them has "
        "no effect: an answer with a bad score is trained on like all others.",
        '{"messages": [...], "score": 0.1}',
        not_in_schema=True,
    ),
    Code(
        "CHAT_NAME",
        ERROR,
        "name is not a string",
        "Make it a string or remove it.",
        "A message may have a name: a string that identifies its author.",
        '{"role": "user", "name": 7, "content": "Hi"}',
        '{"role": "user", "name": "ann", "content": "Hi"}',
    ),
    Code(
        "CHAT_WEIGHT",
        ERROR,
        "weight is neither 0 nor 1",
        "Write 0 (not trained on) or 1 (trained on), as a number.",
        "The weight of a message says whether it is trained on. The services document 0 and 1 and nothing "
        "between.",
        '{"role": "assistant", "content": "Hello.", "weight": 2}',
        '{"role": "assistant", "content": "Hello.", "weight": 1}',
    ),
    Code(
        "CHAT_WEIGHT_ROLE",
        WARNING,
        "a weight on a message that is never trained on",
        "Remove it: only assistant messages have a weight.",
        "Only assistant messages are trained on, whether or not other messages have a weight.",
        '{"role": "user", "content": "Hi", "weight": 1}',
        '{"role": "user", "content": "Hi"}',
        not_in_schema=True,
    ),
    Code(
        "CHAT_NOTHING_LEARNED",
        ERROR,
        "every answer has weight 0",
        "Set the weight of an assistant message to 1, or remove the row.",
        "The row is billed, and the model learns nothing from it.",
        '[{"role": "user", ...}, {"role": "assistant", "content": "Hello.", "weight": 0}]',
        '[{"role": "user", ...}, {"role": "assistant", "content": "Hello.", "weight": 1}]',
    ),
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
        "CHAT_PREFERENCE_MISSING",
        ERROR,
        "the preference has a part missing",
        "Write input, preferred_output and non_preferred_output. A chat with one answer is trained on with "
        "another method than DPO.",
        "DPO learns the difference between a better and a worse answer to the same question, so a row needs "
        "all three.",
        '{"input": {"messages": [...]}, "preferred_output": [...]}',
        _PREFERENCE,
        not_in_schema=True,
    ),
    Code(
        "CHAT_PREFERENCE_TYPE",
        ERROR,
        "a part of the preference has the wrong type",
        "Write input as an object with messages, and both outputs as lists of messages.",
        "An answer is a list, because it can consist of several messages, for example with tool calls.",
        '{"input": {"messages": [...]}, "preferred_output": "Hello.", "non_preferred_output": "What?"}',
        _PREFERENCE,
        not_in_schema=True,
    ),
    Code(
        "CHAT_PREFERENCE_EMPTY",
        ERROR,
        "an answer of the preference has no message",
        "Add the answer or remove the row.",
        "Without a losing answer there is nothing to compare the preferred one with, and the other way round.",
        '{"input": {"messages": [...]}, "preferred_output": [...], "non_preferred_output": []}',
        _PREFERENCE,
        not_in_schema=True,
    ),
    Code(
        "CHAT_PREFERENCE_ROLE",
        ERROR,
        "a message of an answer has another role than assistant or tool",
        "Move the question into input; an answer begins with a message of the assistant.",
        "The outputs hold only what follows the last message of the input.",
        '"preferred_output": [{"role": "user", "content": "Hi"}]',
        '"preferred_output": [{"role": "assistant", "content": "Hello."}]',
        not_in_schema=True,
    ),
    Code(
        "CHAT_PREFERENCE_INPUT_END",
        ERROR,
        "the input of the preference ends with an answer",
        "Remove the last message of input, or move it into an output.",
        "The input is the question that both answers reply to.",
        '{"input": {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": '
        '"Hello."}]}, "preferred_output": [...], "non_preferred_output": [...]}',
        _PREFERENCE,
        not_in_schema=True,
    ),
    Code(
        "CHAT_PREFERENCE_SAME",
        ERROR,
        "both answers are equal",
        "Remove the row or replace one of the answers.",
        "The difference between equal answers is zero, so the row teaches nothing.",
        '"preferred_output": [{"role": "assistant", "content": "Hello."}], "non_preferred_output": [{"role": '
        '"assistant", "content": "Hello."}]',
        '"preferred_output": [{"role": "assistant", "content": "Hello."}], "non_preferred_output": [{"role": '
        '"assistant", "content": "What?"}]',
        not_in_schema=True,
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
