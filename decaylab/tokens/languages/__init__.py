"""Which part of a language a character belongs to: Python, JSON, the fences around them."""
