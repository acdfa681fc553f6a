"""Write a chat template in Jinja, which transformers, vLLM, TRL and others read."""

from __future__ import annotations

from maas_client.chat.templates import ChatTemplate, TurnFormat


def to_jinja(template: ChatTemplate, *, generation_tags: bool = False) -> str:
    """Return a chat template in Jinja, for messages of text (no tools).

    Args:
        template: The template.
        generation_tags: Put the assistant's text, with its end token, between ``{% generation %}`` and
            ``{% endgeneration %}``, from which transformers builds the assistant mask.
    """
    has_system = "messages[0]['role'] == 'system'"
    lines = [f"{{{{ {_quote(template.bos)} }}}}{{% set merged = namespace(text='') %}}"]
    if template.default_system_message is not None:
        turn = template.turns["system"]
        text = turn.before + template.default_system_message + turn.after
        lines.append(f"{{% if not ({has_system}) %}}{{{{ {_quote(text)} }}}}{{% endif %}}")
    lines.append("{% for message in messages %}")
    keyword = "if"
    for role, turn in template.turns.items():
        body = _turn(template, role, turn, generation_tags=generation_tags)
        lines.append(f"{{% {keyword} message['role'] == '{role}' %}}{body}")
        keyword = "elif"
    if template.system_handling == "merged":
        lines.append("{% elif message['role'] == 'system' and message['content'] %}")
        lines.append("{% set merged.text = message['content'] + '\\n\\n' %}")
    lines.append("{% endif %}{% endfor %}")
    prompt_end = f"{{{{ {_quote(template.generation_prompt)} }}}}"
    eos = f"{{{{ {_quote(template.eos)} }}}}"
    lines.append(f"{{% if add_generation_prompt %}}{prompt_end}{{% else %}}{eos}{{% endif %}}")
    return "".join(lines)


def _turn(template: ChatTemplate, role: str, turn: TurnFormat, *, generation_tags: bool) -> str:
    content = "message['content']"
    if role == "user" and template.system_handling == "merged":
        content = "merged.text + message['content']"
    end = len(template.end_of_turn) if generation_tags and role == "assistant" else 0
    if end:
        answer = f"{{{{ {content} + {_quote(turn.after[:end])} }}}}"
        answer = f"{{% generation %}}{answer}{{% endgeneration %}}"
        body = f"{{{{ {_quote(turn.before)} }}}}{answer}{{{{ {_quote(turn.after[end:])} }}}}"
    else:
        body = f"{{{{ {_quote(turn.before)} + {content} + {_quote(turn.after)} }}}}"
    if role == "user" and template.system_handling == "merged":
        body += "{% set merged.text = '' %}"
    if role == "system" and template.system_handling == "kept unless empty":
        body = f"{{% if message['content'] %}}{body}{{% endif %}}"
    return body


def _quote(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"
