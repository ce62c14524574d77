"""A generator on this machine: any causal language model of `transformers`."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from recbole_cdsr.errors import FeatureError
from recbole_cdsr.llm import local_models
from recbole_cdsr.llm.chat_templates import PLAIN, prompt_of
from recbole_cdsr.llm.generator import Answer, Chat, model_provenance

BACKEND = "transformers"
# Where a model without a chat template begins to speak for the user.
_NEXT_SPEAKER = "\n\nUser:"


class TransformersGenerator:
    """A causal language model that answers batches of chats, padded on the left.

    Parameters
    ----------
    name_or_path : str
        Folder or hub name.
    device : str
        Where it computes.
    dtype, device_map
        As `local_models.load_weights` takes them.
    max_new_tokens : int
        The most tokens of an answer.
    temperature : float
        0 for the likeliest token always (greedy); more for draws, whose seed is made from the chats.
    extra_parameters : mapping, optional
        More of what the model's `generate` takes (`top_p`, `repetition_penalty`, ...), and `chat_template_kwargs` for
        its template.
    batch_size : int
        Chats in one batch.

    Raises
    ------
    FeatureError
        The model is not found.

    Notes
    -----
    The weights are loaded with the first use.
    """

    backend = BACKEND
    concurrency = 1

    def __init__(
        self,
        name_or_path: str,
        *,
        device: str = "cpu",
        dtype: str = "auto",
        device_map: str | None = None,
        max_new_tokens: int = 512,
        temperature: float = 0.0,
        extra_parameters: Mapping[str, Any] | None = None,
        batch_size: int = 8,
    ) -> None:
        self.source = local_models.locate_model("llm_model", name_or_path)
        self.model = self.source.name
        self.cuts_with: str | None = self.source.name
        self.device, self.device_map, self.batch_size = device, device_map, batch_size
        self.max_new_tokens, self.temperature = max_new_tokens, temperature
        self._local = local_models.OnFirstUse(
            "llm_model", self.source, "AutoModelForCausalLM", device, dtype, device_map
        )
        extra = {name: value for name, value in (extra_parameters or {}).items() if value is not None}
        self._template_arguments = dict(extra.get("chat_template_kwargs") or {})
        self._arguments = {name: value for name, value in extra.items() if name != "chat_template_kwargs"}
        identity = {name: value for name, value in self.source.identity().items() if name != "name" and value}
        self.parameters = {
            "max_new_tokens": max_new_tokens,
            "temperature": temperature,
            "dtype": self._local.dtype,
            **extra,
            **identity,
        }
        self._lock = threading.Lock()  # a tokenizer is for one thread at a time

    @property
    def name(self) -> str:
        return self.model

    def provenance(self) -> dict[str, Any]:
        """`name`, `backend`, `model`, `parameters` (with the revision or hashes), `llm`, `library`, `template`."""
        return model_provenance(self) | {
            "library": local_models.library(),
            "template": "of the tokenizer" if getattr(self._tokenizer(), "chat_template", None) else PLAIN,
        }

    def count_tokens(self, chat: Chat) -> int:
        """Tokens of a prompt."""
        return len(self._ids(chat))

    def generate(self, chats: Sequence[Chat]) -> list[Answer]:
        """Answer chats in one batch; in halves where the device has not the memory for all of them.

        Returns
        -------
        list of Answer
            `finish_reason` is `stop` where the model ended its answer and `length` where it was cut off. A prompt that
            is longer than the model can read has an `error`.

        Raises
        ------
        FeatureError
            The model cannot be loaded, has no memory for a single chat, or refuses a parameter.
        """
        model = self._model()
        prompts = [self._ids(chat) for chat in chats]
        bound = local_models.longest_prompt(model)
        room = None if bound is None else bound - self.max_new_tokens
        fitting = [place for place, ids in enumerate(prompts) if room is None or len(ids) <= room]
        answers = [
            Answer(
                None,
                error=f"a prompt of {len(ids)} tokens and {self.max_new_tokens} new ones, more than the {bound} that "
                f"{self.model} reads",
            )
            for ids in prompts
        ]
        for place, answer in zip(fitting, self._answers([prompts[place] for place in fitting]), strict=True):
            answers[place] = answer
        return answers

    def _answers(self, prompts: list[list[int]]) -> list[Answer]:
        if not prompts:
            return []
        new = local_models.in_halves(
            prompts,
            lambda some: self._continued(some).tolist(),  # [b, <= max_new_tokens]
            lambda prompt: (
                f"The device has not the memory for {self.model} with a prompt of {len(prompt)} tokens; set "
                "llm_device_map=auto, llm_dtype=bfloat16, or take a smaller model."
            ),
        )
        return [self._answer(prompt, tokens) for prompt, tokens in zip(prompts, new, strict=True)]

    def _continued(self, prompts: list[list[int]]) -> Any:
        """What the model writes after each prompt: int64 `[B, T]`."""
        import torch

        model, tokenizer = self._model(), self._tokenizer()
        pad_id = local_models.pad_token(tokenizer)
        ids, mask = local_models.padded(prompts, pad_id, left=True)  # [B, L]
        sampling = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        if self.temperature > 0:
            sampling = {"do_sample": True, "temperature": self.temperature}
        arguments = {"max_new_tokens": self.max_new_tokens, "num_beams": 1, **sampling, **self._arguments}
        device = model.get_input_embeddings().weight.device
        with torch.random.fork_rng(devices=range(torch.cuda.device_count()), enabled=self.temperature > 0):
            if self.temperature > 0:
                torch.manual_seed(_seed_of(prompts))
            try:
                written = model.generate(
                    input_ids=ids.to(device), attention_mask=mask.to(device), pad_token_id=pad_id, **arguments
                )
            except (ValueError, TypeError) as error:
                reason = " ".join(str(error).split())[:300]
                raise FeatureError(
                    f"{self.model} cannot generate with these settings ({reason}); see llm_extra_parameters."
                ) from None
        return written[:, ids.shape[1] :]

    def _answer(self, prompt: list[int], tokens: list[int]) -> Answer:
        ends = self._end_tokens()
        length = next((place for place, token in enumerate(tokens) if token in ends), None)
        finish_reason = "stop"
        if length is None:
            length = len(tokens)
            finish_reason = "length" if length >= self.max_new_tokens else "stop"
        text = self._decoded(tokens[:length])
        if not getattr(self._tokenizer(), "chat_template", None) and _NEXT_SPEAKER in text:
            text, finish_reason = text.partition(_NEXT_SPEAKER)[0], "stop"
        return Answer(text.strip(), len(prompt), length, finish_reason)

    def _end_tokens(self) -> set[int]:
        configured = self._model().generation_config.eos_token_id
        ends = configured if isinstance(configured, list) else [configured]
        return {token for token in [*ends, self._tokenizer().eos_token_id] if token is not None}

    def _decoded(self, tokens: list[int]) -> str:
        with self._lock:
            text = self._tokenizer().decode(tokens, skip_special_tokens=True)
        return text.encode("utf-8", "replace").decode("utf-8")

    def _ids(self, chat: Chat) -> list[int]:
        tokenizer = self._tokenizer()
        with self._lock:
            prompt = prompt_of(tokenizer, chat, self._template_arguments)
            ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        return ids or [local_models.pad_token(tokenizer)]

    def _tokenizer(self) -> Any:
        return self._local.tokenizer()

    def _model(self) -> Any:
        return self._local.model()


def _seed_of(prompts: list[list[int]]) -> int:
    """The same draws for the same batch, whatever was drawn before."""
    return int.from_bytes(hashlib.sha256(repr(prompts).encode()).digest()[:4], "big")
