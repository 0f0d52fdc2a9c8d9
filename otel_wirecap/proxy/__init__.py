"""The ready-made capturing proxy, and a backend to try it on."""
