"""Ready-made patterns. They find what people write without a second thought; none finds what somebody disguises on purpose."""

from __future__ import annotations

from collections.abc import Callable, Mapping

__all__ = ["NAMED", "Check", "card", "iban"]

Check = Callable[[bytes], int | None]
"""Given what fits an expression: how many of its first bytes are it, or None."""

_LENGTHS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BI": 27, "BR": 29,
    "BY": 28, "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DJ": 27, "DK": 18, "DO": 28, "EE": 20, "EG": 29,
    "ES": 24, "FI": 18, "FK": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28,
    "HN": 28, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20,
    "LB": 28, "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19,
    "MN": 20, "MR": 27, "MT": 31, "MU": 30, "NI": 28, "NL": 18, "NO": 15, "OM": 23, "PK": 24, "PL": 28, "PS": 29,
    "PT": 25, "QA": 29, "RO": 24, "RS": 22, "RU": 33, "SA": 24, "SC": 31, "SD": 18, "SE": 24, "SI": 19, "SK": 24,
    "SM": 27, "SO": 23, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20,
    "YE": 30,
}  # fmt: skip
"""Characters of an account number, by country (the registry of ISO 13616)."""


def card(found: bytes) -> int | None:
    """Check a card number by Luhn's sum."""
    total = 0
    digits = [byte - 48 for byte in found if 48 <= byte <= 57]
    for position, digit in enumerate(reversed(digits)):
        if position % 2:
            total += digit * 2 - 9 if digit > 4 else digit * 2
        else:
            total += digit
    return len(found) if total % 10 == 0 else None


def iban(found: bytes) -> int | None:
    """Check an account number by its country's length and the remainder by 97; words that follow it are none of it."""
    length = _LENGTHS.get(found[:2].decode().upper())
    if length is None:
        return None
    compact = bytearray()
    end = 0
    while len(compact) < length:
        if end == len(found):
            return None
        if found[end] not in b" -":
            compact.append(found[end])
        end += 1
    if found[end : end + 1].isalnum():
        return None
    number = "".join(str(int(chr(byte), 36)) for byte in compact[4:] + compact[:4])
    return end if int(number) % 97 == 1 else None


def _grouped(separator: str) -> str:
    """Return the forms in which card numbers are printed: 4-4-4-4 with up to three more, 4-6-5, 4-6-4."""
    four = f"(?:{separator}[0-9]{{4}}){{3}}(?:{separator}[0-9]{{1,3}})?"
    return f"(?:{four}|{separator}[0-9]{{6}}{separator}[0-9]{{4,5}})"


NAMED: Mapping[str, tuple[str, Check | None]] = {
    "email": (r"[\pL\pN._%+'-]+@(?:[\pL\pN-]+\.)+\pL{2,24}", None),
    "card": (rf"\b[2-6][0-9]{{3}}(?:[0-9]{{9,15}}|{_grouped(' ')}|{_grouped('-')})\b", card),
    "iban": (r"(?i)\b[A-Z]{2}[0-9]{2}(?:[ -]?[A-Z0-9]){11,30}\b", iban),
    "phone": (
        r"(?:\+|\b00)[1-9](?:[ ()./-]{0,2}[0-9]){6,13}\b"
        r"|\b0[1-9](?:[ ()./-]{0,2}[0-9]){6,11}\b"
        r"|(?:\([2-9][0-9]{2}\) ?|\b[2-9][0-9]{2}[ .-])[0-9]{3}[ .-][0-9]{4}\b",
        None,
    ),
}
"""By name: the expression, and what else must hold."""
