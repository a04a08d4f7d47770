"""What a conversion raises."""


class ConversionError(ValueError):
    """A checkpoint that cannot be converted; the message says what was expected, what came and what to do."""


__all__ = ["ConversionError"]
