"""Which part of a language each character of a text belongs to: Python, JSON, fences around them."""
