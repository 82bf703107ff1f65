"""Images to pixels: decoding, the transform, and the cache of what was decoded."""
