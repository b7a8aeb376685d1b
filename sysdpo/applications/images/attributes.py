"""Requests for a series of three pictures in which one attribute rises or falls.

An attribute has two poles, each with a word for the request and a text that a scorer compares pictures with. All of it
is our choice; the paper's example is "a cat getting progressively angrier".
"""

from collections.abc import Iterator
from dataclasses import dataclass

ANIMALS = "cat, dog, lion, tiger, bear, monkey, horse, fox, wolf, panda, owl, goat"
PEOPLE = "man, woman, boy, girl, teacher, chef, king, queen, pirate, clown, farmer, nurse, fisherman, guitarist"
ADULTS = "man, woman, teacher, chef, king, queen, pirate, clown, farmer, nurse, fisherman, guitarist"
LOCATIONS = "street, beach, park, market, town square, train station, library, museum, playground, restaurant, bridge"
LANDSCAPES = "mountain village, forest, valley, field, lake, river, hillside, country road, farm, meadow, city park"
LEAFY = "forest, park, garden, hillside, country road, valley, vineyard, avenue, orchard, hedge, tree, meadow"
SHORES = "beach, bay, harbour, lake, coast, island, lighthouse, fishing village, pier, river mouth"
ROOMS = (
    "kitchen, bedroom, living room, office, classroom, garage, workshop, attic, studio, dining room, hallway, cellar"
)
VEHICLES = "car, bicycle, bus, truck, train, motorcycle, tractor, van, fishing boat, scooter"
BUILDINGS = "house, castle, church, barn, tower, windmill, cottage, factory, hotel, temple, theatre, mansion"
PLANTS = "rose, sunflower, tulip, daisy, orchid, lily, potted fern, bouquet, palm, vine"
FRUITS = "apple, banana, pear, peach, tomato, lemon, mango, pumpkin, cucumber, melon"
METAL = "bicycle, car, anchor, bucket, key, hammer, gate, tractor, kettle, chain, sword, spoon"
VESSELS = "glass, bottle, bowl, bucket, basket, suitcase, bookshelf, refrigerator, shopping cart, fish tank, jar, bus"
CREATURES = "dragon, monster, robot, clown, ghost, alien, witch, giant, spider, doll, scarecrow, shark"
FURRY = "cat, dog, rabbit, hamster, alpaca, sheep, owl, bear, fox, squirrel"
PRODUCTS = "car, train, kitchen, city, telephone, camera, aeroplane, house, office, bicycle, watch, chair"
PAINTED = "parrot, house, butterfly, market stall, garden, fishing boat, dress, street, carpet, mural, kite"
MELTABLE = (
    "snowman, ice cream, candle, ice cube, ice sculpture, ice lolly, chocolate bar, snowball, icicle, snow castle"
)
DECORATED = "cake, Christmas tree, birthday table, shop window, wedding dress, carriage, throne, door, vase, mirror"


@dataclass(frozen=True)
class Attribute:
    """A property that can change from picture to picture.

    low, high: its poles, as adjectives. less, more: their comparatives. subjects: nouns that can have it, separated by
    commas. low_text, high_text: the scorer's texts, with `{0}` for the subject and its article (None: the subject with
    the pole's adjective). topic: the request's noun phrase, with the same `{0}`.
    """

    name: str
    low: str
    less: str
    high: str
    more: str
    subjects: str
    low_text: str | None = None
    high_text: str | None = None
    topic: str = "{0}"


ATTRIBUTES = (
    Attribute("anger", "calm", "calmer", "angry", "angrier", f"{ANIMALS}, {PEOPLE}"),
    Attribute("happiness", "sad", "sadder", "happy", "happier", f"{ANIMALS}, {PEOPLE}"),
    Attribute("fear", "relaxed", "more relaxed", "frightened", "more frightened", f"{ANIMALS}, {PEOPLE}"),
    Attribute("sleepiness", "alert", "more alert", "sleepy", "sleepier", f"{ANIMALS}, {PEOPLE}"),
    Attribute("age", "young", "younger", "old", "older", f"{ADULTS}, cat, dog, horse, lion, bear"),
    Attribute("weight", "thin", "thinner", "fat", "fatter", f"{ANIMALS}, pigeon, hamster"),
    Attribute("size", "tiny", "smaller", "huge", "bigger", f"{FRUITS}, dragon, robot, spider, doll, cat, dog"),
    Attribute("height", "short", "shorter", "tall", "taller", f"{BUILDINGS}, tree, sunflower, giraffe, skyscraper"),
    Attribute("muscles", "scrawny", "scrawnier", "muscular", "more muscular", f"{ADULTS}, {ANIMALS}"),
    Attribute("fur", "sleek", "sleeker", "fluffy", "fluffier", FURRY),
    Attribute(
        *("dress", "shabbily dressed", "more shabbily dressed", "elegantly dressed", "more elegantly dressed", ADULTS)
    ),
    Attribute("scariness", "friendly", "friendlier", "scary", "scarier", CREATURES),
    Attribute("wetness", "dry", "drier", "soaking wet", "wetter", f"{ANIMALS}, {PEOPLE}"),
    Attribute("dirt", "clean", "cleaner", "dirty", "dirtier", f"{VEHICLES}, {ANIMALS}"),
    Attribute("mess", "tidy", "tidier", "messy", "messier", ROOMS),
    Attribute("crowd", "empty", "emptier", "crowded", "more crowded", LOCATIONS),
    Attribute("fill", "empty", "emptier", "full", "fuller", VESSELS),
    Attribute("rust", "shiny", "shinier", "rusty", "rustier", METAL),
    Attribute("decay", "well-preserved", "better preserved", "dilapidated", "more dilapidated", BUILDINGS),
    Attribute("growth", "well-kept", "better kept", "overgrown", "more overgrown", f"garden, park, path, {BUILDINGS}"),
    Attribute("wilting", "fresh", "fresher", "wilted", "more wilted", PLANTS),
    Attribute("rot", "fresh", "fresher", "rotten", "more rotten", FRUITS),
    Attribute("melting", "solid", "more solid", "melted", "more melted", MELTABLE),
    Attribute("decoration", "plain", "plainer", "richly decorated", "more richly decorated", f"{DECORATED}, {ROOMS}"),
    Attribute("era", "old-fashioned", "more old-fashioned", "futuristic", "more futuristic", PRODUCTS),
    Attribute("lighting", "dimly lit", "more dimly lit", "brightly lit", "more brightly lit", f"{ROOMS}, {BUILDINGS}"),
    Attribute(
        *("storm", "calm", "calmer", "stormy", "stormier", f"{SHORES}, {LANDSCAPES}"),
        low_text="{0} in calm weather",
        high_text="{0} in a storm",
        topic="the weather over {0}",
    ),
    Attribute(
        *("rain", "sunny", "sunnier", "rainy", "rainier", f"{LANDSCAPES}, market, town square, playground, harbour"),
        low_text="{0} on a sunny day",
        high_text="{0} in pouring rain",
        topic="the weather over {0}",
    ),
    Attribute(
        *("fog", "clear", "clearer", "foggy", "foggier", f"{LANDSCAPES}, {SHORES}"),
        low_text="{0} on a clear day",
        high_text="{0} in thick fog",
        topic="the weather over {0}",
    ),
    Attribute(
        *("snow", "snow-free", "less snowy", "snow-covered", "snowier", LANDSCAPES),
        low_text="{0} without any snow",
        high_text="{0} deep in snow",
    ),
    Attribute(
        *("season", "green", "greener", "autumnal", "more autumnal", LEAFY),
        low_text="{0} in green summer",
        high_text="{0} in golden autumn",
    ),
    Attribute(
        *("night", "bright", "brighter", "dark", "darker", f"{LOCATIONS}, {SHORES}"),
        low_text="{0} in bright daylight",
        high_text="{0} in the dark of night",
        topic="the sky above {0}",
    ),
    Attribute(
        *("colour", "pale", "paler", "colourful", "more colourful", PAINTED),
        low_text="{0} in pale, faded tones",
        high_text="{0} in vivid, saturated tones",
    ),
)

PHRASINGS = (
    "Draw {topic} getting progressively {comparative}.",
    "Show how {topic} becomes {doubled}.",
    "Three pictures of {topic}, {comparative} in each than in the one before.",
    "I want a series of three images in which {topic} gets steadily {comparative}.",
    "Illustrate {topic} going from {start} to {end}, step by step.",
    "Paint {topic} in three stages, each {comparative} than the last.",
    "Could you draw {topic} becoming {doubled} over three images?",
    "Make a sequence of three pictures: {topic}, {start} at first and {end} at the end.",
)


@dataclass(frozen=True)
class Request:
    """One prompt, `text`, and what it asks for.

    direction: 1 if the attribute should rise, -1 if it should fall. low, high: the scorer's texts for this subject.
    phrasing: an index into `PHRASINGS`.
    """

    text: str
    attribute: str
    direction: int
    subject: str
    low: str
    high: str
    phrasing: int


def requests() -> Iterator[Request]:
    """All attributes, subjects, directions and phrasings, in a fixed order."""
    for attribute in ATTRIBUTES:
        for subject in dict.fromkeys(attribute.subjects.split(", ")):
            texts = {name: scorer_text(attribute, subject, name) for name in ("low", "high")}
            for direction in (1, -1):
                words = request_words(attribute, subject, direction)
                for number, phrasing in enumerate(PHRASINGS):
                    text = phrasing.format(**words)
                    yield Request(text, attribute.name, direction, subject, phrasing=number, **texts)


def request_words(attribute: Attribute, subject: str, direction: int) -> dict[str, str]:
    """The values of the placeholders in `PHRASINGS`."""
    poles = (attribute.low, attribute.high)[::direction]
    comparative = attribute.more if direction > 0 else attribute.less
    return {
        "topic": attribute.topic.format(with_article(subject)),
        "comparative": comparative,
        "doubled": doubled(comparative),
        "start": poles[0],
        "end": poles[1],
    }


def scorer_text(attribute: Attribute, subject: str, pole: str) -> str:
    """The text of a pole, `low` or `high`, about a subject, in CLIP's own prompt template."""
    text = getattr(attribute, f"{pole}_text")
    shown = text.format(with_article(subject)) if text else with_article(f"{getattr(attribute, pole)} {subject}")
    return f"a photo of {shown}"


def with_article(noun: str) -> str:
    """The noun with `a` or `an`, by its first letter: correct for every word here."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def doubled(comparative: str) -> str:
    """`angrier and angrier`, `more and more crowded`."""
    first, *rest = comparative.split(" ", 1)
    return " ".join([first, "and", first, *rest])
