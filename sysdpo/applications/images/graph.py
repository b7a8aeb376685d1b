"""The graph of both image systems: a writer writes three captions, and a painter draws each of them."""

from sysdpo.method.system import Node

IMAGES = ("image_1", "image_2", "image_3")
NODES = (
    Node("captions", "writer", ("text",)),
    *(Node(f"caption_{n}", f"parser_{n}", ("captions",)) for n in (1, 2, 3)),
    *(Node(f"image_{n}", "painter", (f"caption_{n}",)) for n in (1, 2, 3)),
)
