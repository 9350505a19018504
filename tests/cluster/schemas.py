"""Checks a document against the models of a current Kubernetes: an unknown field is an error."""

from typing import Any

from kubernetes.aio.client import models


def model_of(document: dict[str, Any]) -> Any:
    """The client's model of its kind, in its version."""
    version = document["apiVersion"].rpartition("/")[2]
    return getattr(models, f"{version.capitalize()}{document['kind']}")


def check(document: dict[str, Any]) -> None:
    """Raises pydantic's ValidationError."""
    model_of(document).model_validate(document, by_name=False, strict=True)
