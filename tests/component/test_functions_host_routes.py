"""Route templates."""

import pytest

from local.functions_host.routes import RouteError, parse_route


@pytest.mark.parametrize(
    ("template", "path", "expected"),
    [
        ("api/runs", "/api/runs", {}),
        ("api/runs", "/API/Runs/", {}),
        ("api/runs", "/api/runs/1", None),
        ("api/waits/{token}", "/api/waits/AbC", {"token": "AbC"}),
        ("api/waits/{token}", "/api/waits", None),
        ("api/waits/{token?}", "/api/waits", {}),
        ("api/waits/{token=none}", "/api/waits", {"token": "none"}),
        ("api/waits/{token}", "/api/waits/%C3%BC%20%2b", {"token": "ü +"}),
        ("api/waits/{token}", "/api/waits/a%2fb", {"token": "a%2Fb"}),
        ("api/files/{*path}", "/api/files/a/b%20c", {"path": "a/b c"}),
        ("api/files/{*path}", "/api/files", {}),
        ("{id:int}", "/12", {"id": "12"}),
        ("{id:int}", "/99999999999", None),
        ("{id:long:min(5)}", "/99999999999", {"id": "99999999999"}),
        ("{id:min(5)}", "/4", None),
        ("{id:max(5)}", "/five", None),
        ("{id:range(1,3)}", "/3", {"id": "3"}),
        ("{id:guid}", "/9b2f7a40-0000-4000-8000-000000000000", {"id": "9b2f7a40-0000-4000-8000-000000000000"}),
        ("{id:guid}", "/nope", None),
        ("{name:alpha}", "/abc1", None),
        ("{name:length(3)}", "/abc", {"name": "abc"}),
        ("{name:minlength(4)}", "/abc", None),
        ("{name:maxlength(2)}", "/abc", None),
        ("{flag:bool}", "/TRUE", {"flag": "TRUE"}),
        ("{number:double}", "/1.5", {"number": "1.5"}),
        ("{name:regex(^a+$)}", "/aaa", {"name": "aaa"}),
    ],
)
def test_match(template: str, path: str, expected: dict[str, str] | None) -> None:
    """A template takes the paths that fit it, and gives its parameters decoded."""
    assert expected == parse_route(template).match(path)


def test_precedence() -> None:
    """Literals are tried before constrained parameters, parameters and catch-alls."""
    templates = ["a/{*rest}", "a/{id}", "a/b", "a/{id:int}"]
    ordered = sorted(templates, key=lambda template: parse_route(template).precedence)
    assert ["a/b", "a/{id:int}", "a/{id}", "a/{*rest}"] == ordered


@pytest.mark.parametrize("template", ["a/{*rest}/b", "a/x{id}", "{id:nonsense}", "{id:min(x)}", "{id"])
def test_unreadable_templates(template: str) -> None:
    """A template that cannot be served is an error at the start, not a 404 later."""
    with pytest.raises(RouteError):
        parse_route(template)
