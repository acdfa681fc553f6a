"""A template in the language that transformers, vLLM, TRL and others read."""

from __future__ import annotations

from maas_client.chat.templates import ChatTemplate, TurnFormat


def to_jinja(template: ChatTemplate, *, generation_tags: bool = False) -> str:
    """Return a template in Jinja, for messages of text (no tools).

    ``marked`` puts what the assistant says, its end token included, between ``{% generation %}`` and
    ``{% endgeneration %}``, from which transformers makes the mask of what is learned.
    """
    first = "messages[0]['role'] == 'system'"
    lines = [f"{{{{ {_quoted(template.bos)} }}}}{{% set merged = namespace(text='') %}}"]
    if template.default_system_message is not None:
        turn = template.turns["system"]
        text = turn.before + template.default_system_message + turn.after
        lines.append(f"{{% if not ({first}) %}}{{{{ {_quoted(text)} }}}}{{% endif %}}")
    lines.append("{% for message in messages %}")
    word = "if"
    for role, turn in template.turns.items():
        body = _turn(template, role, turn, marked=generation_tags)
        lines.append(f"{{% {word} message['role'] == '{role}' %}}{body}")
        word = "elif"
    if template.system_handling == "merged":
        lines.append("{% elif message['role'] == 'system' and message['content'] %}")
        lines.append("{% set merged.text = message['content'] + '\\n\\n' %}")
    lines.append("{% endif %}{% endfor %}")
    tail = f"{{{{ {_quoted(template.generation_prompt)} }}}}"
    rest = f"{{{{ {_quoted(template.eos)} }}}}"
    lines.append(f"{{% if add_generation_prompt %}}{tail}{{% else %}}{rest}{{% endif %}}")
    return "".join(lines)


def _turn(template: ChatTemplate, role: str, turn: TurnFormat, *, marked: bool) -> str:
    content = "message['content']"
    if role == "user" and template.system_handling == "merged":
        content = "merged.text + message['content']"
    end = len(template.end_of_turn) if marked and role == "assistant" else 0
    if end:
        said = f"{{{{ {content} + {_quoted(turn.after[:end])} }}}}"
        said = f"{{% generation %}}{said}{{% endgeneration %}}"
        body = f"{{{{ {_quoted(turn.before)} }}}}{said}{{{{ {_quoted(turn.after[end:])} }}}}"
    else:
        body = f"{{{{ {_quoted(turn.before)} + {content} + {_quoted(turn.after)} }}}}"
    if role == "user" and template.system_handling == "merged":
        body += "{% set merged.text = '' %}"
    if role == "system" and template.system_handling == "kept unless empty":
        body = f"{{% if message['content'] %}}{body}{{% endif %}}"
    return body


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"
