"""Which structured attributes are read: those that all use, or those of a family with codes of its own."""

from __future__ import annotations

from collections.abc import Callable

from eventbus.classify import databases, protocols
from eventbus.classify.coded import Evidence, answered, coded, stated

Reader = Callable[[BaseException], Evidence | None]

GENERAL: tuple[Reader, ...] = (protocols.operating_system, databases.sqlstate, databases.sqlite, coded)
"""In this order; the first that tells is believed."""

_AMQP = (protocols.amqp, protocols.operating_system)
_KAFKA = (protocols.kafka, coded)
_MAIL = (protocols.mail, protocols.operating_system)
_MYSQL = (databases.mysql,)
_REDIS = (protocols.redis,)

FAMILIES: dict[str, tuple[Reader, ...]] = {
    "MySQLdb": _MYSQL,
    "aioftp": (protocols.files,),
    "aiormq": _AMQP,
    "aiosmtplib": _MAIL,
    "amqp": _AMQP,
    "amqpstorm": _AMQP,
    "asyncmy": _MYSQL,
    "cimpl": _KAFKA,
    "clickhouse_connect": (databases.clickhouse,),
    "clickhouse_driver": (databases.clickhouse,),
    "confluent_kafka": _KAFKA,
    "consul": (stated(r"(\d{3}) "),),
    "cx_Oracle": (databases.oracle,),
    "ftplib": (protocols.files,),
    "grpc": (protocols.grpc,),
    "minio": (coded, stated(r"non-XML response from server; Response code: (\d{3})")),
    "mysql": _MYSQL,
    "oracledb": (databases.oracle,),
    "pika": _AMQP,
    "pymongo": (databases.mongodb,),
    "pymssql": (databases.sql_server,),
    "pymysql": _MYSQL,
    "pyodbc": (databases.odbc,),
    "redis": _REDIS,
    "smtplib": _MAIL,
    "sqlalchemy": (),
    "ssl": (protocols.tls,),
    "typesense": (stated(r"\[Errno (\d{3})\]"),),
    "urllib3": (*GENERAL, stated(r"too many (\d{3}) error responses")),
    "valkey": _REDIS,
    "websockets": (answered,),
    "zmq": (protocols.numbered,),
}
"""By the first module in the exception's MRO that is listed, or its package."""
