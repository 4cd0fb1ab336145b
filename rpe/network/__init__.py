"""Networks: backbone -> embedding -> heads, put together in `model`."""
