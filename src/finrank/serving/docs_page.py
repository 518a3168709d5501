"""/docs: the OpenAPI description as a plain page. FastAPI's own pages load their scripts from another server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent / "page"


def write_docs(openapi: Mapping[str, Any]) -> str:
    """The page: each route with what it does and what it takes, and below them the schemas that they name."""
    routes = [
        _write_route(method, path, route)
        for path, methods in openapi["paths"].items()
        for method, route in methods.items()
    ]
    schemas = [
        f"<details id='{escape(name)}'><summary>{escape(name)}</summary><pre>{_json(schema)}</pre></details>"
        for name, schema in openapi["components"]["schemas"].items()
    ]
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>finrank: HTTP routes</title>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        "<meta name='color-scheme' content='light dark'></head><body><main><h1>finrank: HTTP routes</h1>"
        "<p>The same as OpenAPI: <a href='openapi.json'>openapi.json</a>. To try it out: <a href='./'>the page</a>.</p>"
        f"{''.join(routes)}<h2>Schemas</h2>{''.join(schemas)}</main></body></html>"
    )


def _write_route(method: str, path: str, route: Mapping[str, Any]) -> str:
    parts = [f"<h2>{method.upper()} {escape(path)}</h2><p>{escape(route.get('description', ''))}</p>"]
    if "requestBody" in route:
        parts.append(f"<p>Takes {_schema_link(route['requestBody'])}.</p>")
    answers = (f"<li>{escape(status)}: {_schema_link(answer)}</li>" for status, answer in route["responses"].items())
    return f"{''.join(parts)}<ul>{''.join(answers)}</ul>"


def _schema_link(part: Mapping[str, Any]) -> str:
    reference = part["content"]["application/json"]["schema"].get("$ref", "")
    name = escape(reference.rpartition("/")[2])
    return f"<a href='#{name}'>{name}</a>"


def _json(schema: Any) -> str:
    return escape(json.dumps(schema, indent=2, ensure_ascii=False))
