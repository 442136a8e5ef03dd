"""Data Factory's expression language, as the local stand-in evaluates it."""

import re
from typing import Any

import pytest

from local.adf.expressions.error import ExpressionError
from local.adf.expressions.scope import Scope
from local.adf.expressions.template import evaluate, evaluate_number
from local.json_value import JsonValue

SCOPE = Scope(
    pipeline={
        "RunId": "run-1",
        "GroupId": "group-1",
        "Pipeline": "load",
        "DataFactory": "adf-demo",
        "TriggerType": "Manual",
        "TriggeredByPipelineRunId": None,
        "parameters": {
            "text": "it's 5 o'clock",
            "odd name": 1,
            "number": 42,
            "ratio": 1.5,
            "yes": True,
            "nothing": None,
            "list": [1, "two", {"three": 3}],
            "object": {"a": {"b": [10, 20]}, "Ü": "ß"},
        },
    },
    variables={"state": "on", "items": ["x"]},
    activities={
        "Run": {
            "status": "Failed",
            "output": {"pipelineRunId": "child-1", "pipelineName": "load"},
            "error": {"errorCode": "BadRequest", "message": 'It said "no".', "failureType": "UserError"},
        },
        "Quick": {"status": "Succeeded", "output": {}},
        "Never": None,
    },
)
P = "pipeline().parameters"


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        # literals
        ("'text'", "text"),
        ("''", ""),
        ("'it''s'", "it's"),
        ("'}'", "}"),
        ("42", 42),
        ("-7", -7),
        ("2.5", 2.5),
        ("1e3", 1000.0),
        ("true", True),
        ("False", False),
        ("null", None),
        ("  concat( 'a' ,\n'b' ) ", "ab"),
        # the run
        ("pipeline().RunId", "run-1"),
        ("pipeline().GroupId", "group-1"),
        ("pipeline().Pipeline", "load"),
        ("pipeline().DataFactory", "adf-demo"),
        ("pipeline().TriggerType", "Manual"),
        ("pipeline()?.TriggeredByPipelineRunId", None),
        ("Pipeline().runid", "run-1"),
        (f"{P}.number", 42),
        (f"{P}['number']", 42),
        (f"{P}['odd name']", 1),
        (f"{P}.ratio", 1.5),
        (f"{P}.yes", True),
        (f"{P}.nothing", None),
        (f"{P}.list", [1, "two", {"three": 3}]),
        (f"{P}.object", {"a": {"b": [10, 20]}, "Ü": "ß"}),
        (f"{P}.list[0]", 1),
        (f"{P}.list[2].three", 3),
        (f"{P}.object.a['b'][1]", 20),
        (f"{P}.object[concat('', 'a')].b[sub(2, 1)]", 20),
        ("variables('state')", "on"),
        ("activity('Run').output.pipelineRunId", "child-1"),
        ("activity('Run').Status", "Failed"),
        ("activity('Run')?.Error?.Message", 'It said "no".'),
        # what is not there
        ("activity('Never')", None),
        ("activity('Never')?.output?.pipelineRunId", None),
        ("activity('Quick')?.output?.pipelineRunId", None),
        ("activity('Quick')?.error?.message", None),
        (f"{P}?.missing", None),
        (f"{P}?['missing']", None),
        (f"{P}.list?[7]", None),
        (f"{P}.nothing?.deeper?['still']?[0]", None),
        # texts
        ("concat('a', 1, true, null, createArray(1, 'b'))", 'a1True[1,"b"]'),
        ("toUpper('straße')", "STRASSE"),
        ("TOLOWER('ABC')", "abc"),
        ("startswith('Hello', 'hE')", True),
        ("endsWith('Hello', 'LO')", True),
        ("replace('a-b-c', '-', '')", "abc"),
        ("substring('hello', 1, 3)", "ell"),
        ("substring('hello', 2)", "llo"),
        ("split('a;b;;c', ';')", ["a", "b", "", "c"]),
        ("trim('  a ')", "a"),
        ("indexOf('hello', 'L')", 2),
        ("lastIndexOf('hello', 'l')", 3),
        ("length(guid())", 36),
        ("length(guid('N'))", 32),
        ("first(guid('B'))", "{"),
        # collections
        ("length('four')", 4),
        ("length(createArray(1, 2))", 2),
        ("empty('')", True),
        ("empty(null)", True),
        ("empty(json('[]'))", True),
        ("empty(json('{}'))", True),
        ("empty(' ')", False),
        ("contains('hello', 'ell')", True),
        ("contains('hello', 'ELL')", False),
        ("contains(createArray(1, 2), 2)", True),
        ("contains(createArray(1, 2), '2')", False),
        (f"contains({P}.object, 'a')", True),
        ("first(createArray('a', 'b'))", "a"),
        ("last('abc')", "c"),
        ("last(json('[]'))", None),
        ("join(createArray('a', 1, true), '|')", "a|1|True"),
        ("createArray(1, 'a', null)", [1, "a", None]),
        ("array('hello')", ["hello"]),
        # logic
        ("equals(1, 1.0)", True),
        ("equals(1, true)", False),
        ("equals('1', 1)", False),
        ("equals(null, null)", True),
        ("equals(json('{\"a\":[1]}'), json('{ \"a\" : [1.0] }'))", True),
        ("not(false)", True),
        ("and(true, true, false)", False),
        ("or(false, true)", True),
        ("if(equals(1, 2), 'Blob', 'Table')", "Table"),
        ("if(true, 'fine', activity('Never').output)", "fine"),
        ("coalesce(null, '', 'late')", ""),
        ("coalesce(null, null)", None),
        ("greater(10, 5)", True),
        ("greater('apple', 'banana')", False),
        ("greaterOrEquals(5, 5.0)", True),
        ("less(1, 2)", True),
        ("lessOrEquals(2, 1)", False),
        # arithmetic
        ("add(1, 2)", 3),
        ("add(1, 1.5)", 2.5),
        ("sub(1, 3)", -2),
        ("mul(6, 7)", 42),
        ("div(11, 5)", 2),
        ("div(-11, 5)", -2),
        ("div(11, 5.0)", 2.2),
        ("mod(-3, 2)", -1),
        # conversions
        ("string(10)", "10"),
        ("string(1.5)", "1.5"),
        (f"string({P}.object)", '{"a":{"b":[10,20]},"Ü":"ß"}'),
        ("int('10')", 10),
        ("int(true)", 1),
        ("float('10.333')", 10.333),
        ("bool(1)", True),
        ("bool('FALSE')", False),
        ("json('{\"a\": [1, 2.5, null]}')", {"a": [1, 2.5, None]}),
        ("json('[1]')", [1]),
        ("json(createArray(1))", [1]),
        ("uriComponent('https://contoso.com/a b?')", "https%3A%2F%2Fcontoso.com%2Fa%20b%3F"),
        ("base64('hello')", "aGVsbG8="),
        # times
        ("formatDateTime('2018-03-15T13:05:09.1234567Z')", "2018-03-15T13:05:09.1234560Z"),
        ("formatDateTime('2018-03-15T13:05:09Z', 'yyyy-MM-ddTHH:mm:ss')", "2018-03-15T13:05:09"),
        ("formatDateTime('2018-03-15T13:05:09+02:00', 'HH:mm')", "11:05"),
        ("formatDateTime('2018-03-05 01:05:09', 'd/M/yy h:m tt')", "5/3/18 1:5 AM"),
        ("formatDateTime('2018-01-02', 'D')", "Tuesday, January 2, 2018"),
        ("formatDateTime('2018-01-02', 'dddd, dd MMM yyyy ''at'' K')", "Tuesday, 02 Jan 2018 at Z"),
        ("formatDateTime('2018-01-02T03:04:05.678Z', 's')", "2018-01-02T03:04:05"),
        ("formatDateTime('2018-01-02T03:04:05.678Z', 'fff FFF')", "678 678"),
        ("formatDateTime('2018-01-02', 'R')", "Tue, 02 Jan 2018 00:00:00 GMT"),
        ("length(utcnow('yyyyMMdd'))", 8),
    ],
)
def test_an_expression_has_the_value_that_data_factory_gives_it(expression: str, expected: Any) -> None:
    """An expression alone keeps the type of its value."""
    value = evaluate(f"@{expression}", SCOPE)

    assert (type(expected), expected) == (type(value), value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("parameters[1]", "parameters[1]"),
        ("@@", "@"),
        (" @", " @"),
        ("@@{pipeline().RunId}", "@{pipeline().RunId}"),
        ("someone@example.com", "someone@example.com"),
        (f"Answer is: @{{{P}.number}}", "Answer is: 42"),
        (f"Answer is: @@{{{P}.number}}", f"Answer is: @{{{P}.number}}"),
        (f"@{{{P}.number}}", "42"),
        (f"@{{{P}.yes}}/@{{{P}.nothing}}/@{{{P}.list}}", 'True//[1,"two",{"three":3}]'),
        ("@{concat('{', '}')}!", "{}!"),
        ("@{concat('it''s }', '')}", "it's }"),
        ("@{pipeline().RunId}@{pipeline().Pipeline}", "run-1load"),
    ],
)
def test_expressions_inside_a_text_make_a_text(text: str, expected: str) -> None:
    """Interpolation gives text, lists and objects as JSON, null as nothing; @@ is a plain @."""
    assert expected == evaluate(text, SCOPE)


def test_expressions_are_evaluated_however_deep_they_stand() -> None:
    """Objects and lists are gone through, and an object of type Expression stands for its value."""
    given: JsonValue = {
        "body": {"type": "Expression", "value": f"@{P}.list"},
        "headers": {"x": ["@pipeline().RunId", 1, None]},
        "secret": {"type": "SecureString", "value": "@variables('state')"},
    }

    assert {
        "body": [1, "two", {"three": 3}],
        "headers": {"x": ["run-1", 1, None]},
        "secret": {"type": "SecureString", "value": "on"},
    } == evaluate(given, SCOPE)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        (f"{P}.object.b", "property 'b' doesn't exist, available properties are 'a, Ü'."),
        (
            "activity('Run').x",
            "The expression 'activity('Run').x' cannot be evaluated because property 'x' doesn't exist,",
        ),
        ("activity('Never').error.message", "cannot be evaluated because property 'error' cannot be selected."),
        ("activity('Quick')?.error.message", "cannot be evaluated because property 'message' cannot be selected."),
        ("variables('items')[3]", "because array index '3' is outside bounds (0, 0) of array."),
        ("json('[]')[0]", "because array index '0' cannot be selected from empty array."),
        ("variables('gone')", "the template variable 'gone' cannot be found."),
        ("activity('Gone')", "The activity 'Gone' that the expression refers to is not in this pipeline."),
        ("nonsense(1)", "The template function 'nonsense' is not defined or not valid."),
        ("concat('a'", "expected token 'RightParenthesis' and actual 'EndOfData'."),
        ("concat('a',)", "expected token 'Identifier' and actual 'RightParenthesis'."),
        ("pipeline().", "expected token 'Identifier' and actual 'EndOfData'."),
        ("name", "expected token 'LeftParenthesis' and actual 'EndOfData'."),
        ("'a' 'b'", "expected token 'EndOfData' and actual 'StringLiteral'."),
        ('activity("Run")', "the string character '\"' at position '9' is not expected."),
        ("toLower()", "The function 'toLower' expects 1 parameter(s). The function was invoked with '0' parameter(s)."),
        ("substring('a')", "The function 'substring' expects 2 to 3 parameter(s)."),
        ("length(1)", "to be an array or a string. The provided value is of type 'Integer'."),
        ("toLower(1)", "expects its parameter to be a string. The provided value is of type 'Integer'."),
        ("and(true, 'true')", "expects its parameter to be a boolean. The provided value is of type 'String'."),
        ("if('true', 1, 2)", "The function 'if' expects its parameter to be a boolean."),
        ("less(1, 'a')", "Found invalid parameter types: 'Integer', 'String'."),
        ("int('ten')", "The function 'int' was invoked with a parameter that is not valid."),
        ("bool('perhaps')", "The function 'bool' was invoked with a parameter that is not valid."),
        ("json('{')", "The function 'json' parameter is not valid. The provided value '{' cannot be parsed"),
        ("div(1, 0)", "Attempt to divide an integral or decimal number by zero in function 'div'."),
        ("substring('abc', 2, 5)", "The function 'substring' parameters are out of range"),
        ("formatDateTime('today')", "the value provided for date time string 'today' was not valid."),
        ("concat('" + "x" * 8192 + "')", "more than 8192 are not allowed."),
    ],
)
def test_an_expression_that_cannot_be_evaluated_says_why(expression: str, message: str) -> None:
    """The words are those of Data Factory, where they are known."""
    with pytest.raises(ExpressionError, match=re.escape(message)):
        evaluate(f"@{expression}", SCOPE)


def test_an_expression_inside_a_text_must_end() -> None:
    """A brace that is never closed is an error."""
    with pytest.raises(ExpressionError, match="expected token 'RightBrace' and actual 'EndOfData'"):
        evaluate("@{pipeline().RunId", SCOPE)


@pytest.mark.parametrize(("value", "expected"), [(3, 3.0), ("0.5", 0.5), (f"@{P}.number", 42.0)])
def test_a_number_may_be_text_or_an_expression(value: Any, expected: float) -> None:
    """Where a number is wanted, a text of digits will do."""
    assert expected == evaluate_number(value, SCOPE)


@pytest.mark.parametrize("value", ["soon", True, None, f"@{P}.list"])
def test_what_is_no_number_is_none(value: Any) -> None:
    """Neither a truth value nor a list is a number."""
    with pytest.raises(ExpressionError, match="is not a number"):
        evaluate_number(value, SCOPE)


def test_the_time_is_written_as_data_factory_writes_it() -> None:
    """`utcnow()` has seven digits behind the point, and ends in Z."""
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}Z", str(evaluate("@utcnow()", SCOPE)))
