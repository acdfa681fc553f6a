"""Rows in other formats (Alpaca, ShareGPT, DPO, ...): one table to recognise and to convert them."""

from maas_client.dataset.formats.fields import ConversionError, Row, UnwantedAnswerError
from maas_client.dataset.formats.registry import (
    FORMAT_BY_NAME,
    FORMATS,
    MESSAGES,
    RowFormat,
    convert_pair,
    convert_row,
    detect_any_format,
    detect_other_format,
    is_preference_row,
)

__all__ = [
    "FORMATS",
    "FORMAT_BY_NAME",
    "MESSAGES",
    "ConversionError",
    "Row",
    "RowFormat",
    "UnwantedAnswerError",
    "convert_pair",
    "convert_row",
    "detect_any_format",
    "detect_other_format",
    "is_preference_row",
]
