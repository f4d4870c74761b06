"""Accelerators' names: from the product names that tools print to what people write in configurations."""

from __future__ import annotations

import re

_NVIDIA = "GB300 GB200 GH200 B300 B200 H200 H100 H800 H20 A800 A100 A10G A10M A10 A16 A2 A30 A40 L40S L40 L20 L4"
_NVIDIA += " V100S V100 P100 P40 P4 T4G T4 K80 M60"
_RTX_PRO = re.compile(r"RTX PRO (\d{4})")
_RTX_ADA = re.compile(r"RTX (\d{4}) (?:SFF )?ADA|RTX(\d{4}) ?ADA")
_RTX_A = re.compile(r"(?:RTX|QUADRO RTX)? ?\b(A[1-6]000|A5500|A4500)\b")
_GEFORCE = re.compile(r"\b(RTX|GTX) (\d{4}) ?(TI)? ?(SUPER)?")
_QUADRO = re.compile(r"QUADRO (RTX \d{4}|[A-Z]?\d{3,4})")
_AMD = re.compile(r"\bMI ?(\d{2,3}[AXP]?)\b")
_RADEON = re.compile(r"\b(?:RADEON )?(?:(RX) (\d{4}) ?(XTX|XT|GRE)?|(PRO) (W\d{4}))\b")
_GAUDI = {"HL-1": "Gaudi", "HL-20": "Gaudi", "HL-2": "Gaudi2", "HL-3": "Gaudi3"}


def short_name(vendor: str, product: str) -> str:
    """`H100` of `NVIDIA H100 80GB HBM3`; a name that is not known stays, without the vendor's."""
    maker = {"nvidia": _nvidia, "amd": _amd, "intel": _intel, "tenstorrent": _tenstorrent}.get(vendor)
    name = maker(product.upper().replace("(R)", "").replace("\u2122", "")) if maker else ""
    return name or re.sub(r"^(NVIDIA|Tesla|AMD|Intel)\s+", "", product).strip()


def _nvidia(text: str) -> str:
    pro = _RTX_PRO.search(text)
    if pro:
        return "RTXPRO" + pro.group(1)
    ada = _RTX_ADA.search(text)
    if ada:
        return "RTX%sAda" % (ada.group(1) or ada.group(2))
    workstation = _RTX_A.search(text)
    if workstation:
        return workstation.group(1)
    game = _GEFORCE.search(text)
    if game and "QUADRO" not in text:
        return "".join(part.capitalize() if part == "TI" else part for part in game.groups() if part)
    quadro = _QUADRO.search(text)
    if quadro:
        return "Quadro" + quadro.group(1).replace(" ", "")
    if re.search(r"\bH[12]00 NVL\b", text):
        return text[text.index("H") :].split()[0] + "NVL"
    words = re.split(r"[ \-_]+", text)
    return next((name for name in _NVIDIA.split() if name in words), "")


def _amd(text: str) -> str:
    instinct = _AMD.search(text)
    if instinct:
        return "MI" + instinct.group(1)
    radeon = _RADEON.search(text)
    return "".join(part for part in radeon.groups() if part) if radeon else ""


def _intel(text: str) -> str:
    return next((_GAUDI[prefix] for prefix in sorted(_GAUDI, key=len, reverse=True) if text.startswith(prefix)), "")


def _tenstorrent(text: str) -> str:
    """`n300` of `n300 L`: the side of the board says nothing about what it is."""
    return text.split()[0].lower() if text else ""
