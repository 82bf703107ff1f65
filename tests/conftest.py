"""What all tests share. Time limits are pytest's business: a busy machine is not a wrong answer."""

from hypothesis import settings

settings.register_profile("sweeper", deadline=None)
settings.load_profile("sweeper")
