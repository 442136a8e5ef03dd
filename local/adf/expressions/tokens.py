"""Expressions as tokens."""

import re
from dataclasses import dataclass
from enum import StrEnum

from local.adf.expressions.error import ExpressionError


class Kind(StrEnum):
    """What a token is, in the words of Data Factory's error messages."""

    IDENTIFIER = "Identifier"
    STRING = "StringLiteral"
    INTEGER = "IntegerLiteral"
    FLOAT = "FloatLiteral"
    LEFT_PARENTHESIS = "LeftParenthesis"
    RIGHT_PARENTHESIS = "RightParenthesis"
    LEFT_BRACKET = "LeftSquareBracket"
    RIGHT_BRACKET = "RightSquareBracket"
    COMMA = "Comma"
    DOT = "Dot"
    QUESTION_MARK = "QuestionMark"
    END = "EndOfData"


@dataclass(frozen=True, slots=True)
class Token:
    """One token. The text of a literal is its value, without quotes."""

    kind: Kind
    text: str


_PATTERNS = {
    Kind.STRING: r"'(?:[^']|'')*'",
    Kind.FLOAT: r"[+-]?\d+(?:\.\d+(?:[eE][+-]?\d+)?|[eE][+-]?\d+)",
    Kind.INTEGER: r"[+-]?\d+",
    Kind.IDENTIFIER: r"[A-Za-z_$][\w$]*",
    Kind.LEFT_PARENTHESIS: r"\(",
    Kind.RIGHT_PARENTHESIS: r"\)",
    Kind.LEFT_BRACKET: r"\[",
    Kind.RIGHT_BRACKET: r"\]",
    Kind.COMMA: ",",
    Kind.DOT: r"\.",
    Kind.QUESTION_MARK: r"\?",
}
_TOKEN = re.compile("|".join(f"(?P<{kind.name}>{pattern})" for kind, pattern in _PATTERNS.items()))
_SPACE = re.compile(r"\s*")


def tokenize(source: str) -> list[Token]:
    """The tokens of an expression; the last one is its end. Raises ExpressionError."""
    tokens: list[Token] = []
    position = _skip_space(source, 0)
    while position < len(source):
        match = _TOKEN.match(source, position)
        if match is None or match.lastgroup is None:
            raise ExpressionError(
                f"The expression '{source}' is not valid: the string character '{source[position]}' "
                f"at position '{position}' is not expected."
            )
        kind = Kind[match.lastgroup]
        tokens.append(Token(kind, match[0][1:-1].replace("''", "'") if kind is Kind.STRING else match[0]))
        position = _skip_space(source, match.end())
    return [*tokens, Token(Kind.END, "")]


def _skip_space(source: str, position: int) -> int:
    match = _SPACE.match(source, position)
    return match.end() if match else position
