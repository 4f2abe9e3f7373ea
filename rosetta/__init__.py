"""rosetta: where two files of one language model first differ, why, and a proof.

Importing this package imports nothing heavy; `torch` is loaded by the modules that compute.
"""

__version__ = "0.1.0"
