"""A generator behind an OpenAI-compatible `/v1/chat/completions`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from recbole_cdsr.llm.generator import Answer, Chat, model_provenance
from recbole_cdsr.llm.openai_answers import MalformedAnswerError, chat_answer, refused
from recbole_cdsr.llm.openai_endpoint import OpenAIEndpoint, WithheldError
from recbole_cdsr.llm.tokens import ModelTokenizer

BACKEND = "openai"


class OpenAIGenerator:
    """A model of an OpenAI-compatible service: OpenAI's own, vLLM, llama.cpp, Ollama, `transformers serve`, ...

    Parameters
    ----------
    model : str
        The service's name of it.
    base_url, api_key_env, timeout
        As `OpenAIEndpoint` takes them.
    max_new_tokens : int
        The most tokens of an answer, sent as `max_tokens`.
    temperature : float
        0 for the likeliest token always.
    extra_parameters : mapping, optional
        More of the request's body, over what is said above; None as a value leaves a parameter out
        (`{max_tokens: null, max_completion_tokens: 512}` for models that want it so).
    concurrency : int
        Requests at once.
    tokenizer : str, optional
        Folder or hub name of the tokenizer that counts its tokens and cuts histories; None tries the model's name on
        this machine for counting, and cuts by estimates.
    asks : bool
        Whether it is to write at all; if not, as in a plan, no key is needed.

    Raises
    ------
    FeatureError
        The client is not installed, there is no key, or the tokenizer is not found.
    """

    backend = BACKEND
    batch_size = 1

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key_env: str = "OPENAI_API_KEY",
        max_new_tokens: int = 512,
        temperature: float = 0.0,
        extra_parameters: Mapping[str, Any] | None = None,
        concurrency: int = 16,
        timeout: float = 120.0,
        tokenizer: str | None = None,
        asks: bool = True,
    ) -> None:
        self.model = model
        self.concurrency = concurrency
        self.cuts_with = tokenizer
        parameters = {"max_tokens": max_new_tokens, "temperature": temperature} | dict(extra_parameters or {})
        self.parameters = {name: value for name, value in parameters.items() if value is not None}
        self.endpoint = OpenAIEndpoint(base_url, api_key_env, timeout, asks=asks)
        self._tokenizer = ModelTokenizer(tokenizer, model)

    @property
    def name(self) -> str:
        return self.model

    def provenance(self) -> dict[str, Any]:
        """`name`, `backend`, `model`, `parameters`, `llm`, and the service's `address`."""
        return model_provenance(self) | {"address": self.endpoint.address}

    def body(self, chat: Chat) -> dict[str, Any]:
        """What is sent besides the model's name."""
        return {"messages": [dict(message) for message in chat], **self.parameters}

    def generate(self, chats: Sequence[Chat]) -> list[Answer]:
        """Ask for each chat in turn; see `TextGenerator.generate`."""
        return [self._answer(chat) for chat in chats]

    def _answer(self, chat: Chat) -> Answer:
        try:
            answer = chat_answer(self.endpoint.chat(self.model, self.body(chat)))
        except WithheldError:
            return refused(0, 0)
        except MalformedAnswerError as error:
            raise self.endpoint.malformed(error) from None
        return answer if answer.text is None else replace(answer, text=self.endpoint.blotted(answer.text))

    def count_tokens(self, chat: Chat) -> int | None:
        """Tokens of a prompt; None when no tokenizer is at hand."""
        return self._tokenizer.count(chat)
