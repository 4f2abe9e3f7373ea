"""Queries that grow with the logarithm of their position, as Ministral 3 and Mistral 4 say it."""

GROWING_QUERIES = {
    "rope_parameters.llama_4_scaling_beta": lambda c: c["attention.temperature_scale"].value,
    "rope_parameters.original_max_position_embeddings": (
        lambda c: c["attention.temperature_length"].value if c["attention.temperature_scale"].value else None
    ),
}
"""Keys of config.json of queries that grow with the logarithm of their position."""
