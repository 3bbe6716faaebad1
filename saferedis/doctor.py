"""What endangers the items of a queue: settings of its server, and what its keys hold.

    with SafeRedisQueue(url="redis://localhost:6379/0", name="orders") as queue:
        for finding in examine(queue):
            print(finding.severity, finding.problem, finding.advice, sep=": ")

It looks while the queue is used, in small steps, none of which keeps the server busy for more than
a few milliseconds.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from redis.exceptions import NoPermissionError, ResponseError

from saferedisqueue import (
    KEY_TYPES,
    SafeRedisQueue,
    Script,
    as_dict,
    check_count,
    decode_uid,
)

__all__ = ["NAMES", "Finding", "examine"]

Queue = SafeRedisQueue[Any]

OF_A_SLOT = ("call", "said", "last")  # of who calls, whose name follows
KEYS = {name: kind for name, kind in KEY_TYPES.items() if name not in OF_A_SLOT}
# In this order, what moves while it is looked for is met: queue, read from the left, shows each uid
# that stays in it, and one that is taken, on the right, stands in a place that follows.
PLACES = ("held", "queue", "handed", "priority", "delayed", "dead", "ackbuf", "backup", "leases")
SLOT = rb"(%s):[\w-]{12}" % "|".join(OF_A_SLOT).encode()

# What a user needs for put, get, ack and fail: each command, those inside of scripts too, as it may
# be sent, with K for a key. README has the same list.
RIGHTS = (
    *("evalsha x 1 K", "eval x 1 K", "blmove K K left right 1", "get K", "set K x", "incr K"),
    *("decr K", "del K", "time", "exists K", "hset K x x", "hsetnx K x x", "hget K x", "hmget K x"),
    *("hdel K x", "hexists K x", "unlink K", "rename K K", "pttl K", "zrem K x", "zscore K x"),
    *("zrange K 0 1", "zrangebyscore K 0 1", "lpush K x", "rpush K x", "rpop K"),
    *("lmove K K left right", "lset K 0 x", "llen K", "lrem K 0 x", "lindex K 0", "lpos K x"),
)
SPARED = ("blmove", "incr", "hsetnx")  # without these it is slower, but nothing fails

# CVE-2025-49844, with -46817 and -46819: a script can execute code on the server. Repaired on
# 3 October 2025 in these releases (https://github.com/redis/redis/security/advisories,
# GHSA-4789-qfc9-5f9q; https://github.com/valkey-io/valkey/releases/tag/8.1.4), and in all later
# lines; in older lines, such as Redis 7.0, never.
REPAIRED = {
    "redis": {(6, 2): 20, (7, 2): 11, (7, 4): 6, (8, 0): 4, (8, 2): 2},
    "valkey": {(7, 2): 11, (8, 0): 6, (8, 1): 4},
}


# Each sort of finding, by its name, and how severe it is. An error endangers items as they are; a
# warning does so only if something rarer happens besides, or costs time; a notice tells what could
# not be looked at, or what only people can judge.
NAMES = {
    "evicts-keys": "error",
    "no-append-only-file": "warning",
    "append-only-file-fails": "error",
    "append-only-file-late": "warning",
    "replica": "error",
    "missing-rights": "error",
    "missing-rights-for-speed": "warning",
    "memory-nearly-full": "warning",
    "known-weakness": "warning",
    "wrong-type": "error",
    "lock-without-expiry": "warning",
    "key-without-expiry": "warning",
    "unknown-keys": "notice",
    "items-nowhere": "error",
    "items-twice": "warning",
    "uids-without-item": "warning",
    "not-examined": "notice",
}


class Finding(NamedTuple):
    """Something that endangers items, or may.

    name      which sort it is, for programs: one of NAMES
    problem   what it is, in a line
    advice    what to do about it
    uids      of the items concerned, if it is about single ones
    key       the key concerned, if it is about one
    queue     the name of the queue, unless it is about the server
    repaired  whether it was mended just now
    """

    name: str
    problem: str
    advice: str
    uids: tuple[str, ...] = ()
    key: str | None = None
    queue: str | None = None
    repaired: bool = False

    @property
    def severity(self) -> str:
        """error, warning or notice: see NAMES."""
        return NAMES[self.name]


def examine(queue: Queue, limit: int = 1_000_000, repair: bool = False) -> list[Finding]:
    """What endangers the items of this queue, or may; an empty list if nothing was found.

    limit: items, and keys of the server, above which they are not looked at one by one.
    repair: make items ready that stand nowhere; take second copies of items, and uids of items that
        are gone, out of the list; let what should expire do so.
    """
    check_count("limit", limit, least=1)
    found: list[Finding] = []

    def look(what: str, check: Callable[..., Iterator[Finding]], *args: Any) -> None:
        try:
            found.extend(check(queue, *args))
        except ResponseError as error:  # not allowed, as a rule
            advice = f"allow this user to look, or ask who runs the server about {what}"
            found.append(
                Finding("not-examined", f"{what} could not be looked at ({error})", advice)
            )

    look("its settings (INFO)", _of_server)
    look("appendfsync (CONFIG GET)", _of_log)
    look("the rights of this user (ACL DRYRUN)", _of_rights)
    look("the types of its keys", _of_types)
    if not any(finding.name == "wrong-type" for finding in found):
        look("its items", _of_items, limit, repair)
    look("unknown keys", _of_keys, limit, repair)
    return found


# ---- the server ----------------------------------------------------------------------------------


def _of_server(queue: Queue) -> Iterator[Finding]:
    lines = queue.ask("INFO").decode("utf-8", "replace").splitlines()
    info = dict(line.split(":", 1) for line in lines if ":" in line)
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        problem = f"the server evicts keys when its memory is full (maxmemory-policy {policy})"
        yield Finding("evicts-keys", problem, "set maxmemory-policy noeviction")
    if info.get("aof_enabled") == "0":
        problem = "the server keeps no append-only file, so a restart loses items"
        yield Finding(
            "no-append-only-file", problem, "set appendonly yes, also in its configuration file"
        )
    if info.get("aof_last_write_status", "ok") != "ok":
        problem = "the server could not write its append-only file"
        yield Finding(
            "append-only-file-fails", problem, "look at its log, and whether its disk is full"
        )
    if info.get("role", "master") != "master":
        problem = "this server is a replica, on which nothing can be put or got"
        primary = f"{info.get('master_host')}:{info.get('master_port')}"
        yield Finding("replica", problem, f"give the URL of its primary, {primary}")
    used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    if used > 0.9 * most > 0:
        problem = f"{used / most:.0%} of the server's memory is used (maxmemory {most})"
        advice = "raise maxmemory, or consume: soon it will refuse puts"
        yield Finding("memory-nearly-full", problem, advice)
    yield from _of_version(info)


def _of_version(info: dict[str, str]) -> Iterator[Finding]:
    kind = "valkey" if "valkey_version" in info else "redis"
    version = info.get(f"{kind}_version", "")
    if not re.match(r"\d+\.\d+\.\d+", version):
        return
    major, minor, patch = (int(part) for part in re.findall(r"\d+", version)[:3])
    line, lines = (major, minor), REPAIRED[kind]
    if line > max(lines) or patch >= lines.get(line, math.inf):
        return
    better = [f"{a}.{b}.{c}" for (a, b), c in lines.items() if (a, b) >= line]
    problem = f"scripts can execute code on {kind.title()} {version} (CVE-2025-49844)"
    # Distributions such as Debian repair a package without raising its version.
    unless = "unless the package's changelog names that CVE as fixed"
    yield Finding("known-weakness", problem, f"upgrade to {better[0]} or later, {unless}")


def _of_log(queue: Queue) -> Iterator[Finding]:
    if as_dict(queue.ask("CONFIG", "GET", "appendfsync")).get("appendfsync") == "no":
        problem = "the server leaves to its system when the append-only file reaches the disk"
        yield Finding("append-only-file-late", problem, "set appendfsync everysec or always")


# ---- the rights ----------------------------------------------------------------------------------


def _of_rights(queue: Queue) -> Iterator[Finding]:
    user = queue.ask("ACL", "WHOAMI").decode("utf-8", "replace")
    key = queue.key("queue")

    def refusal(command: str, key: bytes) -> bytes:
        parts = (key if part == "K" else part for part in command.split())
        reply: bytes = queue.ask("ACL", "DRYRUN", user, *parts)
        return b"" if reply == b"OK" else reply

    try:
        # The command is looked at first; of a key that is refused too, nothing is said then.
        refused = [each.split()[0] for each in RIGHTS if b" to run " in refusal(each, key)]
    except NoPermissionError:
        raise
    except ResponseError:  # before Redis 7.0
        if _may_do_all(queue, user):
            return
        raise
    for name, some in (("missing-rights", set(refused) - set(SPARED)),
                       ("missing-rights-for-speed", set(refused) & set(SPARED))):  # fmt: skip
        if some:
            problem = f"the user {user} may not run {', '.join(sorted(some)).upper()}"
            rules = " ".join(f"+{each}" for each in sorted(some))
            yield Finding(name, problem, f"ACL SETUSER {user} {rules}", queue=queue.name)
    slot = (f"{kind}:{'x' * 12}" for kind in OF_A_SLOT)
    keys = [queue.key(each) for each in (*KEYS, *slot)]
    code = next((each for each in RIGHTS[:2] if each.split()[0] not in refused), None)
    barred = [each for each in keys if code and refusal(code, each)]
    if barred:
        problem = f"the user {user} may not read and write {_first(barred)}"
        advice = f"ACL SETUSER {user} ~{_pattern(queue).decode()}"
        only = decode_uid(barred[0]) if len(barred) == 1 else None
        yield Finding("missing-rights", problem, advice, (), only, queue.name)


def _may_do_all(queue: Queue, user: str) -> bool:
    told = queue.ask("ACL", "GETUSER", user)
    facts = told if isinstance(told, dict) else dict(zip(told[::2], told[1::2], strict=True))
    return {b"allcommands", b"allkeys"} <= set(facts[b"flags"])


def _pattern(queue: Queue) -> bytes:
    """What matches all keys of this queue; and those of queues named "<name>:more"."""
    return re.sub(rb"[][*?^\\-]", rb"\\\g<0>", queue.key("")) + b"*"


# ---- the keys ------------------------------------------------------------------------------------


def _of_types(queue: Queue) -> Iterator[Finding]:
    for name, kind in KEYS.items():
        key = queue.key(name).decode()
        is_one = queue.ask("TYPE", key).decode()
        if is_one not in (kind, "none"):
            problem = f"the key {key} is a {is_one}, not a {kind}"
            advice = "rename it, and find out what else uses this prefix"
            yield Finding("wrong-type", problem, advice, (), key, queue.name)
        elif name == "backuplock" and queue.ask("PTTL", key) == -1:
            problem = f"the key {key} does not expire: a 3.0.0 consumer died"
            advice = "the next get mends it in ten minutes or more; DEL it if no 3.0.0 is running"
            yield Finding("lock-without-expiry", problem, advice, (), key, queue.name)


_EXPIRING = 10_000  # keys of which it is asked whether they do


def _of_keys(queue: Queue, limit: int, repair: bool) -> Iterator[Finding]:
    # A name may contain colons: what looks like a key of a queue named "<name>:more" is one.
    prefix = queue.key("")
    known = re.compile(rb"(.*:)?(%s|%s)" % ("|".join(KEYS).encode(), SLOT), re.DOTALL)
    expiring = re.compile(rb"watch|%s" % SLOT)
    pattern = _pattern(queue)
    if queue.ask("DBSIZE") > limit:
        yield _too_many(queue, f"unknown keys below {queue.key('').decode()}", "keys", limit)
        return
    strange: set[bytes] = set()
    lasting: set[bytes] = set()
    asked = 0
    for keys in _scan(lambda *args: queue.ask("SCAN", args[0], "MATCH", pattern, *args[1:])):
        strange.update(key for key in keys if not known.fullmatch(key[len(prefix) :]))
        for key in filter(lambda key: expiring.fullmatch(key[len(prefix) :]), keys):
            asked += 1
            lasts = asked <= _EXPIRING and queue.ask("PTTL", key) == -1
            if lasts and queue.ask("TYPE", key) == b"string":  # of another type, it is told already
                lasting.add(key)
    if lasting:
        problem = f"{_some(lasting, 'keys')} there for ever, and should expire"
        advice = "they will now" if repair else "--repair lets them expire"
        for key in lasting if repair else ():
            # For whom it is said that somebody watches, others do not.
            queue.ask("PEXPIRE", key, 1000 if key == prefix + b"watch" else 3_600_000)
        yield Finding("key-without-expiry", problem, advice, queue=queue.name, repaired=repair)
    if strange:
        problem = f"{_some(strange, 'keys')} below {queue.key('').decode()} unknown to this version"
        advice = "find out what else uses this prefix, or a later version"
        yield Finding("unknown-keys", problem, advice, queue=queue.name)


# ---- the items -----------------------------------------------------------------------------------

UIDS = Script(
    "items",
    "cursor count",
    """
-- Returns what HSCAN does, without the payloads.
local reply, step = redis.pcall('HSCAN', items, cursor, 'COUNT', count, 'NOVALUES'), 1
if reply.err then  -- before Redis 7.4 and Valkey 8.0
  reply, step = redis.call('HSCAN', items, cursor, 'COUNT', count), 2
end
local uids = {}
for i = 1, #reply[2], step do uids[#uids + 1] = reply[2][i] end
return {reply[1], uids}
""",
)

STANDS = Script(
    "items queue handed ackbuf backup meta leases delayed priority held dead",
    "uid repair most",
    """
-- needs: ready unlimited
-- Returns the places where an item stands, one as often as it stands there, but for its ghosts, of
-- which is noted how many there are; nil if it is gone. With repair 'lost' one that stands nowhere
-- is made ready, as autoclean does; with 'copies' what of one that stands twice is in the list too,
-- or deeper in the list, is marked, to be taken out.
-- most: entries of a list to look at from either end. One that came since it was read through is
-- among them. In ARGV[rest] and what follows: lists, by their names, and where in them it was seen,
-- near which it is looked for too.
if repeated then return {} end
if redis.call('HEXISTS', items, uid) == 0 then return false end
local function entries(name, list)
  local found, known = {}, {}
  local function note(at)
    if not known[at] then found[#found + 1] = at end
    known[at] = true
  end
  for _, rank in ipairs({1, -1}) do
    local all = redis.call('LPOS', list, uid, 'RANK', rank, 'COUNT', 0, 'MAXLEN', most)
    for _, at in ipairs(all) do note(at) end
    if redis.call('LLEN', list) <= tonumber(most) then break end
  end
  for i = rest, #ARGV, 2 do
    local at, near = tonumber(ARGV[i + 1]), {}
    local first = math.max(at - 100, 0)
    if ARGV[i] == name and redis.call('LINDEX', list, at) == uid then
      note(at)
    elseif ARGV[i] == name then
      near = redis.call('LRANGE', list, first, at + 100)
    end
    for n, each in ipairs(near) do
      if each == uid then note(first + n - 1) end
    end
  end
  table.sort(found)
  return found
end
local places = {}
for name, list in pairs({ackbuf = ackbuf, backup = backup}) do
  for _ in ipairs(entries(name, list)) do places[#places + 1] = name end
end
local sets = {leases = leases, delayed = delayed, priority = priority, held = held, dead = dead}
for name, set in pairs(sets) do
  if redis.call('ZSCORE', set, uid) then places[#places + 1] = name end
end
-- Of those in the list the one that is taken first is the item, if it does not stand elsewhere.
local in_handed, in_queue = #entries('handed', handed), entries('queue', queue)
local count, about = in_handed + #in_queue, redis.call('HGET', meta, uid)
local deliveries, time, token, score, ghosts = meta_fields(about)
local copies = math.max(count - (places[1] and 0 or 1), 0)
if repair == 'lost' and #places + count == 0 then
  lift_memory_limit()
  make_ready(uid, about)
  answer(1, 1)
elseif repair == 'copies' and copies > 0 then
  lift_memory_limit()
  local n = math.min(copies, #in_queue)
  for i = 1, n do redis.call('LSET', queue, in_queue[i], 'srq:swept') end
  if copies > n then redis.call('LREM', handed, n - copies, uid) end
  if ghosts > 0 then
    local left = redis.call('LLEN', queue) > tonumber(most) and math.max(ghosts - copies, 0) or 0
    redis.call('HSET', meta, uid, meta_value(deliveries, time, token, score, left))
  end
  answer(1, 1)
end
for i = 1, count - math.min(copies, ghosts) do
  places[#places + 1] = i <= in_handed and 'handed' or 'queue'
end
return places
""",
)

SWEEP = Script(
    "items queue meta",
    "start count repair",
    """
-- needs: meta unlimited
-- Looks at `count` entries of the list, from `start` on. Returns how many there were, and how many
-- of a uid without an item among them: ghosts, which with repair '1' are marked, to be taken out.
if repeated then return {tonumber(count), tonumber(told)} end
local entries, found = redis.call('LRANGE', queue, start, start + count - 1), 0
for i, uid in ipairs(entries) do
  if uid ~= '' and uid ~= 'srq:swept' and redis.call('HEXISTS', items, uid) == 0 then
    found = found + 1
    if repair == '1' then
      if found == 1 then lift_memory_limit() end
      redis.call('LSET', queue, start + i - 1, 'srq:swept')
      local _, _, _, _, ghosts = meta_fields(redis.call('HGET', meta, uid))
      forget_meta(uid, math.max(ghosts - 1, 0))
    end
  end
end
if repair == '1' and found > 0 then answer(found) end
return {#entries, found}
""",
)

NOTES = Script(
    "items meta",
    "cursor count",
    """
-- needs: meta unlimited
-- Drops the notes of ghosts of items that are gone, where all ghosts are. Returns as HSCAN does.
local reply = redis.call('HSCAN', meta, cursor, 'COUNT', count)
lift_memory_limit()
for i = 1, #reply[2], 2 do
  local uid = reply[2][i]
  if select(5, meta_fields(reply[2][i + 1])) > 0 and redis.call('HEXISTS', items, uid) == 0 then
    redis.call('HDEL', meta, uid)
  end
end
return {reply[1], {}}
""",
)

_NEAR = 50_000  # entries of a list that LPOS goes through in about a millisecond
_FEW = 100  # and those at its ends where it is known in which places one stood just now
_MANY = 200  # items to look for in lists
_GHOSTS = 1000  # in the list, up to which they are no finding: a get drops those that it meets


# What is to go out of the list is marked first, wherever it stands, which takes no longer in a long
# list than in a short one: an entry of this text is one without an item, which a get drops. To take
# out each by itself would be to go through half the list each time.
_MARK = b"srq:swept"
_DEEP = 500_000  # entries of the list that are gone through for them from either end, in some 7 ms
_OUT = 2000  # marks that are taken out at a time


def _of_items(queue: Queue, limit: int, repair: bool) -> Iterator[Finding]:
    sizes = [queue.ask("HLEN", queue.key("items")), queue.ask("LLEN", queue.key("queue"))]
    if max(sizes) > limit:
        yield _too_many(queue, "items that stand nowhere or twice", "items", limit)
        return
    # Nothing stands still meanwhile. So what seems amiss is looked at again, by a script.
    uids = {
        uid
        for part in _scan(lambda *args: queue.run_script(UIDS, args[0], args[2]))
        for uid in part
    }
    seen: set[bytes] = set()
    twice: set[bytes] = set()
    for place in PLACES:
        for uid in _standing(queue, place):
            (twice if uid in seen else seen).add(uid)

    missing, most = uids - seen, _NEAR
    if len(missing) > _MANY:  # to look for each in long lists takes long: look through them again
        for place in PLACES:
            missing.difference_update(_standing(queue, place))
        most = 1000  # that one is missed twice, and then again, a get mends, as any second copy
    mend = "lost" if repair else ""
    lost = [uid for uid in missing if queue.run_script(STANDS, uid, mend, most) == []]
    if lost:
        problem = f"{_some(lost, 'items')} in no place from which items are delivered"
        advice = "they were made ready now" if repair else "--repair makes them ready"
        yield Finding("items-nowhere", problem, advice, _texts(lost), None, queue.name, repair)
    double, mend = [], "copies" if repair else ""
    for uid, near in _in_lists(queue, twice & uids).items():
        if len(queue.run_script(STANDS, uid, mend, _FEW, *near) or ()) > 1:
            double.append(uid)
    if double:
        problem = f"{_some(double, 'items')} in two places"
        advice = (
            f"they come of 3.0.0 consumers that fail items too late; a get drops the second copy, "
            f"{'and what of it was in the list is gone now' if repair else 'or --repair does'}"
        )
        yield Finding("items-twice", problem, advice, _texts(double), None, queue.name, repair)
    if len(seen - uids) > _GHOSTS and (count := _sweep(queue, repair)) > _GHOSTS:
        key = queue.key("queue").decode()
        problem = f"{count} uids of items that are gone stand in {key}"
        advice = "they were taken out now" if repair else "a get drops those it meets, --repair all"
        yield Finding("uids-without-item", problem, advice, (), key, queue.name, repair)
    if repair:
        _take_out_marked(queue)


def _sweep(queue: Queue, repair: bool) -> int:
    """How many uids of items that are gone stand in the list; with ``repair`` they are marked."""
    start = count = 0
    looked = 1
    while looked:
        looked, ghosts = queue.run_script(SWEEP, start, 500, int(repair))
        start += looked
        count += ghosts
    for _ in _scan(lambda *args: queue.run_script(NOTES, args[0], args[2])) if repair else ():
        pass
    return count


def _take_out_marked(queue: Queue) -> None:
    """Without what was marked nothing is missing, so this may be stopped, and sent twice."""
    key = queue.key("queue")
    for end in (1, -1):
        most = min(queue.ask("LLEN", key) // 2 + 1, _DEEP)
        search = ("LPOS", key, _MARK, "RANK", end, "COUNT", _OUT, "MAXLEN", most)
        while marked := queue.ask(*search):
            queue.ask("LREM", key, end * len(marked), _MARK)


def _in_lists(queue: Queue, uids: set[bytes]) -> dict[bytes, list[str | int]]:
    """Where in lists these stand: their names, and the places in them, in turn."""
    found: dict[bytes, list[str | int]] = {uid: [] for uid in uids}
    for place in (place for place in PLACES if uids and KEYS[place] == "list"):
        for at, uid in enumerate(_standing(queue, place)):
            if uid in found:
                found[uid] += (place, at)
    return found


def _standing(queue: Queue, place: str) -> Iterator[bytes]:
    key = queue.key(place)
    if KEYS[place] == "zset":
        for part in _scan(lambda *args: queue.ask("ZSCAN", key, *args)):
            yield from dict.fromkeys(part[::2])  # ZSCAN may give one twice
        return
    start = 0
    while part := queue.ask("LRANGE", key, start, start + 999):
        yield from part
        start += len(part)


def _scan(step: Callable[..., Any]) -> Iterator[list[bytes]]:
    """The parts that a SCAN of some sort gives, each asked for so that it does not take long."""
    cursor, count = b"0", 100
    while True:
        start = time.monotonic()
        cursor, part = step(cursor, "COUNT", count)
        yield part
        if cursor == b"0":
            return
        count = min(2 * count, 1000) if time.monotonic() - start < 0.002 else max(count // 2, 1)


def _too_many(queue: Queue, what: str, of: str, limit: int) -> Finding:
    problem = f"{what} were not looked for, because there are more than {limit} {of}"
    advice = "name a higher --limit when the server has time"
    return Finding("not-examined", problem, advice, queue=queue.name)


def _texts(names: list[bytes]) -> tuple[str, ...]:
    return tuple(decode_uid(name) for name in names)


def _some(names: set[bytes] | list[bytes], what: str) -> str:
    stand = "stand" if what == "items" else "are"
    return f"{len(names)} {what} ({_first(names)}) {stand}"


def _first(names: set[bytes] | list[bytes]) -> str:
    first = ", ".join(repr(decode_uid(name)) for name in sorted(names)[:3])
    return f"{first}{', ...' if len(names) > 3 else ''}"
