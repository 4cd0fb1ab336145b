"""Networks: backbone -> embedding -> heads, assembled in `model`."""
