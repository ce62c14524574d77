"""How many tokens a chat has: counted where the model's tokenizer is at hand, estimated where it is not."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from recbole_cdsr.errors import FeatureError
from recbole_cdsr.llm.generator import Chat

# What a chat template puts around a message, in tokens: start, role, end.
MESSAGE_OVERHEAD = 4
_LATIN = re.compile(r"[\x00-\u024f]")


def estimated_tokens(text: str) -> int:
    """A rough count without a tokenizer: four Latin characters, or one of any other script, make a token."""
    latin = len(_LATIN.findall(text))
    return -(-latin // 4) + len(text) - latin


def longest_answer(parameters: Mapping[str, Any]) -> int | None:
    """The most tokens that a request with these parameters can be answered with; None where they name no bound."""
    bounds = [parameters.get(name) for name in ("max_tokens", "max_completion_tokens", "max_new_tokens")]
    whole = [bound for bound in bounds if isinstance(bound, int)]
    answers = parameters.get("n")  # so many are written, of which the first is read
    return max(whole) * (answers if isinstance(answers, int) and answers > 1 else 1) if whole else None


class TokenCounter:
    """Counts prompts with a model's tokenizer, or estimates.

    Parameters
    ----------
    count_with_model
        `TextGenerator.count_tokens`, or None for estimates.

    Attributes
    ----------
    estimates : bool
        Whether any count so far was an estimate.
    """

    def __init__(self, count_with_model: Callable[[Chat], int | None] | None = None) -> None:
        self._count = count_with_model
        self.estimates = False

    def count(self, content: Sequence[Mapping[str, Any]] | str) -> int:
        """Tokens of a chat, or of one text."""
        if isinstance(content, str):
            self.estimates = True
            return estimated_tokens(content)
        counted = None if self._count is None else self._count(content)
        if counted is not None:
            return counted
        self.estimates = True
        return sum(MESSAGE_OVERHEAD + estimated_tokens(str(message["content"])) for message in content)


class ModelTokenizer:
    """The tokenizer of a service's model, loaded when first asked.

    Parameters
    ----------
    name_or_path : str, optional
        As the user named it (`llm_tokenizer`); must be found.
    model : str
        The model's name, tried in the Hugging Face cache when the user named no tokenizer.
    """

    def __init__(self, name_or_path: str | None, model: str) -> None:
        self._named, self._model = name_or_path, model
        self._lock = threading.Lock()  # a tokenizer is for one thread at a time
        self._looked = False
        self._tokenizer: Any = None

    def count(self, chat: Chat) -> int | None:
        """Tokens of the prompt that a chat becomes; None without a tokenizer.

        Raises
        ------
        FeatureError
            The tokenizer that the user named cannot be loaded.
        """
        with self._lock:
            if not self._looked:
                self._tokenizer = self._load()
                self._looked = True
            if self._tokenizer is None:
                return None
            from recbole_cdsr.llm.chat_templates import prompt_of

            return len(self._tokenizer(prompt_of(self._tokenizer, chat), add_special_tokens=False)["input_ids"])

    def _load(self) -> Any:
        from transformers import AutoTokenizer

        try:
            return AutoTokenizer.from_pretrained(
                self._named or self._model, local_files_only=self._named is None, trust_remote_code=False
            )
        except Exception as error:  # whatever a missing or broken folder makes three libraries raise
            if self._named is None:
                return None
            reason = " ".join(str(error).split())[:200]
            raise FeatureError(
                f"llm_tokenizer: {self._named} cannot be loaded as a tokenizer ({reason}); name a folder or a hub "
                "name, or remove it for estimates."
            ) from None
