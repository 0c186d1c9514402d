"""Checks every exchange against the official description (tests/support/data/github-api.json)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import jsonschema_rs

DESCRIPTION: Final = Path(__file__).parent.parent / "data" / "github-api.json"
HOME: Final = "urn:github"


@dataclass(frozen=True, kw_only=True)
class Allowed:
    """A known difference between the description and what GitHub or its clients do."""

    operation: str  # "VERB template", or "*"
    says: str  # a part of the violation
    reason: str


ALLOWED: Final = (
    Allowed(
        operation="*",
        says="the response status 401 is not described",
        reason="No operation but GET /user lists what every one answers to a bad token.",
    ),
    Allowed(
        operation="*",
        says="the response status 403 is not described",
        reason="Missing permissions and limits are answered everywhere, and listed here and there.",
    ),
    Allowed(
        operation="*",
        says="the response status 404 is not described",
        reason="What a token may not see is 404 for every operation, also those that do not say.",
    ),
    Allowed(
        operation="*",
        says="the response status 422 is not described",
        reason="GitHub validates the input of every write; some writes do not list 422.",
    ),
    Allowed(
        operation="*",
        says="the response status 307 is not described",
        reason="A renamed repository answers 307 to every write; the description knows 301 only.",
    ),
    Allowed(
        operation="*",
        says="the response status 301 is not described",
        reason="A renamed repository answers 301 to every read; some reads do not list it.",
    ),
    Allowed(
        operation="*",
        says="/description: null is not of type",
        reason="A label without a description has null; lists of pull requests say string only.",
    ),
    Allowed(
        operation="POST /repos/{owner}/{repo}/issues/{issue_number}/labels",
        says="request: at top: [",
        reason="PyGithub sends labels as a bare array of names, which GitHub takes.",
    ),
    Allowed(
        operation="PUT /repos/{owner}/{repo}/issues/{issue_number}/labels",
        says="request: at top: [",
        reason="PyGithub sends labels as a bare array of names, which GitHub takes.",
    ),
    Allowed(
        operation="DELETE /repos/{owner}/{repo}/git/refs/{ref}",
        says="response 422: the media type application/json is not described",
        reason="The 422 of this operation is listed without its content.",
    ),
    Allowed(
        operation="GET /repos/{owner}/{repo}/contents/{path}",
        says="the media type application/vnd.github.raw",
        reason="The raw media type is documented in prose only.",
    ),
)


class Checker:
    """Knows the operations of the slice; compiles a schema when it is first needed."""

    def __init__(self) -> None:
        self._description: dict[str, Any] = _description()

    def request(
        self, verb: str, template: str, query: dict[str, str], body: Any, *, sent: bool
    ) -> list[str]:
        """What is wrong with a request; ``sent`` tells a missing body from JSON's null."""
        operation = self._operation(verb, template)
        if operation is None:
            return [f"{verb} {template} is not in the slice"]
        found = [*self._query(operation, query), *self._body(operation, body, sent=sent)]
        return _unexpected(f"{verb} {template}", [f"request: {each}" for each in found])

    def response(
        self, verb: str, template: str, status: int, media: str | None, body: Any
    ) -> list[str]:
        """What is wrong with a response; ``media`` is None where there is no content."""
        operation = self._operation(verb, template)
        if operation is None:
            return []
        found = self._response(operation, status, media, body)
        return _unexpected(f"{verb} {template}", [f"response {status}: {each}" for each in found])

    def _operation(self, verb: str, template: str) -> dict[str, Any] | None:
        found: dict[str, Any] | None = (
            self._description["paths"].get(template, {}).get(verb.lower())
        )
        return found

    def _query(self, operation: dict[str, Any], query: dict[str, str]) -> list[str]:
        parameters = map(self._resolved, operation.get("parameters", []))
        known = {each["name"]: each for each in parameters if each["in"] == "query"}
        found = [f"query {name} is unknown" for name in query if name not in known]
        for name, parameter in known.items():
            if name in query:
                value = _as_json(query[name], self._resolved(parameter["schema"]))
                wrong = _wrong(parameter["schema"], value)
                found += [f"query {name}: {each}" for each in wrong]
            elif parameter.get("required"):
                found.append(f"query {name} is missing")
        return found

    def _body(self, operation: dict[str, Any], body: Any, *, sent: bool) -> list[str]:
        described = operation.get("requestBody")
        if described is None:
            return ["has a body, and should have none"] if sent and body != {} else []
        if not sent:
            return ["the body is missing"] if described.get("required") else []
        schema = described["content"]["application/json"]["schema"]
        found = _wrong(schema, body)
        known = self._properties(schema)
        if isinstance(body, dict) and known is not None:
            found += [f"property {name} is unknown" for name in body if name not in known]
        return found

    def _properties(self, schema: dict[str, Any]) -> set[str] | None:
        """Every property any variant has, or None where anything goes."""
        schema = self._resolved(schema)
        variants = [each for key in ("oneOf", "anyOf", "allOf") for each in schema.get(key, [])]
        names = set(schema.get("properties", {}))
        for each in variants:
            names |= self._properties(each) or set()
        return names or None

    def _response(
        self, operation: dict[str, Any], status: int, media: str | None, body: Any
    ) -> list[str]:
        described = operation["responses"].get(str(status))
        if described is None:
            problem = {"$ref": "#/components/schemas/basic-error"}
            return [f"the response status {status} is not described", *_wrong(problem, body)]
        content = self._resolved(described).get("content", {})
        if media is None:
            return ["the content is missing"] if content else []
        if media not in content and status == 304:
            return []
        if media not in content:
            return [f"the media type {media} is not described"]
        return _wrong(content[media]["schema"], body) if media.endswith("json") else []

    def _resolved(self, node: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in node:
            _, _, kind, name = node["$ref"].split("/")
            node = self._description["components"][kind][name]
        return node


@cache
def _description() -> dict[str, Any]:
    read: dict[str, Any] = json.loads(DESCRIPTION.read_text(encoding="utf-8"))
    return read


@cache
def _registry() -> jsonschema_rs.Registry:
    components = _as_schema({"components": _description()["components"]})
    return jsonschema_rs.Registry([(HOME, components)], draft=jsonschema_rs.Draft4)


@cache
def _validator(schema: str) -> jsonschema_rs.Draft4Validator:
    return jsonschema_rs.Draft4Validator(
        _as_schema(json.loads(schema)), registry=_registry(), validate_formats=True
    )


def _wrong(schema: dict[str, Any], value: Any) -> list[str]:
    errors = _validator(json.dumps(schema)).iter_errors(value)
    return [
        f"at {'/'.join(map(str, error.instance_path)) or 'top'}: {error.message[:300]}"
        for error in errors
    ]


def _as_schema(node: Any) -> Any:
    """OpenAPI 3.0 as JSON Schema, draft 4: ``nullable`` is the one difference that matters."""
    if isinstance(node, list):
        return [_as_schema(each) for each in node]
    if not isinstance(node, dict):
        return node
    plain = {key: _as_schema(value) for key, value in node.items() if key != "nullable"}
    if isinstance(plain.get("$ref"), str):
        plain["$ref"] = HOME + plain["$ref"] if plain["$ref"].startswith("#") else plain["$ref"]
    if node.get("nullable") is True:
        return {"anyOf": [plain, {"type": "null"}]}
    return plain | ({"nullable": plain["nullable"]} if "nullable" in plain else {})


def _as_json(text: str, schema: dict[str, Any]) -> Any:
    """A query's text as the type the schema asks for, or as it is where it cannot be that."""
    kinds = [schema.get("type"), *(each.get("type") for each in schema.get("oneOf", []))]
    if "integer" in kinds and text.lstrip("-").isdigit():
        return int(text)
    if "boolean" in kinds and text.lower() in ("true", "false"):
        return text.lower() == "true"  # Python's clients write True
    return text


def _unexpected(operation: str, found: list[str]) -> list[str]:
    return [
        f"{operation}: {each}"
        for each in found
        if not any(a.operation in ("*", operation) and a.says in each for a in ALLOWED)
    ]
