"""What stands around SafeRedisQueue and is never needed by it: a server of one's own."""
