"""A retriever finds a note, a reader takes a fact from it, an answerer replies; people judge the reply alone.

sysdpo check FOLDER/starter.py
"""

import itertools
import json
import re
from collections.abc import Sequence
from pathlib import Path

import torch

import sysdpo
from sysdpo import Metric, Node, System, Table

NOTES = (
    "A refund arrives within five days.",
    "A parcel is delivered within two days.",
    "A return is free within one month.",
    "A letter is answered within three hours.",
)
FACTS = ("five days", "two days", "one month", "three hours")
READ = "Note: {note} How long does it take?"
ANSWER = "Note: {note} A colleague says: {fact}. How long does it take?"


def words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


def retrieve(question: str) -> str:
    """The note that shares most words with the question; any function can be a node."""
    return max(NOTES, key=lambda note: len(words(note) & words(question)))


def table(prompts: Sequence[str]) -> Table:
    """A model that needs no download: for every prompt the probabilities of the facts, equal at first."""
    return Table([(prompt,) for prompt in prompts], FACTS, torch.zeros(len(prompts), len(FACTS)))


def make() -> System:
    """The system before alignment."""
    reader = table([READ.format(note=note) for note in NOTES])
    answerer = table([ANSWER.format(note=note, fact=fact) for note, fact in itertools.product(NOTES, FACTS)])
    # With language models, by a hub id or folder each, these two lines take the place of the two above:
    # reader = sysdpo.LanguageModel.from_pretrained("…", lora={"r": 16, "target_modules": "all-linear"})
    # answerer = sysdpo.LanguageModel.from_pretrained("…", lora={"r": 16, "target_modules": "all-linear"})
    return System(
        inputs=["question"],
        nodes=[
            Node("note", retrieve, ["question"]),
            Node("fact", reader, ["note"], template=READ),
            Node("answer", answerer, ["note", "fact"], template=ANSWER),
        ],
    )


def score(answer: str, expected: str) -> float:
    """What preferences are made from, higher is better; it may ask for any variable and any field of a row."""
    return float(answer == expected)


benchmark = sysdpo.Benchmark(
    make,
    prompts=[json.loads(line) for line in Path(__file__).with_name("starter.jsonl").read_text().splitlines()],
    score=score,
    metrics={"right": (Metric("Right", True, "%", 1, "share of right answers"), score)},
    title="starter",
    headline=["right"],
)
