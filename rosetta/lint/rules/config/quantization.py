"""C224: quantization_config contradicts the packed weights."""

from collections.abc import Iterator

from rosetta.containers.huggingface.quantised import QuantisedContainer
from rosetta.lint.rule import Fault, Rule
from rosetta.lint.subject import Subject

RULE = Rule(
    "C224",
    "quantization-config",
    "error",
    what="quantization_config states other bits or groups than the weights are packed in, or says of a packed module "
    "that it is not quantised.",
    why="The config was copied from another quantisation of the model. A loader makes room for what it says: it "
    "refuses the folder, or leaves the module's weights as they were drawn.",
    fix="Write what the tensors have, or quantise the model again.",
)


def faults(subject: Subject) -> Iterator[Fault]:
    """Each key that the tensors belie."""
    if isinstance(subject.container, QuantisedContainer):
        for wrong in subject.container.misstated:
            yield subject.at_file_key(wrong.key, wrong.said)
