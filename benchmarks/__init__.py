"""Speed of the engine, measured beside transformers on the same weights. Random weights are enough for speed."""
