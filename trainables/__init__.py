"""One fine-tuning: parameters and data in, numbers and an adapter out. It knows nothing of sweeps.

Importing this package is cheap: torch is loaded by the modules that compute, never by the tables.
"""
