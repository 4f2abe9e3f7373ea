"""Two models, stage by stage: whether they differ and where. As a function, `rosetta.compare(left, right)`."""

from rosetta import make_callable

make_callable(__name__)
