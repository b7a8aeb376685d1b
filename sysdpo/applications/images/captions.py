"""Parsing captions from an instruct model's answer, however it marks them; the rules are our choice."""

import re

NAME = r"(?:caption|image|picture|panel|frame|photo|scene|step)\s*#?(?:\d+|one|two|three)\b"
# "1. …", "(2) …", "**Caption 1:** …", "Image two - …", "Picture 3" alone; but neither "2.5 …" nor "3-year-old …"
NUMBERED = re.compile(rf"^\W*(?:{NAME}\s*[.):\-–—]+|{NAME}\W*$|\d+\s*(?:[.):]+(?!\d)|[\-–—]+(?!\w)))\W*", re.IGNORECASE)
BULLET = re.compile(r"^[-*•·–—]+\s+")
NEXT_NUMBER = re.compile(r"\s+(?=\(?[2-9][.)]\s)")
ORNAMENTS = " \t*_`\"'“”‘’"


def read_captions(answer: str) -> list[str]:
    """All captions of an answer, in its order.

    These are the numbered lines; without any, the lines with bullets; without those, all lines but a preamble that ends
    with a colon. A number alone on a line belongs to the next line. Everything else is dropped, and so are quotation
    marks around a caption and the asterisks of bold type.
    """
    lines = [line.strip() for line in answer.replace("**", "").splitlines() if line.strip()]
    if len(lines) == 1:
        lines = NEXT_NUMBER.split(lines[0])
    for mark in (NUMBERED, BULLET):
        if any(map(mark.match, lines)):
            return _marked(lines, mark)
    if len(lines) > 1 and lines[0].endswith(":"):
        lines = lines[1:]
    return [caption for line in lines if (caption := line.strip(ORNAMENTS))]


def nth_of_three(answer: str, number: int) -> str:
    """Caption `number` (1 to 3) of an answer, or its last if there are fewer; empty if there are none."""
    captions = read_captions(answer)
    return captions[min(number, len(captions)) - 1] if captions else ""


def _marked(lines: list[str], mark: re.Pattern[str]) -> list[str]:
    captions, is_next_line = [], False
    for line in lines:
        match = mark.match(line)
        text = (line[match.end() :] if match else line).strip(ORNAMENTS)
        if text and (match or is_next_line):
            captions.append(text)
        is_next_line = match is not None and not text
    return captions
