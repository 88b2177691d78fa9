"""A server that speaks OpenAI's chat completions, asked over HTTP with nothing but the standard library."""

from __future__ import annotations

import json
import logging
import os
import random
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from rslwm.remote.arrays import MAX_BYTES
from rslwm.serialisation import ConfigError

log = logging.getLogger(__name__)

_TRY_AGAIN = {408, 409, 425, 429, 500, 502, 503, 504, 529}
_PIECE = 2**16
_SHOWN = 300  # characters of a server's complaint


class NoAnswer(Exception):
    """The server gave none in the time and the attempts that it had; the message says what it did instead."""


@dataclass(frozen=True)
class EndpointConfig:
    """Where a model is served, and what it is asked for beside the question."""

    url: str
    """Up to the version, such as http://localhost:8000/v1 or https://api.openai.com/v1."""
    model: str
    """Its id, of a dated snapshot where there are such: a name that moves gives other verdicts next month."""
    key_variable: str = ""
    """Environment variable that holds the API key; empty where none is asked for. The key itself is never stored."""
    temperature: float = 0.0
    seed: int = 0
    max_tokens: int = 512
    top_logprobs: int = 5
    """Alternatives to each token whose probabilities are asked for; 0 for servers that refuse to give any."""
    body: dict[str, Any] = field(default_factory=dict)
    """More fields of the request, which replace those above: {"chat_template_kwargs": {"enable_thinking": false}}."""
    timeout: float = 60.0
    """Seconds that the server may be silent."""
    attempts: int = 6
    """At a question, before it stays unanswered."""
    backoff: float = 1.0
    """Seconds before the second attempt, doubled with each further one, unless the server says when to come again."""
    price_in: float = 0.0
    """Of a million tokens of questions, in whatever currency; for the log."""
    price_out: float = 0.0
    """Of a million tokens of answers."""

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ConfigError(
                f"endpoint.url: {self.url!r} is no http(s) address; give one like http://localhost:8000/v1"
            )
        if not self.model:
            raise ConfigError("endpoint.model is empty; name the model as the server does (GET /v1/models lists them)")
        if self.attempts < 1:
            raise ConfigError(f"endpoint.attempts: {self.attempts} is not 1 or more")

    def settings(self) -> dict[str, Any]:
        """The fields of a request that determine its answer, beside the messages."""
        asked: dict[str, Any] = {
            "model": self.model,
            "temperature": self.temperature,
            "seed": self.seed,
            "max_tokens": self.max_tokens,
        }
        if self.top_logprobs:
            asked |= {"logprobs": True, "top_logprobs": self.top_logprobs}
        return asked | self.body


@dataclass
class Spent:
    """What was asked of a server, and what that cost. Threads may add to it."""

    requests: int = 0
    """Sent, those that failed included."""
    answers: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    def add(self, requests: int = 0, usage: dict[str, Any] | None = None, config: EndpointConfig | None = None) -> None:
        """Requests, or an answer with the tokens that the server says it took."""
        with self._lock:
            self.requests += requests
            if usage is not None and config is not None:
                said = [usage.get(f"{kind}_tokens") for kind in ("prompt", "completion")]
                tokens_in, tokens_out = (number if isinstance(number, int) else 0 for number in said)
                self.answers += 1
                self.tokens_in += tokens_in
                self.tokens_out += tokens_out
                self.cost += (tokens_in * config.price_in + tokens_out * config.price_out) / 1e6

    def __str__(self) -> str:
        tokens = f"{self.tokens_in} tokens in, {self.tokens_out} out, cost {self.cost:.4g}"
        return f"{self.requests} requests, {self.answers} answers, {tokens}"


class _Stay(HTTPRedirectHandler):
    """Follows no redirection: it would take the key to somebody else's server."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


_opener = build_opener(_Stay)


def ask(config: EndpointConfig, messages: list[dict[str, Any]], spent: Spent, deadline: float) -> dict[str, Any]:
    """The server's completion, a JSON object with choices, before ``deadline`` on the clock of time.monotonic().

    What passes (too many requests, an overloaded server, a connection that breaks or stays silent, an answer that is no
    JSON) is tried again, when the server says so in Retry-After or else later and later.

    Raises:
        NoAnswer: no attempt had an answer, or there is no time for another.
        ConfigError: the server refuses the request, whatever trial it is about.
    """
    body = json.dumps({**config.settings(), "messages": messages}).encode()
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if key := _key(config):
        headers["Authorization"] = f"Bearer {key}"
    request = Request(f"{config.url.rstrip('/')}/chat/completions", body, headers)
    for attempt in range(config.attempts):
        if time.monotonic() >= deadline:
            raise NoAnswer("there was no time left to ask")
        spent.add(requests=1)
        try:
            return _completion(_post(request, config.timeout, deadline))
        except HTTPError as error:
            complaint = _complaint(config, error)
            if error.code not in _TRY_AGAIN:
                remedy = "check endpoint.url, endpoint.model and the key that endpoint.key_variable names"
                raise ConfigError(f"{config.url} refuses the request: {complaint}; {remedy}") from None
            wait, failure = _retry_after(error.headers.get("Retry-After")), complaint
        except (URLError, HTTPException, OSError, ValueError) as error:
            wait, failure = None, f"{type(error).__name__}: {error}"
        pause = config.backoff * 2**attempt * random.uniform(0.75, 1.25) if wait is None else wait
        if attempt + 1 == config.attempts or time.monotonic() + pause >= deadline:
            raise NoAnswer(f"{config.url}: {failure} (attempt {attempt + 1} of {config.attempts})")
        log.info("%s: %s; asking again in %.1f s", config.url, failure, pause)
        time.sleep(pause)
    raise AssertionError("unreachable")


def _post(request: Request, timeout: float, deadline: float) -> bytes:
    silence = max(min(timeout, deadline - time.monotonic()), 0.01)
    with _opener.open(request, timeout=silence) as reply:
        pieces, size = [], 0
        while piece := reply.read1(_PIECE):
            pieces.append(piece)
            size += len(piece)
            if size > MAX_BYTES:
                raise ValueError(f"an answer of more than {MAX_BYTES} bytes, which is the limit")
            if time.monotonic() > deadline:
                raise TimeoutError("the answer came too slowly")
        return b"".join(pieces)


def _key(config: EndpointConfig) -> str:
    if not config.key_variable:
        return ""
    if not (key := os.environ.get(config.key_variable, "").strip()):
        raise ConfigError(
            f"endpoint.key_variable: the environment variable {config.key_variable} is empty or not set; "
            f"export {config.key_variable}=..., or leave the field empty where the server asks for no key"
        )
    return key


def _completion(text: bytes) -> dict[str, Any]:
    """Raises ValueError: it is none."""
    answer = json.loads(text)
    if not isinstance(answer, dict) or not isinstance(answer.get("choices"), list) or not answer["choices"]:
        raise ValueError(f"no completion: {text[:80]!r}")
    return answer


def _complaint(config: EndpointConfig, error: HTTPError) -> str:
    """What the server says is wrong, without the key, which some servers repeat."""
    try:
        said = error.read(_PIECE).decode("utf-8", "replace")
    except (HTTPException, OSError):
        said = ""
    if key := _key(config):
        said = said.replace(key, "***")
    return f"HTTP {error.code} {' '.join(said.split())[:_SHOWN]}".strip()


def _retry_after(value: str | None) -> float | None:
    """Seconds, of a header in seconds or with a date; None where there is none that can be read."""
    if not value:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        then = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max((then.replace(tzinfo=then.tzinfo or UTC) - datetime.now(UTC)).total_seconds(), 0.0)
