"""From a chat to the prompt that a local model reads: by its tokenizer's template, or plainly without one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recbole_cdsr.llm.generator import Chat

PLAIN = "plain text (the tokenizer has no chat template)"
_ROLES = {"system": "Instructions", "user": "User", "assistant": "Assistant"}


def prompt_of(tokenizer: Any, chat: Chat, template_arguments: Mapping[str, Any] | None = None) -> str:
    """The text a model continues with its answer; special tokens are in it.

    Parameters
    ----------
    tokenizer
        Of `transformers`.
    chat
        Ends with a message of the user.
    template_arguments
        What the template takes besides, such as `{"enable_thinking": False}`.
    """
    messages = [{"role": str(message["role"]), "content": str(message["content"])} for message in chat]
    if not getattr(tokenizer, "chat_template", None):
        return plain_prompt(tokenizer, messages)
    from jinja2.exceptions import TemplateError

    arguments = {"tokenize": False, "add_generation_prompt": True, **(template_arguments or {})}
    try:
        return tokenizer.apply_chat_template(messages, **arguments)
    except TemplateError:
        if messages[0]["role"] != "system" or len(messages) < 2:
            raise
        # Some templates know no system role.
        first = {"role": messages[1]["role"], "content": f"{messages[0]['content']}\n\n{messages[1]['content']}"}
        return tokenizer.apply_chat_template([first, *messages[2:]], **arguments)


def plain_prompt(tokenizer: Any, chat: Chat) -> str:
    """A prompt for a model without a template: who speaks, and what is said."""
    begin = getattr(tokenizer, "bos_token", None) or ""
    lines = [f"{_ROLES.get(message['role'], message['role'])}: {message['content']}" for message in chat]
    return begin + "\n\n".join([*lines, f"{_ROLES['assistant']}:"])
