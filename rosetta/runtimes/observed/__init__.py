"""A foreign runtime observed: its graph, the stages in it, their values. No runtime is named here."""
