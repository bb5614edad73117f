"""SQLSTATE codes: the standard's classes, PostgreSQL's (its appendix A), MySQL's and ODBC's."""

from __future__ import annotations

from eventbus.classify.kinds import Kind

_EXACT = {
    "01004": Kind.VALIDATION,
    "08001": Kind.CONNECTION,
    "23000": Kind.CONFLICT,
    "25006": Kind.UNAVAILABLE,  # a primary that became a standby
    "25P03": Kind.TIMEOUT,
    "25P04": Kind.TIMEOUT,
    "40001": Kind.CONTENTION,
    "40P01": Kind.CONTENTION,
    "40002": Kind.CONFLICT,
    "40003": Kind.CONNECTION,
    "42501": Kind.PERMISSION,
    "42000": Kind.BUG,
    "44000": Kind.VALIDATION,
    "53400": Kind.RESOURCE,
    "55P03": Kind.CONTENTION,
    "55006": Kind.CONTENTION,
    "55000": Kind.BUG,
    "57014": Kind.TIMEOUT,
    "57P04": Kind.BUG,
    "57P05": Kind.TIMEOUT,
    "58030": Kind.RESOURCE,
    "58P01": Kind.EXTERNAL_API,
    "70100": Kind.TIMEOUT,
    "P0001": Kind.VALIDATION,  # raised by the database's own functions, about what they were given
    "P0002": Kind.NOT_FOUND,
    "HYT00": Kind.TIMEOUT,
    "HYT01": Kind.TIMEOUT,
    "HY008": Kind.TIMEOUT,
    "IM002": Kind.BUG,
}

_CLASSES = {
    "02": Kind.NOT_FOUND,
    "07": Kind.BUG,
    "08": Kind.CONNECTION,
    "0A": Kind.BUG,
    "0B": Kind.BUG,
    "0L": Kind.PERMISSION,
    "0P": Kind.PERMISSION,
    "20": Kind.BUG,
    "21": Kind.BUG,
    "22": Kind.VALIDATION,
    "23": Kind.CONFLICT,
    "24": Kind.BUG,
    "25": Kind.BUG,
    "26": Kind.BUG,
    "27": Kind.CONFLICT,
    "28": Kind.PERMISSION,
    "2B": Kind.CONFLICT,
    "2D": Kind.BUG,
    "2F": Kind.BUG,
    "34": Kind.BUG,
    "38": Kind.BUG,
    "39": Kind.BUG,
    "3B": Kind.BUG,
    "3D": Kind.BUG,
    "3F": Kind.BUG,
    "40": Kind.CONTENTION,
    "42": Kind.BUG,
    "53": Kind.RESOURCE,
    "54": Kind.BUG,
    "55": Kind.CONTENTION,
    "57": Kind.UNAVAILABLE,
    "58": Kind.EXTERNAL_API,
    "72": Kind.CONTENTION,
    "F0": Kind.EXTERNAL_API,
    "HV": Kind.EXTERNAL_API,
    "P0": Kind.BUG,
    "XX": Kind.EXTERNAL_API,
}


def kind_of_sqlstate(state: str) -> Kind | None:
    """Return what a SQLSTATE means; None for success, and for the classes that only say "general error"."""
    return _EXACT.get(state) or _CLASSES.get(state[:2])


def is_sqlstate(value: object) -> bool:
    """Tell whether a value looks like a SQLSTATE: five capitals and digits."""
    return (
        type(value) is str
        and len(value) == 5
        and value.isascii()
        and value.isalnum()
        and value.upper() == value
    )
