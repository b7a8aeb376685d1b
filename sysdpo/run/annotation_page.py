"""The local page on which people judge: two outputs of one prompt side by side, until all pairs are judged.

What models have made is shown as text, never as markup, and the page loads nothing from elsewhere.
"""

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sysdpo.base.errors import UserError
from sysdpo.base.packing import unpack
from sysdpo.base.seeds import numpy_generator
from sysdpo.library.agreement import agreement
from sysdpo.library.annotation_pairs import Graph, Pair, Side, picture_name
from sysdpo.library.judgements import FIRST, SECOND, TIE, Journal
from sysdpo.method.preferences import JSON, TOKENS, variable_of

HOSTS = ["127.0.0.1", "localhost"]
LONGEST_NAME = 80
COARSE = 64  # pixels; a picture that is no larger is shown without smoothing
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; img-src 'self' data:; style-src 'self'; script-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
ASSETS = {"css": "text/css", "js": "text/javascript"}


class Refused(Exception):
    """A request that is answered with a status and a sentence."""

    def __init__(self, status: int, sentence: str):
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


class Shown(NamedTuple):
    """A variable's value for the page: its text, the names of its pictures, and whether these are small."""

    variable: str
    text: str = ""
    pictures: Sequence[str] = ()
    is_coarse: bool = False


@dataclass
class Session:
    """Pairs to judge, and the file of judgements. annotator: who judges where the page is told no other name."""

    title: str
    graph: Graph
    pairs: Sequence[Pair]
    journal: Journal
    annotator: str = ""
    pictures: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.by_id = {pair.id: pair for pair in self.pairs}
        for pair in self.pairs:  # a page that is open already may ask for their pictures
            self._shown(pair.inputs, self.graph.inputs)
            for side in pair.sides.values():
                self._side(side)

    def order(self, annotator: str) -> list[Pair]:
        """All pairs in the order in which this person sees them."""
        return sorted(self.pairs, key=lambda pair: numpy_generator("order to annotate", annotator, pair.id).random())

    def left(self, annotator: str, pair: Pair) -> str:
        """Which of a pair this person sees on the left, `first` or `second`."""
        is_first = numpy_generator("sides to annotate", annotator, pair.id).random() < 0.5
        return FIRST if is_first else SECOND

    def judge(self, annotator: str, pair: Pair, preferred: str) -> None:
        """Keep a judgement. preferred: `left`, `right` or `tie`, as the page shows the pair to this person."""
        left = self.left(annotator, pair)
        right = SECOND if left == FIRST else FIRST
        self.journal.add(pair, annotator, {"left": left, "right": right, TIE: TIE}[preferred], left)

    def view(self, annotator: str) -> dict[str, Any]:
        """What the template of a pair shows to a person: the next pair, or how far people agree."""
        own = self.journal.of(annotator)
        done, last = len(own.keys() & self.by_id), next(reversed(own), "")
        waiting = (pair for pair in self.order(annotator) if pair.id not in own) if annotator else iter(())
        pair = next(waiting, None)
        view: dict[str, Any] = {"annotator": annotator, "longest": LONGEST_NAME, "pair": pair, "lines": []}
        view |= {"done": done, "count": len(self.pairs), "last": last if last in self.by_id else ""}
        if pair is not None:
            left = self.left(annotator, pair)
            sides = [pair.sides[left], pair.sides[SECOND if left == FIRST else FIRST]]
            view |= {"inputs": self._shown(pair.inputs, self.graph.inputs), "sides": list(map(self._side, sides))}
        elif annotator:
            view |= {"lines": list(agreement(self.journal.judgements).lines()), "file": self.journal.path}
        return view

    def _side(self, side: Side) -> dict[str, list[Shown]]:
        between = [name for name in self.graph.generated if name not in self.graph.outputs]
        return {"outputs": self._shown(side.stored, self.graph.outputs), "steps": self._shown(side.stored, between)}

    def _shown(self, stored: Mapping[str, Any], variables: Iterable[str]) -> list[Shown]:
        columns = {variable_of(name): (name, value) for name, value in stored.items() if not name.endswith(TOKENS)}
        return [self._value(name, *columns[name]) for name in variables if name in columns]

    def _value(self, variable: str, column: str, value: Any) -> Shown:
        found: list[bytes] = []
        if isinstance(value, bytes):
            return self._pictured(variable, "", [value])
        if column.endswith(JSON):
            value = unpack(json.loads(value), lambda kind, content: _readable(kind, content, found))
        is_all = isinstance(value, (list, tuple)) and len(value) == len(found)
        return self._pictured(variable, "" if found and is_all else _as_text(value), found)

    def _pictured(self, variable: str, text: str, pngs: Sequence[bytes]) -> Shown:
        names = list(map(picture_name, pngs))
        self.pictures |= dict(zip(names, pngs, strict=True))
        return Shown(variable, text, names, all(max(_size(png)) <= COARSE for png in pngs))


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False)
    except TypeError:  # a mapping by tuples, say
        return str(value)


def _readable(kind: str, content: Any, pictures: list[bytes]) -> Any:
    """A packed value as a person reads it; pictures are put aside, in their order."""
    match kind:
        case "png":
            pictures.append(base64.b64decode(content))
            return f"(picture {len(pictures)})"
        case "completion":
            return content[0]
        case _:  # of arrays and numbers the first is their type
            return content[1]


def _size(png: bytes) -> tuple[int, int]:
    """Width and height in pixels, which stand at the head of a PNG."""
    return int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")


def make_app(session: Session) -> Starlette:
    """The page as an application that any ASGI server runs; only this machine may ask it."""
    here = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(here),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )

    def render(template: str, annotator: str) -> Response:
        text = environment.get_template(template).render(title=session.title, **session.view(annotator))
        return Response(text, media_type="text/html", headers=HEADERS)

    # Without threads: one judgement is written before the next one is looked at.
    async def page(request: Request) -> Response:
        name = request.query_params.get("annotator", session.annotator)
        return render("annotation_page.html.j2", _name(name) if name.strip() else "")

    async def judge(request: Request) -> Response:
        told = await _told(request)
        annotator, pair = _name(told.get("annotator")), session.by_id.get(str(told.get("pair")))
        if pair is None:
            raise Refused(409, "This page is older than the server; load it again.")
        if told.get("preferred") not in ("left", "right", TIE):
            raise Refused(422, "preferred: it should be left, right or tie.")
        session.judge(annotator, pair, told["preferred"])
        return render("annotation_pair.html.j2", annotator)

    async def undo(request: Request) -> Response:
        told = await _told(request)
        annotator = _name(told.get("annotator"))
        session.journal.take_back(annotator, str(told.get("pair")))
        return render("annotation_pair.html.j2", annotator)

    async def picture(request: Request) -> Response:
        png = session.pictures.get(request.path_params["name"])
        if png is None:
            raise Refused(404, "There is no such picture.")
        headers = HEADERS | {"Cache-Control": "private, max-age=31536000, immutable"}  # named by its content
        return Response(png, media_type="image/png", headers=headers)

    async def asset(request: Request) -> Response:
        kind = request.path_params["kind"]
        if kind not in ASSETS:
            raise Refused(404, "There is no such file.")
        text = (here / f"annotation_page.{kind}").read_text()
        return Response(text, media_type=ASSETS[kind], headers=HEADERS)

    async def refuse(request: Request, problem: Exception) -> Response:
        status = problem.status if isinstance(problem, Refused) else 500
        return Response(str(problem), status, media_type="text/plain", headers=HEADERS)

    routes = [
        Route("/", page),
        Route("/judgements", judge, methods=["POST"]),
        Route("/undo", undo, methods=["POST"]),
        Route("/pictures/{name}", picture),
        Route("/page.{kind}", asset),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=HOSTS, www_redirect=False)],
        exception_handlers={Refused: refuse, UserError: refuse},
    )


async def _told(request: Request) -> dict[str, Any]:
    """What this page posts. Other sites' pages can neither send this content type nor claim this origin."""
    origin = request.headers.get("origin")
    if origin is not None and origin != f"{request.url.scheme}://{request.headers.get('host')}":
        raise Refused(403, "Only this page may post here.")
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise Refused(415, "What is posted here should be JSON.")
    try:
        told = json.loads(await request.body())
    except ValueError:
        told = None
    if not isinstance(told, dict):
        raise Refused(400, "What is posted here should be a mapping in JSON.")
    return told


def _name(value: Any) -> str:
    """Who judges; the same person may type spaces around the name."""
    name = value.strip() if isinstance(value, str) else ""
    try:
        return check_name(name)
    except UserError as error:
        raise Refused(422, str(error)) from error


def check_name(name: str) -> str:
    """The name; raises `UserError` unless it is a short text on one line."""
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise UserError(
            f"annotator: {name[:LONGEST_NAME]!r} should be a name of 1 to {LONGEST_NAME} printable characters"
        )
    return name
