"""An OpenAI-compatible service: its address, its key, and what its errors mean."""

from __future__ import annotations

import email.utils
import json
import logging
import os
import re
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from recbole_cdsr.errors import FeatureError
from recbole_cdsr.llm.generator import RequestRefusedError, RetryLaterError
from recbole_cdsr.llm.openai_answers import PASSING_FAULTS, error_in, is_refusal

INSTALL = "pip install 'recbole-cdsr[openai]'"
# What a service without keys is sent: the client wants one.
_NO_KEY = "no-key"
_NO_QUOTA = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})


class WithheldError(RequestRefusedError):
    """A content filter refused the request; that is an answer."""


class OpenAIEndpoint:
    """A service and the client that speaks with it; nothing is sent before the first `post`.

    Parameters
    ----------
    base_url : str, optional
        Such as `http://localhost:8000/v1`; None leaves it to the client: `OPENAI_BASE_URL`, or OpenAI's own.
    api_key_env : str
        Environment variable that holds the key. It may be unset with a `base_url` of one's own.
    timeout : float
        Seconds to wait for an answer.
    url_key : str
        The configuration key of the address, for messages.
    asks : bool
        Whether anything will be asked; if not, no key is needed.

    Raises
    ------
    FeatureError
        The client is not installed, or there is no key.

    Notes
    -----
    The key goes into the client and nowhere else; should a service repeat it in a message, it is blotted out.
    """

    def __init__(
        self,
        base_url: str | None,
        api_key_env: str,
        timeout: float = 120.0,
        url_key: str = "llm_base_url",
        asks: bool = True,
    ) -> None:
        self._openai = _client_library()
        self.api_key_env, self.timeout, self.url_key = api_key_env, timeout, url_key
        self._secret = os.environ.get(api_key_env, "").strip()
        if asks and not self._secret and not (base_url or os.environ.get("OPENAI_BASE_URL")):
            raise FeatureError(
                f"The environment variable {api_key_env} holds no key for OpenAI's service; set it, name another one "
                f"with llm_api_key_env, or set {url_key} to the address of a service of your own."
            )
        if not re.fullmatch(r"[\x21-\x7e]*", self._secret):
            raise FeatureError(f"The environment variable {api_key_env} holds blanks or special characters, not a key.")
        try:
            # The runner decides what is tried again, when, and what is given up.
            self._client = self._openai.OpenAI(
                api_key=self._secret or _NO_KEY, base_url=base_url, timeout=timeout, max_retries=0
            )
        except Exception as error:  # whatever the client thinks of an address
            raise FeatureError(f"{url_key} cannot be used ({self._clean(error)}).") from None

    @property
    def address(self) -> str:
        """Scheme, host, port and path."""
        parts = urlsplit(str(self._client.base_url))
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://{host}{port}{parts.path}".rstrip("/")

    def chat(self, model: str, body: Mapping[str, Any]) -> Any:
        """POST /chat/completions; the JSON value of the response."""
        create = self._client.chat.completions.with_raw_response.create
        return self._post(lambda: create(model=model, messages=body["messages"], extra_body=_rest(body, "messages")))

    def embeddings(self, model: str, body: Mapping[str, Any]) -> Any:
        """POST /embeddings; the JSON value of the response."""
        create = self._client.embeddings.with_raw_response.create
        return self._post(
            lambda: create(
                model=model, input=body["input"], encoding_format="float", extra_body=_rest(body, "input") or None
            )
        )

    def _post(self, send: Any) -> Any:
        openai = self._openai
        try:
            text = send().text
        except openai.APITimeoutError:
            raise RetryLaterError(f"no answer from {self.address} within {self.timeout:g} s") from None
        except openai.APIStatusError as error:
            raise self._status_fault(error) from None
        except openai.APIConnectionError as error:
            reason = self._clean(error.__cause__ or error)
            raise RetryLaterError(f"no connection to {self.address} ({reason})") from None
        except UnicodeEncodeError:
            raise RequestRefusedError("a text with half a character in it, which no request can hold") from None
        try:
            return json.loads(text() if callable(text) else text)
        except (ValueError, RecursionError):
            raise RetryLaterError(f"an answer from {self.address} that is not JSON") from None

    def malformed(self, reason: Exception | str) -> RetryLaterError:
        """The error for an answer that is JSON but not what it should be."""
        return RetryLaterError(self._clean(reason))

    def _status_fault(self, error: Any) -> Exception:
        status, body = error.status_code, error.body
        # The client hands on the inner `error` object where there is one.
        detail = body.get("error", body) if isinstance(body, Mapping) else None
        said = self._clean(error_in({"error": detail}) or f": {error.message}")
        code = str(detail.get("code") or detail.get("type")) if isinstance(detail, Mapping) else ""
        if status == 401:
            where = f"in the environment variable {self.api_key_env}"
            return FeatureError(
                f"The service at {self.address} refuses the key {where} (401{said})."
                if self._secret
                else f"The service at {self.address} wants a key, and there is none {where} (401{said})."
            )
        if status in (402, 403) or code in _NO_QUOTA:
            return FeatureError(f"The service at {self.address} does not serve this key ({status}{said}).")
        if status in (404, 405, 410):
            return FeatureError(
                f"The service at {self.address} does not know the model or the address ({status}{said}); check the "
                f"model's name and {self.url_key}, which often ends in /v1."
            )
        if status in PASSING_FAULTS or status >= 500:
            after = retry_after(error.response.headers)
            return RetryLaterError(
                f"status {status} from {self.address}{said}",
                after,
                everyone=status in (429, 503),
                # A 503 that does not say when may be a fault like any other.
                rationed=status == 429 or (status == 503 and after is not None),
            )
        if is_refusal(detail):
            return WithheldError("withheld by a content filter")
        return RequestRefusedError(f"status {status} from {self.address}{said}")

    def _clean(self, text: Any) -> str:
        """One short line, without the key."""
        line = " ".join(str(text).split())
        return self.blotted(line)[:300]

    def blotted(self, text: str) -> str:
        """A text without the key."""
        return text.replace(self._secret, "[key]") if self._secret else text


def retry_after(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Seconds that a response asks to wait: `Retry-After` in seconds or as a date, `retry-after-ms`; None without.

    Parameters
    ----------
    headers
        Of the response.
    now
        Seconds since the epoch; None asks the clock.
    """
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) / unit
        except ValueError:
            continue
        if seconds >= 0.0 and seconds != float("inf"):
            return seconds
    try:
        moment = email.utils.parsedate_to_datetime(headers.get("retry-after", ""))
    except (ValueError, TypeError):
        return None
    return max(0.0, moment.timestamp() - (time.time() if now is None else now))


def _rest(body: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name != key}


def _client_library() -> Any:
    try:
        import openai
    except ImportError:
        raise FeatureError(f"OpenAI-compatible services need the openai client; install it with {INSTALL}.") from None
    # They report every single request where RecBole's log is at INFO.
    for name in ("openai", "httpx", "httpx2", "httpcore", "httpcore2"):
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.WARNING)
    return openai
