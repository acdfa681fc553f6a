"""A row that is not a conversation: its shape, its roles and their order."""

from maas_client.dataset.codes._code import ERROR, WARNING, Code, SeverityByTarget

_GOOD = (
    '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]}'
)
_CONVERT = "Convert it: maas-client datasets convert FILE OUT.jsonl"
_KEYLESS = "Azure ML skips a row without messages in silence."


def _other_task(name: str, keys: str, example: str, hint: str = _CONVERT) -> Code:
    return Code(
        f"CHAT_SHAPE_{name}",
        ERROR,
        f"this is a row for another task ({keys}), not a chat",
        hint,
        f"The keys are those of {keys}. Chat completion wants messages with roles. {_KEYLESS}",
        example,
        _GOOD,
    )


CODES = (
    Code(
        "CHAT_NOT_OBJECT",
        ERROR,
        "the row is not a JSON object",
        f"Write one chat per line: {_GOOD}",
        f"A list, a text or a number stands where an object should. {_KEYLESS}",
        '["user", "Hi"]',
        _GOOD,
    ),
    Code(
        "CHAT_NO_MESSAGES",
        ERROR,
        "the row has no messages",
        f"Put the conversation under the key messages: {_GOOD}",
        f"There is no key messages in the object. {_KEYLESS}",
        '{"mesages": [...]}',
        _GOOD,
    ),
    Code(
        "CHAT_MESSAGES_TYPE",
        ERROR,
        "messages is not a list",
        f"Make it a list of messages: {_GOOD}",
        "messages holds null, a text or one object; it has to be a list, in the order of the talk.",
        '{"messages": {"role": "user", "content": "Hi"}}',
        _GOOD,
    ),
    Code(
        "CHAT_MESSAGES_EMPTY",
        ERROR,
        "messages is empty",
        "Take the row out, or fill it.",
        "A conversation has at least a user's message and an answer. Azure ML drops rows with fewer "
        "than two messages in silence.",
        '{"messages": []}',
        _GOOD,
    ),
    Code(
        "CHAT_MESSAGE_TYPE",
        ERROR,
        "a message is not an object",
        'Write it as {"role": "user", "content": "..."}.',
        "Every message is an object with a role and a content.",
        '{"messages": ["Hi", "Hello."]}',
        _GOOD,
    ),
    _other_task(
        "PROMPT_COMPLETION",
        "prompt and completion",
        '{"prompt": "Hi", "completion": "Hello."}',
    ),
    _other_task(
        "TEXT_GROUND_TRUTH",
        "text and ground truth",
        '{"text": "Summarise ...", "ground_truth": "..."}',
    ),
    _other_task(
        "ALPACA",
        "Alpaca: instruction, input and output",
        '{"instruction": "Translate", "input": "Hallo", "output": "Hello"}',
    ),
    _other_task(
        "SHAREGPT",
        "ShareGPT: conversations with from and value",
        '{"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello."}]}',
    ),
    _other_task(
        "DPO",
        "preferences: a chosen and a rejected answer",
        '{"input": {"messages": [...]}, "preferred_output": [...], "non_preferred_output": [...]}',
    ),
    _other_task(
        "QUESTION_ANSWER",
        "questions and answers",
        '{"question": "What is LoRA?", "answer": "..."}',
    ),
    _other_task(
        "CLASSIFICATION",
        "classification: a text and a label",
        '{"text": "Great product", "label": "positive"}',
    ),
    _other_task(
        "TEXT",
        "plain text",
        '{"text": "Once upon a time ..."}',
        "Plain text has no question and no answer: write chats, or train it as text elsewhere.",
    ),
    _other_task(
        "BATCH",
        "a batch or fine-tuning request",
        '{"custom_id": "1", "method": "POST", "url": "/chat/completions", "body": {...}}',
        "A request holds no answer to learn from: take the results that belong to it.",
    ),
    Code(
        "CHAT_ROLE_MISSING",
        ERROR,
        "a message has no role",
        "Give it one of system, user, assistant, tool.",
        "Without a role the template cannot say who speaks, and nothing of the message may be learned.",
        '{"content": "Hi"}',
        '{"role": "user", "content": "Hi"}',
    ),
    Code(
        "CHAT_ROLE_TYPE",
        ERROR,
        "a role is not a text",
        'Write it as "system", "user", "assistant" or "tool".',
        "A role is one of four words.",
        '{"role": 1, "content": "Hi"}',
        '{"role": "user", "content": "Hi"}',
    ),
    Code(
        "CHAT_ROLE_UNKNOWN",
        ERROR,
        "an unknown role",
        "Roles are system, user, assistant and tool, in lower case.",
        "Azure ML does not check roles: the template drops the message or marks it wrongly, and what "
        "was meant as an answer is not learned.",
        '{"role": "bot", "content": "Hello."}',
        '{"role": "assistant", "content": "Hello."}',
    ),
    Code(
        "CHAT_ROLE_UNSUPPORTED",
        ERROR,
        "the model's template has no place for this",
        "Take it out, or tune a model whose template has a place for it (Phi-4-mini-instruct for tools).",
        "The model's chat template would drop the message or the tools without a word, so the model "
        "would learn from something else than this row says.",
        '{"messages": [..., {"role": "tool", ...}]}  for Phi-3-mini-4k-instruct',
        not_in_schema=True,
    ),
    Code(
        "CHAT_SYSTEM_MERGED",
        WARNING,
        "the model's template has no system message",
        "Nothing to do: it is put in front of the first user message, as the service does.",
        "Early Phi-3-mini and Phi-3-medium drop system messages. The service and the local trainer put "
        "the text in front of the first user message, with a blank line; do the same when you ask.",
        '{"messages": [{"role": "system", ...}, {"role": "user", ...}, ...]}  for Phi-3-medium',
        not_in_schema=True,
    ),
    Code(
        "CHAT_NO_USER",
        ERROR,
        "no user speaks",
        "Add the message that is answered, or take the row out.",
        "At least one message has the role user: without it there is nothing that the answer answers.",
        '{"messages": [{"role": "assistant", "content": "Hello."}, ...]}',
        _GOOD,
    ),
    Code(
        "CHAT_NO_ASSISTANT",
        ERROR,
        "no assistant speaks",
        "Add the answer that is to be learned, or take the row out.",
        "Only the assistant's messages are learned; this row teaches nothing. Azure ML ends with 'No "
        "assistant tokens found after preprocessing' when every row is like this.",
        '{"messages": [{"role": "user", "content": "Hi"}]}',
        _GOOD,
    ),
    Code(
        "CHAT_LAST_ROLE",
        ERROR,
        "the last message is not the assistant's",
        "End with the answer that is to be learned; take out what follows it.",
        "What stands behind the last answer is never learned, and most often an answer is missing.",
        '{"messages": [..., {"role": "assistant", ...}, {"role": "user", "content": "Thanks"}]}',
        '{"messages": [..., {"role": "assistant", ...}]}',
        not_in_schema=True,
    ),
    Code(
        "CHAT_SYSTEM_POSITION",
        ERROR,
        "a system message that is not the first message",
        "Put it first, and join several into one.",
        "Models are made for one system message in front. Several templates drop any other, or put it "
        "where no one expects it.",
        '{"messages": [{"role": "user", ...}, {"role": "system", ...}, ...]}',
        '{"messages": [{"role": "system", ...}, {"role": "user", ...}, ...]}',
    ),
    Code(
        "CHAT_ALTERNATION",
        SeverityByTarget("error", "error", "warning"),
        "the same role speaks twice in a row",
        "Join the two messages into one, or add what was said between them.",
        "After the system message user and assistant take turns (tool results come between a call and "
        "the next answer). Two in a row nearly always mean a message that was lost. The local trainer "
        "can train on such a row, so there it is a warning.",
        '[{"role": "user", ...}, {"role": "user", ...}, {"role": "assistant", ...}]',
        '[{"role": "user", ...}, {"role": "assistant", ...}]',
        not_in_schema=True,
    ),
    Code(
        "CHAT_ASSISTANT_FIRST",
        WARNING,
        "the assistant speaks first",
        "Fine if the assistant greets; otherwise add the question.",
        "The first message after the system message is the assistant's. It is learned as an answer to "
        "nothing.",
        '[{"role": "assistant", "content": "Hello!"}, {"role": "user", ...}, ...]',
        not_in_schema=True,
    ),
    Code(
        "CHAT_KEY_UNKNOWN",
        SeverityByTarget("warning", "error", "warning"),
        "a message has a key that chat messages do not have",
        "Take it out. Known are role, content, name, weight, tool_calls and tool_call_id.",
        "Foundry refuses unknown keys inside a message; Azure ML and the local trainer ignore them, so "
        "what they say is lost.",
        '{"role": "user", "content": "Hi", "mood": "happy"}',
        '{"role": "user", "content": "Hi"}',
        not_in_schema=True,
    ),
    Code(
        "CHAT_NAME",
        ERROR,
        "name is not a text",
        "Make it a text, or take it out.",
        "A message may carry the speaker's name, as a text.",
        '{"role": "user", "name": 7, "content": "Hi"}',
        '{"role": "user", "name": "ann", "content": "Hi"}',
    ),
    Code(
        "CHAT_WEIGHT",
        ERROR,
        "weight is neither 0 nor 1",
        "Write 0 (not learned) or 1 (learned), as a number.",
        "A message's weight says whether it is learned: 0 or 1 and nothing between, as the services "
        "document it.",
        '{"role": "assistant", "content": "Hello.", "weight": 2}',
        '{"role": "assistant", "content": "Hello.", "weight": 1}',
    ),
    Code(
        "CHAT_WEIGHT_ROLE",
        WARNING,
        "a weight on a message that is never learned",
        "Take it out; weight belongs to the assistant's messages.",
        "Only the assistant's messages are learned, with or without a weight on the others.",
        '{"role": "user", "content": "Hi", "weight": 1}',
        '{"role": "user", "content": "Hi"}',
        not_in_schema=True,
    ),
    Code(
        "CHAT_NOTHING_LEARNED",
        ERROR,
        "every answer has weight 0",
        "Give one of the assistant's messages weight 1, or take the row out.",
        "The row costs its tokens and teaches nothing.",
        '[{"role": "user", ...}, {"role": "assistant", "content": "Hello.", "weight": 0}]',
        '[{"role": "user", ...}, {"role": "assistant", "content": "Hello.", "weight": 1}]',
    ),
)
