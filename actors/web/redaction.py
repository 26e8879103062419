"""What must not reach a log: e-mail addresses, keys and tokens, in URLs and in messages that hold URLs."""

from __future__ import annotations

import re

REDACTED = "REDACTED"
_SECRET_NAME = re.compile(
    r"^(?:.*[-_.])?(?:access|api|app|auth|client|private|secret|session|subscription|security|user|id|refresh|x)?[-_.]?"
    r"(?:key|apikey|token|secret|signature|sig|hmac|password|passwd|pwd|pass|credential|credentials|auth|authorization"
    r"|jwt|bearer|ticket|session|session[-_]?id|sid|jsessionid|phpsessid|email|e-mail|mail|mailto|awsaccesskeyid"
    r"|key-pair-id|policy|code|otp|nonce|assertion|samlrequest|samlresponse|md5|hash|hashed|x-amz-date)$",
    re.IGNORECASE,
)
_EMAIL = re.compile(
    r"[A-Za-z0-9._+\-]{1,64}(?:(?:@|%40|%2540)[A-Za-z0-9\-]{1,63}(?:\.[A-Za-z0-9\-]{1,63}){1,8})+", re.I
)
_JWT = re.compile(r"eyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{4,}(?:\.[A-Za-z0-9_\-]*)?")
_MATRIX = re.compile(r";(jsessionid|sid|phpsessid|sessionid|token)=[^;/?#&]*", re.IGNORECASE)
_USERINFO = re.compile(r"^([A-Za-z][A-Za-z0-9+.\-]*://)[^/?#]*@")
_URL_IN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]{1,12}://[^\s'\"<>]+")
_BEARER = re.compile(r"\b((?:bearer|basic|token)\s+)[A-Za-z0-9._~+/=\-]{8,}", re.IGNORECASE)


def _parameter(text: str) -> str:
    name, equals, value = text.partition("=")
    return f"{name}={REDACTED}" if equals and value and _SECRET_NAME.match(name) else text


def redact_url(url: str) -> str:
    """A URL for people and logs: where it leads is still seen, what opens doors is not.

    Credentials, values of parameters that carry keys, tokens, signatures or sessions, e-mail
    addresses and JSON web tokens become ``REDACTED``; the fragment goes.
    """
    url = _USERINFO.sub(rf"\1{REDACTED}@", url.partition("#")[0])
    head, mark, query = url.partition("?")
    head = _MATRIX.sub(rf";\1={REDACTED}", head)
    if mark:
        query = "&".join(_parameter(part) for part in query.split("&"))
    return _bare(head + mark + query)


def _bare(text: str) -> str:
    return _JWT.sub(REDACTED, _EMAIL.sub(REDACTED, text))


def redact_text(text: str) -> str:
    """A message for people and logs, with every URL in it redacted, and e-mail addresses and tokens gone."""
    text = _URL_IN_TEXT.sub(lambda found: redact_url(found[0]), text)
    return _bare(_BEARER.sub(rf"\1{REDACTED}", text))
