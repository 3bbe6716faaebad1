"""What a user must be allowed who has an ACL."""

# What a user must be allowed on ~srq:*, inner commands of scripts included: to put, get, ack and
# fail; for everything else; and for durable queues. README has the same lists.
PLAIN = (
    *("evalsha", "eval", "blmove", "get", "set", "incr", "decr", "del", "time", "exists"),
    *("hset", "hsetnx", "hget", "hmget", "hdel", "hexists", "unlink", "rename", "pttl"),
    *("zrem", "zscore", "zrange", "zrangebyscore"),
    *("lpush", "rpush", "rpop", "lmove", "lset", "llen", "lrem", "lindex", "lpos"),
)
REST = ("hlen", "ltrim", "lrange", "pexpire", "zadd", "zrevrangebyscore", "zcount", "zcard")
DURABLE = ("wait", "config|get", "info")
