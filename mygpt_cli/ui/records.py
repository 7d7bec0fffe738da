"""Inspection records as JSON."""

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def as_json(view: "DataclassInstance") -> dict[str, Any]:
    """Return a record for JSON: a token as its text and, in hexadecimal, its bytes; other bytes as text."""
    record: dict[str, Any] = _plain(dataclasses.asdict(view))
    return record


def token_fields(token: bytes, name: str = "") -> dict[str, str]:
    """Return a token for JSON, as text and as bytes in hexadecimal."""
    return {f"{name}text": _text(token), f"{name}bytes": token.hex()}


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return _text(value)
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if not isinstance(value, dict):
        return value
    record: dict[str, Any] = {}
    for name, one in value.items():
        if isinstance(one, bytes) and (name == "token" or name.endswith("_token")):
            record |= token_fields(one, name.removesuffix("token"))
        else:
            record[name] = _plain(one)
    return record


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
