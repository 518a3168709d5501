"""/docs: the OpenAPI description as a plain page. FastAPI's own pages load their scripts from another server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from typing import Any


def write_docs(openapi: Mapping[str, Any]) -> str:
    """The page: each endpoint with its purpose, request and responses, then the schemas that they name."""
    endpoints = [
        _write_endpoint(method, path, endpoint)
        for path, methods in openapi["paths"].items()
        for method, endpoint in methods.items()
    ]
    schemas = [
        f"<details id='{escape(name)}'><summary>{escape(name)}</summary>"
        f"<pre>{escape(json.dumps(schema, indent=2, ensure_ascii=False))}</pre></details>"
        for name, schema in openapi["components"]["schemas"].items()
    ]
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>finrank: HTTP endpoints</title>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        "<meta name='color-scheme' content='light dark'></head><body><main><h1>finrank: HTTP endpoints</h1>"
        "<p>The same as OpenAPI: <a href='openapi.json'>openapi.json</a>. To try it out: <a href='./'>the page</a>.</p>"
        f"{''.join(endpoints)}<h2>Schemas</h2>{''.join(schemas)}</main></body></html>"
    )


def _write_endpoint(method: str, path: str, endpoint: Mapping[str, Any]) -> str:
    parts = [f"<h2>{method.upper()} {escape(path)}</h2><p>{escape(endpoint.get('description', ''))}</p>"]
    if "requestBody" in endpoint:
        parts.append(f"<p>Request: {_schema_link(endpoint['requestBody'])}.</p>")
    items = (f"<li>{escape(status)}: {_schema_link(sent)}</li>" for status, sent in endpoint["responses"].items())
    return f"{''.join(parts)}<ul>{''.join(items)}</ul>"


def _schema_link(part: Mapping[str, Any]) -> str:
    reference = part["content"]["application/json"]["schema"].get("$ref", "")
    name = escape(reference.rpartition("/")[2])
    return f"<a href='#{name}'>{name}</a>"
