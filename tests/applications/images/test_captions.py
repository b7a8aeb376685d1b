"""Captions are found in an instruct model's answer whichever way it marks them."""

import pytest

from sysdpo.applications.images.captions import nth_of_three, read_captions

CATS = ["A calm cat.", "A cross cat.", "A furious cat."]


@pytest.mark.parametrize(
    "answer",
    [
        "1. A calm cat.\n2. A cross cat.\n3. A furious cat.",
        "Here are three captions:\n\n1) A calm cat.\n\n2) A cross cat.\n\n3) A furious cat.\n\nI hope this helps!",
        "(1) A calm cat.\n(2) A cross cat.\n(3) A furious cat.",
        "**Caption 1:** A calm cat.\n**Caption 2:** A cross cat.\n**Caption 3:** A furious cat.",
        "Caption 1:\nA calm cat.\n\nCaption 2:\nA cross cat.\n\nCaption 3:\nA furious cat.",
        "Image 1\nA calm cat.\nImage 2\nA cross cat.\nImage 3\nA furious cat.",
        "Caption 1—A calm cat.\nCaption 2—A cross cat.\nCaption 3—A furious cat.",
        "Picture one - A calm cat.\nPicture two - A cross cat.\nPicture three - A furious cat.",
        "- A calm cat.\n- A cross cat.\n- A furious cat.",
        "* **1.** A calm cat.\n* **2.** A cross cat.\n* **3.** A furious cat.",
        "**1. A calm cat.**\n**2. A cross cat.**\n**3. A furious cat.**",
        '1. "A calm cat."\n2. “A cross cat.”\n3. "A furious cat."',
        "Sure, here you go:\nA calm cat.\nA cross cat.\nA furious cat.",
        "A calm cat.\n\n  A cross cat.  \n\nA furious cat.\n",
        "1. A calm cat. 2. A cross cat. 3. A furious cat.",
    ],
)
def test_however_they_are_marked(answer: str) -> None:
    assert read_captions(answer) == CATS


@pytest.mark.parametrize(
    ("answer", "captions"),
    [
        ("", []),
        (" \n\n ", []),
        ("1.\n2.\n3.", []),
        ("A calm cat.", ["A calm cat."]),
        ("1. A calm cat.\n2. A cross cat.", CATS[:2]),
        ("1. A\n2. B\n3. C\n4. D", ["A", "B", "C", "D"]),
        ("1. **Calm:** a cat\n2. **Cross:** a cat", ["Calm: a cat", "Cross: a cat"]),
        ("2-year-old twins\n1.5 litres of milk", ["2-year-old twins", "1.5 litres of milk"]),
        ("1. A 2-year-old at 3.30 p.m.", ["A 2-year-old at 3.30 p.m."]),
        ("A 3-year-old child\n2 cats: a fight", ["A 3-year-old child", "2 cats: a fight"]),
        ("Picture a calm cat\nImage of a dog", ["Picture a calm cat", "Image of a dog"]),
    ],
)
def test_there_may_be_any_number_of_them(answer: str, captions: list[str]) -> None:
    assert read_captions(answer) == captions


@pytest.mark.parametrize(
    ("answer", "three"),
    [
        ("1. A\n2. B\n3. C\n4. D", ["A", "B", "C"]),
        ("1. A\n2. B", ["A", "B", "B"]),
        ("A", ["A", "A", "A"]),
        ("", ["", "", ""]),
    ],
)
def test_of_three_the_missing_ones_are_the_last_there_is(answer: str, three: list[str]) -> None:
    assert [nth_of_three(answer, number) for number in (1, 2, 3)] == three
