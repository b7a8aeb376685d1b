"""The descriptions that both image systems share: metrics, components and pictures."""

from sysdpo.method.description import Metric, Pictures, SecondJudge

METRICS = {
    "order_consistency": Metric(
        "Order consistency", True, "%", 1, "share of triplets whose asked attribute strictly rises"
    ),
    "preference_score": Metric(
        "Preference score", True, "", 3, "rise of the asked attribute from first to last, less its unevenness"
    ),
    "spread": Metric("Spread", True, "", 3, "asked attribute of the last image minus that of the first"),
    "well_formed": Metric("Well-formed", True, "%", 1, "share of outputs that follow the format"),
}
READ_OUT = {
    "readout_score": Metric("Read-out score", True, "", 3, "the preference score by a read-out that trained nothing"),
    "readout_order_consistency": Metric(
        "Read-out order", True, "%", 1, "order consistency by a read-out that trained nothing"
    ),
}
"""By a second judge."""

COMPONENTS = {"writer": "the writer", "painter": "the painter"}
PICTURES = Pictures(
    images=("image_1", "image_2", "image_3"),
    captions=("caption_1", "caption_2", "caption_3"),
    levels=("attribute_1", "attribute_2", "attribute_3"),
    kind="attribute",
    direction="direction",
)
SECOND_JUDGE = SecondJudge(
    "order_consistency",
    "readout_order_consistency",
    "The same regressor labels the training pairs and judges the result, so a second read-out that trained nothing "
    "judges too",
)
