"""From an expression's text to its parts.

expression = literal | function "(" [expression {"," expression}] ")" , {selection}
selection  = ["?"] ( "." name | "[" expression "]" )
"""

from functools import lru_cache

from local.adf.expressions.error import ExpressionError
from local.adf.expressions.syntax import Call, Literal, Node, Selection
from local.adf.expressions.tokens import Kind, Token, tokenize

# https://learn.microsoft.com/azure/azure-resource-manager/management/azure-subscription-service-limits#azure-data-factory-limits
_LONGEST = 8192

_CONSTANTS = {"true": True, "false": False, "null": None}


@lru_cache(maxsize=1024)
def parse(source: str) -> Node:
    """Read an expression, without its @. Raises ExpressionError."""
    if len(source) > _LONGEST:
        raise ExpressionError(f"The expression has {len(source)} characters; more than {_LONGEST} are not allowed.")
    parser = _Parser(source)
    node = parser.expression()
    parser.take(Kind.END)
    return node


class _Parser:
    """Reads tokens from left to right."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._tokens = tokenize(source)
        self._next = 0

    def expression(self) -> Node:
        """A value with what is selected of it."""
        node = self._value()
        while self._sees(Kind.DOT, Kind.LEFT_BRACKET, Kind.QUESTION_MARK):
            node = self._selection(node)
        return node

    def take(self, kind: Kind) -> Token:
        """The next token, which must be of this kind."""
        token = self._tokens[self._next]
        if token.kind is not kind:
            raise ExpressionError(
                f"Unable to parse expression '{self._source}': expected token '{kind}' and actual '{token.kind}'."
            )
        self._next += 1
        return token

    def _sees(self, *kinds: Kind) -> bool:
        return self._tokens[self._next].kind in kinds

    def _value(self) -> Node:
        if self._sees(Kind.STRING):
            return Literal(self.take(Kind.STRING).text)
        if self._sees(Kind.INTEGER):
            return Literal(int(self.take(Kind.INTEGER).text))
        if self._sees(Kind.FLOAT):
            return Literal(float(self.take(Kind.FLOAT).text))
        name = self.take(Kind.IDENTIFIER).text
        if name.lower() in _CONSTANTS and not self._sees(Kind.LEFT_PARENTHESIS):
            return Literal(_CONSTANTS[name.lower()])
        return Call(name.lower(), self._arguments())

    def _arguments(self) -> tuple[Node, ...]:
        self.take(Kind.LEFT_PARENTHESIS)
        arguments: list[Node] = []
        if not self._sees(Kind.RIGHT_PARENTHESIS):
            arguments.append(self.expression())
            while self._sees(Kind.COMMA):
                self.take(Kind.COMMA)
                arguments.append(self.expression())
        self.take(Kind.RIGHT_PARENTHESIS)
        return tuple(arguments)

    def _selection(self, whole: Node) -> Node:
        optional = self._sees(Kind.QUESTION_MARK)
        if optional:
            self.take(Kind.QUESTION_MARK)
        if self._sees(Kind.LEFT_BRACKET):
            self.take(Kind.LEFT_BRACKET)
            part = self.expression()
            self.take(Kind.RIGHT_BRACKET)
        else:
            self.take(Kind.DOT)
            part = Literal(self.take(Kind.IDENTIFIER).text)
        return Selection(whole, part, optional)
