"""What is asked of an LLM: prompt files with messages and placeholders, checked when they are read."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recbole_cdsr.errors import FeatureError
from recbole_cdsr.llm.prompts import prompt_version, read_prompt_file

LANGUAGES = ("en", "zh")
ORDERS = ("oldest_first", "newest_first")
_MESSAGE_ROLES = ("system", "user", "assistant")
_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")


@dataclass(frozen=True)
class _Task:
    """What the prompt of a task is filled with.

    `needed` and `allowed` placeholders of the messages; those of an `entry` (a line of the list) and of an
    `example`, empty where the task has none; the key of the limit that the wording may name.
    """

    file: str
    needed: frozenset[str]
    allowed: frozenset[str] = frozenset()
    entry: frozenset[str] = frozenset()
    example: frozenset[str] = frozenset()
    limit: str | None = None


_ITEM = frozenset({"number", "title", "category", "domain"})
TASKS: dict[str, _Task] = {
    "analyser": _Task("llm4cdsr_analyser", frozenset({"titles"}), entry=_ITEM, limit="max_words"),
    "summariser": _Task(
        "llm4cdsr_summariser", frozenset({"interests"}), entry=frozenset({"number", "interest"}), limit="max_words"
    ),
    "profile": _Task("lecdsr_profile", frozenset({"history"}), frozenset({"domains"}), _ITEM, limit="max_words"),
    "generate": _Task(
        "llmcdsr_generate",
        frozenset({"examples", "history", "other_domain"}),
        frozenset({"own_domain"}),
        _ITEM,
        frozenset({"number", "own_domain", "other_domain", "own_titles", "other_titles"}),
        limit="max_items",
    ),
    "extract": _Task("llmcdsr_extract", frozenset({"answer"}), frozenset({"other_domain", "own_domain"})),
}


@dataclass(frozen=True)
class ChatPrompt:
    """The wording of one task.

    Attributes
    ----------
    task : str
        Key of `TASKS`.
    version : str
        `prompt_version` of the prompt file.
    language : str
        Of the wording, e.g. `en`.
    messages : tuple of (role, content)
        With placeholders.
    entry, entry_without_category, entry_separator : str
        How one entry of the list is worded, one whose item has no category, and what stands between them.
    newest_first : bool
        Order of the entries.
    example, example_separator : str
        How one in-context example is worded; "" where the task has none.
    limit : int or None
        Words or items that the wording allows.
    """

    task: str
    version: str
    language: str
    messages: tuple[tuple[str, str], ...]
    entry: str
    entry_without_category: str
    entry_separator: str
    newest_first: bool
    example: str
    example_separator: str
    limit: int | None

    def chat(self, values: Mapping[str, str]) -> list[dict[str, str]]:
        """The messages with their placeholders filled; what is filled in is not looked at again."""
        if self.limit is not None:
            values = {**values, TASKS[self.task].limit: str(self.limit)}
        return [{"role": role, "content": fill(content, values)} for role, content in self.messages]

    def entries(self, items: Sequence[Mapping[str, str]]) -> str:
        """The list for a placeholder, numbered from 1, from items in the order of the prompt."""
        return self.entry_separator.join(
            fill(
                self.entry if item.get("category", "") else self.entry_without_category,
                {**item, "number": str(number)},
            )
            for number, item in enumerate(items, start=1)
        )

    def shows(self, placeholder: str) -> bool:
        """Whether what stands for `{placeholder}` can change what is asked."""
        entries = (self.entry, self.entry_without_category)
        texts = (*entries, self.example, *(content for _, content in self.messages))
        if any(f"{{{placeholder}}}" in text for text in texts):
            return True
        # Which of the two wordings an entry has is the category's to say.
        return placeholder == "category" and entries[0] != entries[1]

    def examples(self, values: Sequence[Mapping[str, str]]) -> str:
        """The in-context examples, numbered from 1."""
        return self.example_separator.join(
            fill(self.example, {**value, "number": str(number)}) for number, value in enumerate(values, start=1)
        )


def fill(text: str, values: Mapping[str, str]) -> str:
    """Put values into `{placeholders}`, all in one go, so that braces within a value stay as they are."""
    return _PLACEHOLDER.sub(lambda match: values.get(match[1], match[0]), text)


def load_chat_prompt(task: str, language: str = "en", file: str | None = None) -> ChatPrompt:
    """The prompt of a task: the package's in a language, or a file of the user's.

    Parameters
    ----------
    task : str
        Key of `TASKS`.
    language : {"en", "zh"}
        Which of the package's; not looked at when `file` is given.
    file : str, optional
        Path of a YAML file, or name of one of the package's.

    Raises
    ------
    FeatureError
        When the file is missing, lacks a key, role or placeholder, or has one that nothing is filled in for.
    """
    name = file or f"{TASKS[task].file}_{language}"
    content = read_prompt_file(name)
    return _checked(task, name, prompt_version(name, content), content)


def _checked(task: str, name: str, version: str, content: Mapping[str, Any]) -> ChatPrompt:
    spec = TASKS[task]

    def wrong(what: str) -> FeatureError:
        return FeatureError(f"The prompt file {name} cannot be used for the task '{task}': {what}.")

    known = {"name", "version", "language", "messages"}
    known |= {"entry", "entry_without_category", "entry_separator", "order"} if spec.entry else set()
    known |= {"example", "example_separator"} if spec.example else set()
    known |= {spec.limit} if spec.limit else set()
    unknown = sorted(set(content) - known)
    if unknown:
        raise wrong(f"the key {unknown[0]} means nothing there; there are {', '.join(sorted(known))}")
    messages = content.get("messages")
    if not isinstance(messages, list) or not messages:
        raise wrong("it needs `messages`, a list of entries with `role` and `content`")
    for number, message in enumerate(messages, start=1):
        if not isinstance(message, Mapping) or set(message) != {"role", "content"}:
            raise wrong(f"message {number} must have exactly `role` and `content`")
        if message["role"] not in _MESSAGE_ROLES:
            raise wrong(f"message {number} has the role {message['role']!r}; roles are {', '.join(_MESSAGE_ROLES)}")
        if not isinstance(message["content"], str) or not message["content"].strip():
            raise wrong(f"message {number} has no content")
    if messages[-1]["role"] != "user":
        raise wrong("its last message must have the role user, for that is what the model answers")
    limit = content.get(spec.limit) if spec.limit else None
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
        raise wrong(f"{spec.limit} is {limit!r}; it must be a whole number, 1 or more")
    texts = {key: content.get(key, default) for key, default in _TEXT_DEFAULTS.items()}
    for key, text in texts.items():
        if not isinstance(text, str):
            raise wrong(f"{key} must be a text")
    texts["entry_without_category"] = texts["entry_without_category"] or texts["entry"].replace("{category}", "")
    used = set().union(*(_PLACEHOLDER.findall(message["content"]) for message in messages))
    allowed = spec.needed | spec.allowed | ({spec.limit} if limit is not None else set())
    _check_placeholders(wrong, "its messages", used, spec.needed, allowed)
    if spec.entry:
        needed = frozenset({"interest" if "interest" in spec.entry else "title"})
        for key in ("entry", "entry_without_category"):
            _check_placeholders(wrong, f"`{key}`", set(_PLACEHOLDER.findall(texts[key])), needed, spec.entry)
    if spec.example:
        placeholders = set(_PLACEHOLDER.findall(texts["example"]))
        _check_placeholders(wrong, "`example`", placeholders, frozenset({"own_titles", "other_titles"}), spec.example)
    order = content.get("order", ORDERS[0])
    if order not in ORDERS:
        raise wrong(f"order is {order!r}; it must be one of {', '.join(ORDERS)}")
    return ChatPrompt(
        task=task,
        version=version,
        language=str(content.get("language", "")),
        messages=tuple((message["role"], message["content"]) for message in messages),
        newest_first=order == "newest_first",
        limit=limit,
        **texts,
    )


_TEXT_DEFAULTS = {
    "entry": "",
    "entry_without_category": "",
    "entry_separator": "\n",
    "example": "",
    "example_separator": "\n\n",
}


def _check_placeholders(
    wrong: Callable[[str], FeatureError], where: str, used: set[str], needed: frozenset[str], allowed: frozenset[str]
) -> None:
    unknown = sorted(used - allowed)
    if unknown:
        known = ", ".join(f"{{{name}}}" for name in sorted(allowed))
        raise wrong(f"{where} hold {{{unknown[0]}}}, which nothing is filled in for; there are {known}")
    missing = sorted(needed - used)
    if missing:
        raise wrong(f"{where} must hold {{{missing[0]}}}")
