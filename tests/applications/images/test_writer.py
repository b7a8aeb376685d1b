"""What pretraining leaves of the writer."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from sysdpo.applications.images.grammar import CAPTIONS, SCENES, contents, requests
from sysdpo.applications.images.settings import WriterSettings
from sysdpo.applications.images.writer import make_writer

TINY = WriterSettings(answers=40, steps=3, batch_size=8, width=16, layers=1)


def test_the_same_seed_makes_the_same_writer_which_loads_as_any_model(tmp_path: Path) -> None:
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        make_writer(TINY, requests(contents(SCENES[:40])), seed, tmp_path / name)
    states = {
        name: AutoModelForCausalLM.from_pretrained(tmp_path / name).state_dict() for name in ("one", "two", "three")
    }
    assert all(torch.equal(states["one"][key], states["two"][key]) for key in states["one"])
    assert not all(torch.equal(states["one"][key], states["three"][key]) for key in states["one"])
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "one")
    known = [request.text for request in requests(contents(SCENES))][::17] + list(CAPTIONS)
    unknown = tokenizer.unk_token_id
    assert not any(unknown in tokenizer(text)["input_ids"] for text in known)
    assert tokenizer(known[0])["input_ids"][0] == tokenizer.bos_token_id
