"""What to see in each figure, in the order in which a page shows them; others are shown after, under their names."""

from __future__ import annotations

CAPTIONS: dict[str, tuple[str, str]] = {
    "comparison": (
        "All methods",
        "Each bar is a mean over held-out prompts and seeds, the black line its 95 % interval. The dashed line is the "
        "system before alignment; filled bars are the paper's methods, which train all models with one loss.",
    ),
    "gallery": (
        "What it looks like",
        "Of each kind, or of the first three by name, the prompt on which SysDPO-Direct scores its median, at the "
        "first seed: typical by that rule, not picked by eye. The bar under an image is how much of what was asked for "
        "the scorer sees in it; ✓ means that it rises from image to image.",
    ),
    "attributes": (
        "From the first image to the last",
        "How much of what was asked for (anger, or calm) the scorer sees in the first, second and third image. "
        "A steep, even line is what the prompts ask for. The thin dashed line is the system before alignment; bars "
        "are 95 % intervals.",
    ),
    "training": (
        "While training",
        "Loss, the share of pairs ranked right, and how far each model has come to prefer the chosen output "
        "over the rejected one (its margin). Lines are means over seeds, bands their range. A vertical "
        "dotted line starts a new round: fresh outputs are sampled and margins start at zero again. A model "
        "that is not trained has no line.",
    ),
    "dynamics": (
        "What moves each model",
        "While β times a margin stays well below 1 (dashed) the sigmoid is as good as linear: SysDPO-Direct and "
        "separate DPO pull each model in the same direction (a cosine near 1) and differ in how hard alone, and a tie "
        "there says nothing about them. Below, how hard each model is pulled, how undecided it is about its own "
        "outputs, and how far it has gone; a picture has no entropy here, and the KL divergence of its denoising is an "
        "upper bound over the whole schedule. Lines are means over seeds, bands their range.",
    ),
    "credit": (
        "Who earns the preference",
        "Above, the margin by which a system prefers the chosen output, stacked by the model that it comes from. "
        "Below, how much likelier each model makes the chosen and the rejected output than it did before training. A "
        "margin only needs the two to part: where both fall (tinted), the preference was learnt by making the chosen "
        "output, too, less likely. Lines are means over seeds, bands their range; untrained models have none.",
    ),
    "sampling": (
        "The candidates of SysDPO-Sampling",
        "What is hidden is summed over candidates, each weighted by how well it explains the output. An effective "
        "sample size near 1 (dashed) means that one candidate explains it alone, and the sum has collapsed to it. "
        "Below, how probable all candidates together are under the model. Means over seeds, bands their range.",
    ),
    "frontier": (
        "Score against drift",
        "Every preference method buys score with distance from the system it started from. Of two methods "
        "at the same height the one further left paid less. Best of n changes no model, so it stands at "
        "zero: it pays in samples at every use instead.",
    ),
    "words": (
        "How the painter reads words, before alignment",
        "For each word the level it means (across) and the level drawn (up); a perfect painter would follow "
        "the dashed line. Bars are one standard deviation; percentages say how often the drawn level is the "
        "right one.",
    ),
}

TRANSCRIPTS = (
    "What they say",
    "With the test questions ordered by how many methods answer them rightly (first seed, first sample), the ones a "
    "quarter, half and three quarters of the way: picked by that rule, not by eye.",
    "With the test questions ordered by the mean reward of all methods' answers (first seed, first sample), the ones a "
    "quarter, half and three quarters of the way: picked by that rule, not by eye.",
)
"""A heading, and how they are picked: where answers are right or wrong, and where they have a reward."""

EXPERIMENT = "Every point is one setting, bars are 95 % intervals."
DIFFERENCES = (
    "Where a difference lies above zero and its bar leaves zero out, the first of the two methods was better at that "
    "setting."
)
