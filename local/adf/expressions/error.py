"""What goes wrong in an expression."""


class ExpressionError(Exception):
    """An expression that cannot be evaluated; it fails the activity that holds it, as in Data Factory."""
