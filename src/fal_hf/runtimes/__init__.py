"""How a model's products are computed on this machine."""
