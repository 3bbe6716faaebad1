"""What a user must be allowed who has an ACL."""

# What a user must be allowed on ~srq:*, inner commands of scripts included: to put, get, ack and
# fail; for everything else; and for durable queues. README has the same lists.
PLAIN = (
    *("evalsha", "eval", "blmove", "get", "set", "time", "exists", "unlink"),
    *("hset", "hget", "hmget", "hdel", "hexists", "rename", "pttl", "zrem", "zscore", "zcount"),
    *("lpush", "rpush", "rpop", "llen", "lrem", "lrange", "lindex", "lpos"),
)
REST = (
    *("del", "hlen", "ltrim", "pexpire"),
    *("zadd", "zrange", "zrangebyscore", "zrevrangebyscore", "zcard"),
)
DURABLE = ("wait", "config|get", "info")
