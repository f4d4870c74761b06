"""Gateways: machines with a domain and certificates, behind which services are reached."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from dstack.model.base import Integer, Model, one_of, read_all_by, read_by
from dstack.model.configurations.parts import Name
from dstack.model.profile import BackendName
from dstack.values.grammar import Invalid, show
from dstack.values.interpolate import interpolate
from dstack.values.names import parse_tags

PROJECT_VARIABLE = "run.project_name"

_DOMAIN = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9])?\.)+[a-z0-9-]{2,63}", re.ASCII | re.IGNORECASE)


def _domain(value: Any) -> str:
    if not isinstance(value, str):
        raise Invalid(f"{show(value)} is not a domain, expected for instance `example.com`")
    try:
        plain = interpolate(value, lambda name: "project" if name == PROJECT_VARIABLE else None)
    except Invalid as error:
        raise Invalid(f"{error}; only ${{{{ {PROJECT_VARIABLE} }}}} is known here") from None
    if len(plain) > 253 or not _DOMAIN.fullmatch(plain):
        raise Invalid(f"{show(value)} is not a domain, expected for instance `example.com` (no `https://`, no `*.`)")
    return value


class LetsEncryptGatewayCertificate(Model):
    type: Literal["lets-encrypt"] = "lets-encrypt"


class ACMGatewayCertificate(Model):
    type: Literal["acm"] = "acm"
    arn: Annotated[str, Field(min_length=1)]


class GCPCertificateManagerGatewayCertificate(Model):
    type: Literal["gcp-cm"] = "gcp-cm"
    name: Annotated[str, Field(min_length=1)]


class ALBGatewayLoadBalancer(Model):
    type: Literal["alb"] = "alb"


_CERTIFICATES = ("lets-encrypt", "acm", "gcp-cm")


def _certificate_form(value: Any) -> str:
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return f"~{kind}" if kind in _CERTIFICATES else "~lets-encrypt"


Certificate = Annotated[
    Annotated[LetsEncryptGatewayCertificate, Tag("~lets-encrypt")]
    | Annotated[ACMGatewayCertificate, Tag("~acm")]
    | Annotated[GCPCertificateManagerGatewayCertificate, Tag("~gcp-cm")],
    Discriminator(_certificate_form),
    one_of("type", _CERTIFICATES, "lets-encrypt"),
]


class GatewayConfiguration(Model):
    """`certificate` None is no HTTPS on the gateway itself; `default` None leaves the project's default as it is."""

    type: Literal["gateway"] = "gateway"
    name: Name | None = None
    default: bool | None = None
    backend: BackendName
    region: Annotated[str, Field(min_length=1)]
    instance_type: Annotated[str, Field(min_length=1)] | None = None
    domain: Annotated[str | None, read_by(_domain)] = None
    public_ip: bool = True
    load_balancer: ALBGatewayLoadBalancer | None = None
    certificate: Certificate | None = LetsEncryptGatewayCertificate()
    replicas: Annotated[Integer, Field(ge=1)] | None = None
    tags: Annotated[dict[str, str] | None, read_all_by(parse_tags)] = None

    @model_validator(mode="after")
    def _certificate_agrees(self) -> Self:
        if not isinstance(self.certificate, LetsEncryptGatewayCertificate):
            return self
        if not self.public_ip:
            raise Invalid(
                "`lets-encrypt` certificates need a public address, expected another `certificate`, or `null`",
                at=("public_ip",),
            )
        if (self.replicas or 1) > 1:
            raise Invalid(
                "`lets-encrypt` certificates are for one replica, expected another `certificate`, or `null`",
                at=("replicas",),
            )
        return self
