"""A retriever finds passages; one model sums them up, another answers from that and from the first passage."""

import os
from pathlib import Path

import sysdpo
from sysdpo import Metric, Node, System

MODELS = Path(os.environ["TINY_MODELS"])
LORA = {"r": 2, "target_modules": "all-linear"}
SPLITS = ("train", "train", "train", "test")
PASSAGES = ("big dog runs", "small cat sleeps", "red dog sleeps", "blue cat runs")


def retrieve(question: str) -> list[str]:
    """The two passages that share most words with the question."""
    words = set(question.split())
    return sorted(PASSAGES, key=lambda passage: (-len(words & set(passage.split())), passage))[:2]


def first(passages: list[str]) -> str:
    return passages[0]


def joined(passages: list[str]) -> str:
    return " ".join(passages)


def make() -> System:
    reader, answerer = (
        sysdpo.LanguageModel.from_pretrained(MODELS / "language", lora=LORA, max_new_tokens=3) for _ in range(2)
    )
    return System(
        inputs=["question"],
        nodes=[
            Node("passages", retrieve, ["question"]),
            Node("best", first, ["passages"]),
            Node("read", joined, ["passages"]),
            Node("summary", reader, ["question", "read"], template="{read} {question}"),
            Node("answer", answerer, ["best", "summary"], template="{best} {summary}"),
        ],
    )


def score(answer: str, passages: list[str]) -> float:
    """How much of the answer is in the passages."""
    found = {word for passage in passages for word in passage.split()}
    return sum(word in found for word in answer.split()) / max(1, len(answer.split()))


benchmark = sysdpo.Benchmark(
    make,
    prompts=[{"question": passage, "split": split} for split in SPLITS for passage in PASSAGES],
    score=score,
    metrics={"grounded": (Metric("Grounded", True, "%", 1, "share of words from the passages"), score)},
    title="Retriever",
)
