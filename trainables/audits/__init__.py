"""What is asked of a model after its training: whether its answers give away whom it was trained on.

A newcomer is one module with one function that takes a `FineTuning` and a trained fit, and gives strict JSON.
"""
