"""The evaluation endpoint of upstream services: OpenID AuthZEN Authorization API 1.0."""
