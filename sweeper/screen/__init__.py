"""What a person sees of a sweep while it runs: on a terminal, in a log, in a notebook."""
