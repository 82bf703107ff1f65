"""A sweep is carried out: driver, attempt, queue, Ray Tune, actor."""
