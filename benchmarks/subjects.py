"""What is measured, in the order of the table, and what each needs to be installed."""

from __future__ import annotations

from typing import NamedTuple


class Subject(NamedTuple):
    """adapter: module of peers, and class; requires: for pip, () where this environment will do.

    python: the version that it needs, where that is not any.
    """

    title: str
    adapter: str
    requires: tuple[str, ...] = ()
    python: str = ""


SUBJECTS = {
    "own": Subject("this queue", "own:Blocking"),
    "own_asyncio": Subject("this queue, asyncio", "own:Asyncio"),
    "streams": Subject("Streams by hand", "streams:Blocking"),
    "streams_asyncio": Subject("Streams by hand, asyncio", "streams:Asyncio"),
    "list": Subject("list pattern by hand", "list:List"),
    "release3": Subject("3.0.0's commands, same client", "release3:Restated"),
    "release3_itself": Subject(
        "3.0.0 itself, redis-py 2.10",
        "release3_itself:Original",
        ("saferedisqueue==3.0.0", "redis<3"),
        "3.11",
    ),
    "rpqueue": Subject("rpqueue Data", "rpqueue:Data", ("rpqueue", "redis"), "3.11"),
    "redis_message_queue": Subject(
        "redis-message-queue", "redis_message_queue:Queue", ("redis-message-queue",)
    ),
    "saq": Subject("SAQ", "saq:Saq", ("saq[redis]", "typing_extensions")),
    "rq": Subject("RQ", "rq:Rq", ("rq",)),
    "arq": Subject("arq", "arq:Arq", ("arq",)),
    "dramatiq": Subject("dramatiq", "dramatiq:Dramatiq", ("dramatiq[redis]",)),
    "huey": Subject("huey", "huey:Huey", ("huey", "redis")),
    "celery": Subject("celery", "celery:Celery", ("celery[redis]",)),
    "taskiq": Subject("taskiq", "taskiq:Taskiq", ("taskiq", "taskiq-redis")),
    "bullmq": Subject("BullMQ for Python", "bullmq:BullMq", ("bullmq",)),
    "replay": Subject("its commands by redis.asyncio", "replay:Replay"),
    "socket": Subject("ECHO, bare TCP socket", "limits:Tcp"),
    "unix_socket": Subject("ECHO, bare unix socket", "limits:Unix"),
    "redis_benchmark": Subject("ECHO, redis-benchmark", "limits:RedisBenchmark"),
    "redis_py": Subject("ECHO, redis-py", "limits:RedisPy"),
    "evalsha": Subject("EVALSHA of nothing, redis-py", "limits:EvalSha"),
    "variadic": Subject("LPUSH and RPOP of 100", "limits:Variadic"),
}

SMALLEST = ("own", "streams", "list", "release3")
