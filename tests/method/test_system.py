"""The graph: what is refused, in which order nodes are sampled, and what log-ratios add up to."""

from collections.abc import Sequence

import pytest
import torch

from sysdpo.base.errors import UserError
from sysdpo.method.component import LogProbs
from sysdpo.method.function import Function
from sysdpo.method.system import Node, System


class Lengths:
    """A made-up component: `log p_θ` is the value's length, `log p_ref` that of its parents together."""

    def __init__(self, name: str, trainable: bool = True):
        self.name = name
        self.trainable = trainable
        self.draws: list[list[int]] = []

    def sample(self, conditions: Sequence[tuple], *, seeds: Sequence[int]) -> list[str]:
        rows = zip(conditions, seeds, strict=True)
        return [f"{self.name}({','.join(condition)}|{seed})" for condition, seed in rows]

    def log_probs(self, conditions, values, *, draw) -> LogProbs:
        self.draws.append(list(draw))
        policy = torch.tensor([float(len(value)) for value in values])
        reference = torch.tensor([float(len("".join(condition))) for condition in conditions])
        return LogProbs(policy, reference)

    def trainable_parameters(self) -> list[torch.nn.Parameter]:
        return [torch.nn.Parameter(torch.zeros(1))] if self.trainable else []


def three_images() -> System:
    nodes = [
        Node("captions", "writer", ("text",)),
        *(Node(f"image_{n}", "painter", ("captions",)) for n in (1, 2, 3)),
    ]
    return System(("text",), nodes, {"writer": Lengths("w"), "painter": Lengths("p")})


def test_a_cycle_is_refused() -> None:
    nodes = [Node("a", "f", ("x", "b")), Node("b", "f", ("a",)), Node("c", "f", ("x",))]
    with pytest.raises(UserError, match=r"\['a', 'b'\] form a cycle"):
        System(("x",), nodes, {"f": Lengths("f")})


def test_a_node_without_its_component_is_refused() -> None:
    with pytest.raises(UserError, match="'painter', which the system does not have"):
        System(("x",), [Node("image", "painter", ("x",))], {"writer": Lengths("w")})


@pytest.mark.parametrize("name", ["x", "a"])
def test_two_variables_of_one_name_are_refused(name: str) -> None:
    nodes = [Node("a", "f", ("x",)), Node(name, "f", ("x",))]
    with pytest.raises(UserError, match=rf"\['{name}'\] are defined twice"):
        System(("x",), nodes, {"f": Lengths("f")})


def test_an_unknown_parent_is_refused() -> None:
    with pytest.raises(UserError, match=r"node 'a' has the parents \['y'\]"):
        System(("x",), [Node("a", "f", ("x", "y"))], {"f": Lengths("f")})


def test_a_node_without_parents_is_refused() -> None:
    with pytest.raises(UserError, match="node 'a' has no parents"):
        System(("x",), [Node("a", "f", ())], {"f": Lengths("f")})


def test_nodes_with_other_parents_share_a_component_by_their_templates() -> None:
    nodes = [
        Node("draft", "f", ("x",), template="answer {x} :"),
        Node("final", "f", ("x", "draft"), template="{draft} {{}} {x} after {draft}"),
    ]
    system = System(("x",), nodes, {"f": Lengths("f")})
    drawn = system.sample({"x": ["a", "b"]}, seeds=[1, 2])
    assert drawn["draft"] == ["f(answer a :|1)", "f(answer b :|2)"]
    draft = drawn["draft"][0]
    read = f"{draft} {{}} a after {draft}"
    assert drawn["final"][0].startswith(f"f({read}|")
    policy, reference = system.log_probs(drawn, draw=[0, 1])["f"]
    assert reference[0] == len("answer a :") + len(read)
    assert policy[0] == len(draft) + len(drawn["final"][0])


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{x} {z}", "and nothing else; it has 'z'"),
        ("{x} {y} {}", "and nothing else; it has ''"),
        ("{x} {y.real}", "and nothing else; it has 'y.real'"),
        ("{x}", "'y' is missing"),
        ("{x} {y:>9}", "and no format; 'y' has one"),
        ("{x} {y!r}", "and no format; 'y' has one"),
        ("{x} {y} {", "braces that stand for nothing doubled"),
    ],
)
def test_a_template_that_does_not_fit_its_parents_is_refused(template: str, said: str) -> None:
    with pytest.raises(
        UserError, match=r"node 'a': its template '.*' should have each of \['x', 'y'\] by name"
    ) as error:
        Node("a", "f", ("x", "y"), template=template)
    assert said in str(error.value)


def test_nodes_are_sampled_after_their_parents_in_whatever_order_they_are_given() -> None:
    nodes = [Node("c", "h", ("b", "x")), Node("b", "g", ("a",)), Node("a", "f", ("x",))]
    system = System(("x",), nodes, {name: Lengths(name) for name in "fgh"})
    assert [node.name for node in system.nodes] == ["a", "b", "c"]
    sampled = system.sample({"x": ["hi"]}, seeds=[7])
    assert sampled["a"][0].startswith("f(hi|")
    assert sampled["b"][0].startswith(f"g({sampled['a'][0]}|")
    assert sampled["c"][0].startswith(f"h({sampled['b'][0]},hi|")


def test_a_row_depends_on_its_own_seed_and_inputs_alone() -> None:
    system = three_images()
    together = system.sample({"text": ["a", "b", "c"]}, seeds=[1, 2, 3])
    for row, text in enumerate("abc"):
        alone = system.sample({"text": [text]}, seeds=[row + 1])
        assert {name: values[row] for name, values in together.items()} == {
            name: values[0] for name, values in alone.items()
        }


def test_nodes_of_one_component_get_seeds_of_their_own() -> None:
    sampled = three_images().sample({"text": ["a"]}, seeds=[1])
    assert len({sampled[f"image_{n}"][0] for n in (1, 2, 3)}) == 3


TWO_ROWS = {
    "text": ["x", "xyz"],
    "captions": ["ab", "cde"],
    "image_1": ["1", "12345"],
    "image_2": ["12", "1"],
    "image_3": ["123", "1234"],
}


def test_log_ratios_are_sums_over_the_nodes_of_each_component() -> None:
    ratios = three_images().log_ratios(TWO_ROWS, draw=[0, 1])
    # Writer: 2 − 1 and 3 − 3. Painter: (1 + 2 + 3) − 3 · 2 and (5 + 1 + 4) − 3 · 3.
    assert ratios["writer"].tolist() == [1.0, 0.0]
    assert ratios["painter"].tolist() == [0.0, 1.0]


def test_a_shared_component_counts_as_much_as_three_separate_ones() -> None:
    shared = three_images()
    nodes = [node if node.name == "captions" else Node(node.name, node.name, node.parents) for node in shared.nodes]
    painters = {f"image_{n}": Lengths("p") for n in (1, 2, 3)}
    separate = System(("text",), nodes, {"writer": Lengths("w"), **painters})
    ratios = separate.log_ratios(TWO_ROWS, draw=[0, 1])
    total = sum(ratios[name] for name in painters)
    torch.testing.assert_close(shared.log_ratios(TWO_ROWS, draw=[0, 1])["painter"], total)


def test_equal_draws_share_noise_at_a_node_and_other_nodes_have_their_own() -> None:
    system = three_images()
    system.log_ratios(TWO_ROWS, draw=[5, 5], components=["painter"])
    (draws,) = system.components["painter"].draws
    first, second, third = draws[0:2], draws[2:4], draws[4:6]
    assert all(pair[0] == pair[1] for pair in (first, second, third))
    assert len({first[0], second[0], third[0]}) == 3


def test_only_the_named_components_are_evaluated() -> None:
    system = three_images()
    assert set(system.log_ratios(TWO_ROWS, draw=[0, 0], components=["writer"])) == {"writer"}
    assert system.components["painter"].draws == []


def test_deterministic_nodes_add_nothing_and_train_nothing() -> None:
    nodes = [Node("a", "f", ("x",)), Node("b", "parser", ("a",))]
    system = System(("x",), nodes, {"f": Lengths("f"), "parser": Function(str.upper)})
    assert system.trainable == ["f"]
    sampled = system.sample({"x": ["q"]}, seeds=[0])
    assert sampled["b"] == [sampled["a"][0].upper()]
    assert system.log_ratios(sampled, draw=[0])["parser"].tolist() == [0.0]


def test_log_probabilities_of_another_shape_are_refused() -> None:
    system = three_images()
    system.components["writer"].log_probs = lambda conditions, values, *, draw: LogProbs(torch.zeros(1), torch.zeros(1))
    rows = system.sample({"text": ["a", "b"]}, seeds=[0, 1])
    with pytest.raises(UserError, match=r"component 'writer': its log-probabilities should have the shape \(2,\)"):
        system.log_probs(rows, draw=[0, 1])
