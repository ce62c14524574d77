"""Prompt files: what comes with the package, what a user's may look like, and what is said of broken ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from recbole_cdsr.errors import ConfigError, FeatureError
from recbole_cdsr.llm.chat_prompts import LANGUAGES, TASKS, fill, load_chat_prompt
from recbole_cdsr.llm.prompts import load_item_prompt, packaged_prompts
from recbole_cdsr.llm.settings import FeatureSettings


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_a_wording_in_every_language(task, language):
    prompt = load_chat_prompt(task, language)
    assert prompt.version == f"{TASKS[task].file}_{language}-1"
    assert prompt.language == language
    values = {name: f"<{name}>" for name in TASKS[task].needed | TASKS[task].allowed}
    text = "\n".join(message["content"] for message in prompt.chat(values))
    assert not re.search(r"[{}]", text)
    for name in TASKS[task].needed:
        assert f"<{name}>" in text
    assert bool(re.search("[\u4e00-\u9fff]", text)) == (language == "zh")


def test_the_limits_are_those_of_the_papers():
    assert (load_chat_prompt("analyser").limit, load_chat_prompt("summariser").limit) == (50, 100)
    assert "at most 50 words" in load_chat_prompt("analyser").chat({"titles": ""})[-1]["content"]
    assert load_chat_prompt("profile").newest_first is False


@pytest.mark.parametrize("name", [name for name in packaged_prompts() if name.startswith("item_")])
def test_item_prompts_are_read(name):
    prompt = load_item_prompt(name)
    assert prompt.version == f"{name}-1"
    assert prompt.fields[0].columns[0] == "title"


def test_what_is_filled_in_is_not_looked_at_again():
    prompt = load_chat_prompt("profile")
    entries = prompt.entries([{"title": "A {history} of {title}", "category": "{x}", "domain": ""}])
    assert entries == "1. A {history} of {title} (category: {x})"
    assert "1. A {history} of {title}" in prompt.chat({"history": entries, "domains": "d"})[-1]["content"]
    assert fill("{a}{b}", {"a": "{b}", "b": "{a}"}) == "{b}{a}"


OWN = {
    "name": "own",
    "version": 2,
    "entry": "* {title}",
    "order": "newest_first",
    "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "About {history}?"}],
}


def own(tmp_path: Path, **changes: object) -> str:
    content = {key: value for key, value in (OWN | changes).items() if value is not None}
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    return str(path)


def test_a_file_of_ones_own(tmp_path):
    prompt = load_chat_prompt("profile", file=own(tmp_path))
    assert prompt.newest_first
    assert prompt.entries([{"title": "A"}, {"title": "B", "category": "c"}]) == "* A\n* B"
    assert prompt.chat({"history": "x"})[0] == {"role": "system", "content": "Be brief."}
    assert re.fullmatch(r"own-2-[0-9a-f]{8}", prompt.version)
    # Another wording is another version even if nobody raised the number.
    assert load_chat_prompt("profile", file=own(tmp_path, entry="- {title}")).version != prompt.version


@pytest.mark.parametrize(
    ("changes", "answer"),
    [
        ({"messages": None}, "it needs `messages`"),
        ({"messages": []}, "it needs `messages`"),
        ({"messages": "About {history}?"}, "it needs `messages`"),
        ({"messages": [{"role": "user"}]}, "message 1 must have exactly `role` and `content`"),
        (
            {"messages": [{"role": "bot", "content": "{history}"}]},
            "message 1 has the role 'bot'; roles are system, user",
        ),
        ({"messages": [{"role": "user", "content": " "}]}, "message 1 has no content"),
        ({"messages": [{"role": "system", "content": "{history}"}]}, "its last message must have the role user"),
        ({"messages": [{"role": "user", "content": "Hello"}]}, r"its messages must hold \{history\}"),
        (
            {"messages": [{"role": "user", "content": "{history} {hystory}"}]},
            r"hold \{hystory\}, which nothing is filled in for; there are \{domains\}, \{history\}",
        ),
        ({"entry": "{name}"}, r"`entry` hold \{name\}, which nothing is filled in for"),
        ({"entry": "{number}."}, r"`entry` must hold \{title\}"),
        ({"entry": 3}, "entry must be a text"),
        ({"order": "random"}, "order is 'random'; it must be one of oldest_first, newest_first"),
        ({"max_words": 0}, "max_words is 0; it must be a whole number, 1 or more"),
        ({"example": "x"}, "the key example means nothing there"),
        ({"version": None}, "must be a mapping with the keys `name` and `version`"),
    ],
)
def test_a_broken_file_is_refused_in_one_line(tmp_path, changes, answer):
    file = own(tmp_path, **changes)
    with pytest.raises(FeatureError, match=answer) as error:
        load_chat_prompt("profile", file=file)
    assert file in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_and_a_wrong_task_are_named(tmp_path):
    with pytest.raises(FeatureError, match=r"There is no prompt file 'nowhere\.yaml': .*lecdsr_profile_en"):
        load_chat_prompt("profile", file="nowhere.yaml")
    with pytest.raises(FeatureError, match=r"cannot be used for the task 'profile'"):
        load_chat_prompt("profile", file="llm4cdsr_analyser_en")
    with pytest.raises(ConfigError, match=r"names the task 'analyzer'; tasks are item, analyser, summariser"):
        FeatureSettings({"prompt_files": {"analyzer": "x.yaml"}}, "toy")
    with pytest.raises(ConfigError, match=r"prompt_files is .*a mapping of tasks to files"):
        FeatureSettings({"prompt_files": ["x.yaml"]}, "toy")
