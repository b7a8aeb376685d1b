"""Procedural cats: the pictures that the small diffusion model learns to paint."""

import numpy as np

from sysdpo.applications.images.grammar import ATTRIBUTES, FURS, SCARVES

_INK = (0.10, 0.06, 0.10)
_SUPERSAMPLE = 2
_CHUNK = 16  # images drawn together: one of their float32 planes fits in the L2 cache


def render(attributes: np.ndarray, furs: list[str], scarves: list[str], *, size: int = 32) -> np.ndarray:
    """Draw one cat per row; the same arguments always give the same pixels.

    attributes: float [n, 3] in [0, 1], columns in the order of ATTRIBUTES.
    furs, scarves: n names out of FURS and out of SCARVES.
    size: height and width of a picture in pixels, at least 1.
    Returns uint8 [n, size, size, 3], RGB.
    """
    attributes = _checked(attributes, furs, scarves)
    fur = np.array([FURS[name] for name in furs], np.float32).reshape(-1, 3)
    scarf = np.array([SCARVES[name] for name in scarves], np.float32).reshape(-1, 3)
    pictures = np.empty((len(furs), size, size, 3), np.uint8)
    for start in range(0, len(furs), _CHUNK):
        rows = slice(start, start + _CHUNK)
        pictures[rows] = _draw(attributes[rows], fur[rows], scarf[rows], size)
    return pictures


def _checked(attributes: np.ndarray, furs: list[str], scarves: list[str]) -> np.ndarray:
    """Return the attributes as float32 [n, 3]; raises ValueError on wrong arguments."""
    attributes, shape = np.asarray(attributes, np.float32), (len(furs), len(ATTRIBUTES))
    if attributes.shape != shape:
        raise ValueError(f"attributes must have shape {shape}, not {attributes.shape}.")
    if not ((attributes >= 0) & (attributes <= 1)).all():
        raise ValueError("attributes must all lie in [0, 1].")
    if len(scarves) != len(furs):
        raise ValueError(f"there must be as many scarves as furs, {len(furs)}, not {len(scarves)}.")
    for kind, names, known in (("fur", furs, FURS), ("scarf", scarves, SCARVES)):
        for name in names:
            if name not in known:
                raise ValueError(f"unknown {kind} {name!r}: choose one of {', '.join(known)}.")
    return attributes


def _draw(attributes: np.ndarray, fur: np.ndarray, scarf: np.ndarray, size: int) -> np.ndarray:
    """Draw float32 attributes [n, 3] and colours of fur and scarf [n, 3] as uint8 [n, size, size, 3].

    Lengths are in units of half the head's width, y points down. The cat is symmetric, so only
    its right half is drawn and then mirrored.
    """
    anger, scale, light = attributes.T[:, :, None, None]
    calm = 1 - anger
    # Between even steps in width and in area, both of which look even.
    half_width = (0.31 + 0.66 * scale) ** (2 / 3)
    fine = size * _SUPERSAMPLE
    grid = (np.arange(fine, dtype=np.float32) + 0.5) * 2 / fine - 1
    x = grid[None, None, fine // 2 :] / half_width
    y = grid[None, :, None] / half_width - 0.18
    pixel = 2 / (fine * half_width)

    fur, scarf = (colour.T[:, :, None, None] for colour in (fur, scarf))
    dim = 0.58 + 0.42 * light
    night, day = _colour(0.04, 0.05, 0.15), _colour(0.94, 0.97, 1.00)
    canvas = np.empty((3, len(anger), fine, fine // 2), np.float32)
    canvas[:] = night + (day - night) * light

    def paint(distance: np.ndarray, colour: np.ndarray, opacity: float | np.ndarray = 1) -> None:
        """Lay a colour [3, n or 1, 1, 1] wherever the signed distance is negative."""
        cover = np.clip(0.5 - distance / pixel, 0, 1) * opacity
        canvas[:] += cover * (colour * dim - canvas)

    # Ears and head share one outline, so no line crosses the forehead.
    ear = _ear(x, y)
    head = np.minimum(_ellipse(x, y + 0.06, 0.88, 0.76), _ellipse(x, y - 0.16, 1.0, 0.58))
    cat = np.minimum(head, ear)
    paint(cat, fur * 0.38)
    paint(cat + 0.075, fur)
    paint(ear + 0.19, _colour(1.0, 0.55, 0.62))
    paint(head + 0.075, fur)

    # The flush stays inside the face: its rim and the ears keep the colour of the fur.
    flush = np.clip(1.5 - 1.6 * ((x / 0.95) ** 2 + ((y + 0.08) / 0.75) ** 2), 0, 1)
    paint(head + 0.075, _colour(0.93, 0.10, 0.06), 0.66 * anger**1.5 * flush)

    # A pale muzzle keeps the mouth legible on dark furs and in the dark.
    paint(_ellipse(x, y - 0.44, 0.47, 0.27), fur * 0.3 + 0.7)

    eye = _ellipse(x - 0.42, y + 0.02, 0.27, 0.29)
    lid = (0.30 - 0.24 * anger) + y - 0.62 * anger * (0.42 - x)
    eye = np.maximum(eye, -lid / np.sqrt(1 + (0.62 * anger) ** 2))
    paint(eye - 0.05, _colour(*_INK))
    # The whites glow a little in the dark, or the eyes would not be visible.
    paint(eye, _colour(1.0, 1.0, 0.96) * (0.85 + 0.15 * light) / dim)
    pupil = _ellipse(x - 0.39, y - 0.02 - 0.04 * anger, 0.20 - 0.08 * anger, 0.22 - 0.10 * anger)
    paint(np.maximum(pupil, eye), _colour(*_INK))
    paint(_ellipse(x - 0.46, y + 0.07, 0.075, 0.075), _colour(1.0, 1.0, 1.0), calm)

    inner = (0.26 - 0.12 * anger, -0.56 + 0.41 * anger)
    outer = (0.60 + 0.10 * anger, -0.47 - 0.05 * anger)
    paint(_stroke(x, y, inner, outer, 0.055 + 0.045 * anger), _colour(*_INK))
    paint(_ellipse(x, y - 0.26, 0.10, 0.07), _colour(0.95, 0.35, 0.45))

    # The mouth is the gap between two arcs: a grin when calm, a line half way, a frown in fury.
    bend = 1 - (x / 0.36) ** 2
    grin, frown = np.maximum(1 - 2 * anger, 0), np.maximum(2 * anger - 1, 0)
    middle = 0.47 - 0.10 * grin + 0.12 * frown
    top = middle + (0.08 * grin - 0.26 * frown) * bend
    bottom = middle + (0.34 * grin - 0.12 * frown) * bend
    width = 0.24 + 0.10 * (grin + frown)
    mouth = np.maximum(np.maximum(top - y, y - bottom) * 0.8, x - width)
    paint(mouth - 0.05, _colour(*_INK))
    paint(np.maximum(mouth + 0.01, 0.50 - y), _colour(0.98, 0.42, 0.48), grin)

    # Under the chin, where it hides nothing that shows an attribute.
    collar = _ellipse(x, y - 0.74, 0.72, 0.13)
    paint(collar - 0.04, scarf * 0.45)
    paint(collar, scarf)

    right = canvas.reshape(3, len(anger), size, _SUPERSAMPLE, fine // 2).mean(3)
    whole = np.concatenate([right[..., ::-1], right], -1)
    whole = whole.reshape(3, len(anger), size, size, _SUPERSAMPLE).mean(-1)
    return np.rint(np.clip(whole, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 3, 0)


def _colour(red: float, green: float, blue: float) -> np.ndarray:
    """Return an RGB colour in [0, 1] as float32 [3, 1, 1, 1]."""
    return np.array([red, green, blue], np.float32)[:, None, None, None]


def _ellipse(x: np.ndarray, y: np.ndarray, a: float | np.ndarray, b: float | np.ndarray) -> np.ndarray:
    """Signed distance, roughly, to an ellipse at the origin with half axes a and b."""
    return (np.sqrt((x / a) ** 2 + (y / b) ** 2) - 1) * np.minimum(a, b)


def _ear(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Signed distance to the right ear, a triangle with its tip up and its base in the head."""
    outward = 0.995 * (x - 0.88) - 0.10 * (y + 0.4)
    inward = -0.66 * (x - 0.24) - 0.75 * (y + 0.72)
    return np.maximum(np.maximum(outward, inward), y + 0.2)


def _stroke(x: np.ndarray, y: np.ndarray, start: tuple, end: tuple, radius: float | np.ndarray) -> np.ndarray:
    """Signed distance to a round-ended line of the given radius between two points (x, y)."""
    along_x, along_y = end[0] - start[0], end[1] - start[1]
    x, y = x - start[0], y - start[1]
    t = np.clip((x * along_x + y * along_y) / (along_x**2 + along_y**2), 0, 1)
    return np.hypot(x - t * along_x, y - t * along_y) - radius
