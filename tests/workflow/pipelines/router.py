"""A router sends each question to one of two experts; people judge what the chosen one says."""

import os
from pathlib import Path

import sysdpo
from sysdpo import Metric, Node, System

MODELS = Path(os.environ["TINY_MODELS"])
LORA = {"r": 2, "target_modules": "all-linear"}
QUESTIONS = ("big dog", "small cat", "red dog", "blue cat", "big cat", "small dog")
SPLITS = ("train", "train", "test")


def pick(route: str, short: str, long: str) -> str:
    return short if route == "short" else long


def make() -> System:
    router = sysdpo.Classifier.from_pretrained(MODELS / "router", lora=LORA)
    short = sysdpo.LanguageModel.from_pretrained(MODELS / "language", lora=LORA, max_new_tokens=2)
    long = sysdpo.LanguageModel.from_pretrained(MODELS / "language", lora=LORA, max_new_tokens=5)
    return System(
        inputs=["question"],
        nodes=[
            Node("route", router, ["question"]),
            Node("short", short, ["question"]),
            Node("long", long, ["question"]),
            Node("answer", pick, ["route", "short", "long"]),
        ],
    )


def score(answer: str) -> float:
    return -abs(len(answer.split()) - 2)


benchmark = sysdpo.Benchmark(
    make,
    prompts=[{"question": question, "split": split} for split in SPLITS for question in QUESTIONS],
    score=score,
    metrics={
        "words": (Metric("Words", False, "", 2, "words of the answer", is_goal=False), lambda answer: len(answer))
    },
    title="Router",
)
