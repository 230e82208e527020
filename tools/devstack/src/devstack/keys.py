"""Generated signing keys."""

import json

from joserfc.jwk import ECKey


def new_internal_key() -> tuple[str, str]:
    """A new ES256 key that signs tokens between services: private JWK and public JWKS."""
    key = ECKey.generate_key("P-256", {"use": "sig", "alg": "ES256"})
    key.ensure_kid()
    return json.dumps(key.as_dict(private=True)), json.dumps({"keys": [key.as_dict(private=False)]})
