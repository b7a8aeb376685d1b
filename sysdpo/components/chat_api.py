"""Language models behind an HTTP API: they can be sampled, and their probabilities are not known."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Literal

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from sysdpo.base.errors import UserError
from sysdpo.components.prompting import fill
from sysdpo.method.component import Drift
from sysdpo.method.fixed import Fixed

SEEDS = 2**31
OVERLOADED = (408, 429, 500, 502, 503, 504)  # statuses after which a request is made again


class ChatAPI(Fixed):
    """A language model behind a chat API of OpenAI's kind, as vLLM, TGI, llama.cpp and most providers have one.

    It takes part in a system and is never trained. A system is saved without it: pass it to `System.load` as one of its
    `functions`. The same seed gives the same text as far as the server keeps to seeds.

    url: of the API, to which `/chat/completions` is added. model: its name there. key: what the server knows you by; it
    is written nowhere. template, system_prompt: as of `LanguageModel`. max_new_tokens: the most that the server may
    generate. temperature: 0 takes the likeliest tokens. batch_size: requests at a time. timeout: seconds that an answer
    may take; a request that fails for the server's sake is made again up to five times.
    """

    is_sample_only: Literal[True] = True

    def __init__(
        self,
        url: str,
        model: str,
        *,
        key: str | None = None,
        template: str = "{0}",
        system_prompt: str = "",
        max_new_tokens: int = 256,
        temperature: float = 1.0,
        batch_size: int = 8,
        timeout: float = 120.0,
    ):
        super().__init__()
        if not url.startswith(("http://", "https://")):
            raise UserError(f"url: '{url}' should begin with http:// or https://")
        self.url, self.model, self.template, self.system_prompt = url.rstrip("/"), model, template, system_prompt
        self.max_new_tokens, self.temperature = max_new_tokens, temperature
        self.batch_size, self.timeout = batch_size, timeout
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        # It waits 0, 1, 2, 4 and 8 seconds, or as long as the server says.
        self._retry = Retry(
            5, backoff_factor=0.5, status_forcelist=OVERLOADED, allowed_methods=None, raise_on_status=False
        )

    @property
    def reads(self) -> str:
        """Its template and system prompt."""
        return self.template + self.system_prompt

    def sample(self, conditions: Sequence[tuple[Any, ...]], *, seeds: Sequence[int]) -> list[str]:
        """A text for each condition; raises `UserError` if the server refuses or answers with anything else."""
        with requests.Session() as session, ThreadPoolExecutor(self.batch_size) as pool:
            session.mount(self.url, HTTPAdapter(max_retries=self._retry, pool_maxsize=self.batch_size))
            return list(pool.map(partial(self._answer, session), conditions, seeds))

    def drift(self, conditions: Sequence[tuple[Any, ...]], values: Sequence[Any], *, draw: Sequence[int]) -> Drift:
        """It never leaves its reference; its entropy is not known, NaN."""
        kl, zeros = super().drift(conditions, values, draw=draw)
        return Drift(kl, zeros * float("nan"))

    def _answer(self, session: requests.Session, condition: tuple[Any, ...], seed: int) -> str:
        messages = [{"role": "user", "content": fill("template", self.template, condition)}]
        if self.system_prompt:
            said = fill("system_prompt", self.system_prompt, condition)
            messages.insert(0, {"role": "system", "content": said})
        asked: dict[str, Any] = {"model": self.model, "messages": messages, "seed": seed % SEEDS}
        asked |= {"max_tokens": self.max_new_tokens, "temperature": self.temperature}
        where = f"'{self.model}' at {self.url}"
        try:
            answer = session.post(
                f"{self.url}/chat/completions", json=asked, headers=self._headers, timeout=self.timeout
            )
        except requests.RequestException as error:
            raise UserError(f"{where} should answer, and cannot be reached ({type(error).__name__})") from error
        if not answer.ok:
            reason = answer.text.strip().partition("\n")[0][:200]
            raise UserError(f"{where} refuses to answer: {answer.status_code} {reason}")
        try:
            text = answer.json()["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError) as error:
            raise UserError(f"{where} should answer as a chat API of OpenAI's kind does ({error!r})") from error
        if not isinstance(text, str):
            raise UserError(f"{where} should answer with a text, not {text!r}")
        return text
