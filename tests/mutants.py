"""What may go wrong in saferedisqueue.py, and the test that would tell.

`python tests/mutants.py -j 2` breaks a copy of the module in each of these ways, in turn, and runs
the test named: it must fail. Words select breakages by name; `--list` only shows them.

Whoever changes the module so that a text below is no longer there is told, and changes it here too.
Whoever fixes a defect adds the way back to it.
"""

from __future__ import annotations

import sys

from mutation import Mutant, main

IN_ALL_SCRIPTS = [
    Mutant(
        "a call sent again is run again",
        "_COMMON",
        "said = later == 0 and said",
        "said = false",
        "tests/test_recovery.py::test_a_put_sent_again_after_its_item_was_acked_stores_nothing",
    ),
    Mutant(
        "a call that comes late is not refused",
        "_COMMON",
        "if later > 0 then",
        "if false then",
        "tests/test_scripts.py::test_an_earlier_call_that_arrives_late_is_refused",
    ),
    Mutant(
        "answers are kept for ever",
        "_COMMON",
        ", 'PX', '3600000'",
        "",
        "tests/test_scripts.py::test_answers_are_kept_for_a_while_only",
    ),
    Mutant(
        "an older answer is taken for that of the call before",
        "_COMMON",
        "later == -1 and said or ''",
        "said or ''",
        "tests/test_scripts.py::test_an_undo_of_a_claim_that_never_came_undoes_nothing_else",
    ),
    Mutant(
        "a token is compared as the beginning of another",
        "_META",
        "' ' .. token .. ' '",
        "' ' .. token",
        "tests/test_scripts.py::test_a_token_that_is_not_the_latest_changes_nothing",
    ),
    Mutant(
        "a token is compared as a pattern",
        "_META",
        ", 1, true)",
        ")",
        "tests/test_scripts.py::test_a_token_is_no_pattern",
    ),
    Mutant(
        "the bell is rung beside what is ready",
        "_RING",
        "if redis.call('EXISTS', queue) == 0 then",
        "if true then",
        "tests/test_primitive.py::test_there_is_at_most_one_bell_and_it_goes",
    ),
    Mutant(
        "the bell is not rung for what comes back",
        "_READY",
        "score_of(about), uid)\n    ring()",
        "score_of(about), uid)",
        "tests/test_scripts.py::test_an_item_of_a_priority_that_comes_back_rings_the_bell",
    ),
    Mutant(
        "fail, touch and bury are not fenced",
        "_HELD",
        "if token ~= '' and not is_token_of(token, about) then return nil end",
        "",
        "tests/test_scripts.py::test_a_token_that_is_not_the_latest_changes_nothing",
    ),
    Mutant(
        "a uid without an item is taken for one in flight",
        "_HELD",
        "if redis.call('HEXISTS', items, uid) == 0 then return nil end",
        "",
        "tests/test_scripts.py::test_what_is_not_in_flight_stays_as_it_is",
    ),
    Mutant(
        "every item is taken for one in flight",
        "_HELD",
        "if redis.call('LPOS', list, uid, 'RANK', -1) then",
        "if true then",
        "tests/test_scripts.py::test_what_is_not_in_flight_stays_as_it_is",
    ),
    Mutant(
        "what is failed stays with its holder too",
        "_HELD",
        "redis.call('LREM', place, -1, uid)",
        "",
        "tests/test_scripts.py::test_fail_goes_to_the_back_and_hand_back_to_the_front",
    ),
    Mutant(
        "what is given back keeps its lease too",
        "_HELD",
        "redis.call('ZREM', leases, uid)",
        "",
        "tests/test_primitive.py::test_leaving_consume_gives_back_what_is_out",
    ),
    Mutant(
        "the token of what is failed is not retired",
        "_HELD",
        "' 0 - '",
        "' 0 tok '",
        "tests/test_scripts.py::test_fail_goes_to_the_back_and_hand_back_to_the_front",
    ),
    Mutant(
        "ack is not fenced",
        "_FORGET",
        "if token == '' or abouts[j] and string.find(abouts[j], noted, 1, true) then",
        "if true then",
        "tests/test_scripts.py::test_a_token_that_is_not_the_latest_changes_nothing",
    ),
    Mutant(
        "ack leaves meta",
        "_FORGET",
        "redis.call('HDEL', meta, unpack(mine))",
        "",
        "tests/test_scripts.py::test_ack_removes_an_item_wherever_it_stands",
    ),
    Mutant(
        "ack leaves the lease",
        "_FORGET",
        "redis.call('ZREM', leases, unpack(mine)) < #mine",
        "true",
        "tests/test_scripts.py::test_ack_removes_an_item_wherever_it_stands",
    ),
    Mutant(
        "ack removes the place before the item",
        "_FORGET",
        "local there =",
        "redis.call('LREM', ackbuf, -1, mine[1])\n  local there =",
        "tests/test_scripts.py::test_stopped_at_any_command_a_script_loses_nothing[None-ack]",
    ),
    Mutant(
        "acks of many go by the token of the first",
        "_FORGET",
        "noted = ' ' .. token .. ' '",
        "noted = noted or ' ' .. token .. ' '",
        "tests/test_scripts.py::test_ack_of_many_is_fenced_for_each_and_leaves_nothing_of_them",
    ),
    Mutant(
        "acks of many leave what is delayed",
        "_FORGET",
        "{delayed, priority, dead}",
        "{priority, dead}",
        "tests/test_scripts.py::test_ack_of_many_is_fenced_for_each_and_leaves_nothing_of_them",
    ),
    Mutant(
        "acks of many leave leases",
        "_FORGET",
        "unpack(mine)) < #mine",
        "mine[1]) < #mine",
        "tests/test_scripts.py::test_ack_of_many_is_fenced_for_each_and_leaves_nothing_of_them",
    ),
    Mutant(
        "what is handed back was counted",
        "_RETURN",
        "deliveries(about) - uncounted",
        "deliveries(about)",
        "tests/test_scripts.py::test_fail_goes_to_the_back_and_hand_back_to_the_front",
    ),
    Mutant(
        "what is handed back goes to the back",
        "_RETURN",
        "make_ready(uid, about, 'RPUSH')",
        "make_ready(uid, about)",
        "tests/test_scripts.py::test_fail_goes_to_the_back_and_hand_back_to_the_front",
    ),
    Mutant(
        "hand back removes before it adds",
        "_RETURN",
        "make_ready(uid, about, 'RPUSH')",
        "leave(place, uid)\n  make_ready(uid, about, 'RPUSH')",
        "tests/test_scripts.py::test_stopped_at_any_command_a_script_loses_nothing[None-hand back]",
    ),
    Mutant(
        "a woken uid is taken from who claimed it in the same millisecond",
        "_MOVED_BACK",
        "tonumber(time) >= tonumber(seen)",
        "tonumber(time) > tonumber(seen)",
        "tests/test_scripts.py::test_a_moved_uid_that_was_claimed_since_stays_with_its_holder",
    ),
    Mutant(
        "a woken uid that was requeued is added again",
        "_MOVED_BACK",
        "if redis.call('LPOS', list, uid) then",
        "if true then",
        "tests/test_scripts.py::test_a_moved_uid_that_was_requeued_is_not_added_again",
    ),
    Mutant(
        "a woken uid goes to the back",
        "_MOVED_BACK",
        "redis.call('RPUSH', queue, uid)",
        "redis.call('LPUSH', queue, uid)",
        "tests/test_scripts.py::test_a_moved_uid_goes_back_to_the_front_and_is_claimed",
    ),
    Mutant(
        "a woken uid stays in ackbuf too",
        "_MOVED_BACK",
        "redis.call('LREM', list, 1, uid)",
        "",
        "tests/test_scripts.py::test_a_moved_uid_goes_back_to_the_front_and_is_claimed",
    ),
    Mutant(
        "a woken uid is removed before it is added",
        "_MOVED_BACK",
        "      redis.call('RPUSH', queue, uid)\n      redis.call('LREM', list, 1, uid)\n",
        "      redis.call('LREM', list, 1, uid)\n      redis.call('RPUSH', queue, uid)\n",
        "tests/test_scripts.py"
        "::test_stopped_at_any_command_a_script_loses_nothing[None-undo a wait]",
    ),
    Mutant(
        "what a wait was moved is left to autoclean if that came in between",
        "_MOVED_BACK",
        "ipairs({ackbuf, backup})",
        "ipairs({ackbuf})",
        "tests/test_scripts.py"
        "::test_a_moved_uid_does_not_wait_for_an_interval_when_autoclean_came_in_between",
    ),
]

# In a claim what is handed out is noted, and only then taken away.
NOTED = """\
  if notes[1] then
    if ends then
      redis.call('ZADD', leases, unpack(places))
    else
      redis.call('LPUSH', ackbuf, unpack(places))
    end
    redis.call('HSET', meta, unpack(notes))
  end
"""
TAKEN = """\
  if from == priority then
    redis.call('ZREM', priority, uids[1])
  elseif #uids == 1 then
    redis.call('RPOP', queue)
  else
    redis.call('LTRIM', queue, '0', i - 1 - #uids)
  end
"""

SCRIPTS = [
    Mutant(
        "put is not numbered",
        "PUT",
        "answer(count)",
        "",
        "tests/test_recovery.py::test_a_put_sent_again_after_its_item_was_acked_stores_nothing",
    ),
    Mutant(
        "put stores the payload before the place",
        "PUT",
        "  redis.call('LPUSH', queue, unpack(uids))\n  redis.call('HDEL'",
        "  redis.call('HSET', items, unpack(fields))\n"
        "  redis.call('LPUSH', queue, unpack(uids))\n"
        "  redis.call('HDEL'",
        "tests/test_scripts.py::test_stopped_at_any_command_a_script_loses_nothing[None-put]",
    ),
    Mutant(
        "put of new uids stores the payload before the place",
        "PUT",
        "  redis.call('LPUSH', queue, unpack(uids))\n  redis.call('HSET', items, unpack(fields))\n",
        "  redis.call('HSET', items, unpack(fields))\n  redis.call('LPUSH', queue, unpack(uids))\n",
        "tests/test_scripts.py"
        "::test_stopped_at_any_command_a_script_loses_nothing[None-put of new uids]",
    ),
    Mutant(
        "put keeps the meta that 3.0.0 left",
        "PUT",
        "redis.call('HDEL', meta, unpack(uids))",
        "",
        "tests/test_recovery.py::test_an_item_of_a_uid_that_3_0_0_acked_is_a_new_one",
    ),
    Mutant(
        "maxsize counts what is ready only",
        "PUT",
        "redis.call('HLEN', items)",
        "redis.call('LLEN', queue)",
        "tests/test_primitive.py::test_a_full_queue_refuses_puts_and_takes_back_what_fails",
    ),
    Mutant(
        "a ghost of a delayed uid is delivered early",
        "PUT",
        "redis.call('HSET', meta, uid, '0 0 - '",
        "local _ = level ~= '0' and redis.call('HSET', meta, uid, '0 0 - '",
        "tests/test_scripts.py::test_a_ghost_of_its_uid_does_not_make_a_delayed_item_early",
    ),
    Mutant(
        "puts of one millisecond are in the order of uids",
        "PUT",
        "math.max(base + now, tonumber(top[2] or base))",
        "base + now",
        "tests/test_primitive.py::test_equal_priorities_are_in_order_for_any_uid",
    ),
    Mutant(
        "a put sent again writes nothing that WAIT could wait for",
        "PUT",
        "answer(said)",
        "",
        "tests/test_durability.py::test_a_connection_lost_while_the_put_waits_confirms_nothing",
    ),
    Mutant(
        "claim is not numbered",
        "CLAIM",
        "answer(out[1] and cmsgpack.pack(out) or '')",
        "answer('')",
        "tests/test_recovery.py::test_a_claim_sent_again_gets_the_same_item",
    ),
    Mutant(
        "claim sent again hands out what was settled",
        "CLAIM",
        "local place, about = held(uid, token)",
        "local place, about = ackbuf, redis.call('HGET', meta, uid)",
        "tests/test_scripts.py"
        "::test_a_claim_sent_again_after_its_item_was_settled_does_not_hand_it_out",
    ),
    Mutant(
        "the opening write is left out",
        "CLAIM",
        "{_AT_MAXMEMORY}",
        "",
        "tests/test_scripts.py::test_a_full_server_can_be_emptied",
    ),
    Mutant(
        "the empty string is no uid that wakes",
        "CLAIM",
        "if woken == '1' then",
        "if moved ~= '' then",
        "tests/test_scripts.py::test_the_empty_string_can_wake_and_is_not_no_uid",
    ),
    Mutant(
        "a lease ends late",
        "CLAIM",
        "'-inf', now, 'LIMIT'",
        "'-inf', now - 1, 'LIMIT'",
        "tests/test_primitive.py::test_a_lease_ends_to_the_millisecond",
    ),
    Mutant(
        "what lapsed is removed before it is added",
        "CLAIM",
        "bring_back(uid, tonumber(now))\n      redis.call('ZREM', set, uid)",
        "redis.call('ZREM', set, uid)\n      bring_back(uid, tonumber(now))",
        "tests/test_scripts.py::test_stopped_at_any_command_a_script_loses_nothing[None-claim]",
    ),
    Mutant(
        "what lapsed cannot be acked by its holder",
        "CLAIM",
        "string.gsub(about, ' %d+ ', ' 0 ', 1)",
        "string.gsub(about, ' %d+ %S+ ', ' 0 - ', 1)",
        "tests/test_scripts.py"
        "::test_what_lapsed_can_be_acked_by_its_holder_until_somebody_else_has_it",
    ),
    Mutant(
        "a lock without expiry is taken from a 3.0.0 that is slow",
        "CLAIM",
        "math.max(10 * interval, 600000)",
        "interval",
        "tests/test_scripts.py::test_a_lock_without_expiry_gets_a_long_one",
    ),
    Mutant(
        "autoclean is unbounded",
        "CLAIM",
        "for _ = 1, 100 do",
        "for _ = 1, 1000000 do",
        "tests/test_scripts.py::test_autoclean_moves_a_hundred_a_call_and_is_resumed",
    ),
    Mutant(
        "autoclean removes before it adds",
        "CLAIM",
        "bring_back(uid, now - interval)\n      redis.call('RPOP', backup)",
        "redis.call('RPOP', backup)\n      bring_back(uid, now - interval)",
        "tests/test_scripts.py::test_stopped_at_any_command_a_script_loses_nothing[None-claim]",
    ),
    Mutant(
        "autoclean renames over a backup that is not empty",
        "CLAIM",
        "if redis.call('EXISTS', backup) == 0 then",
        "if true then",
        "tests/test_scripts.py::test_autoclean_moves_a_hundred_a_call_and_is_resumed",
    ),
    Mutant(
        "autoclean sets its lock before it is done",
        "CLAIM",
        "elseif ttl == -2 then",
        "elseif ttl == -2 then\n  redis.call('SET', backuplock, 1, 'PX', interval)",
        "tests/test_scripts.py::test_autoclean_moves_a_hundred_a_call_and_is_resumed",
    ),
    Mutant(
        "autoclean sets a lock without expiry",
        "CLAIM",
        "redis.call('SET', backuplock, 1, 'PX', interval)",
        "redis.call('SET', backuplock, 1)",
        "tests/test_scripts.py::test_claim_sets_the_lock_with_its_expiry",
    ),
    Mutant(
        "a second copy of what is leased is handed out",
        "CLAIM",
        "redis.call('ZSCORE', leases, uid) or redis.call('ZSCORE', delayed, uid)",
        "redis.call('ZSCORE', delayed, uid)",
        "tests/test_scripts.py::test_claim_drops_a_second_copy",
    ),
    Mutant(
        "a second copy of what is in backup is handed out",
        "CLAIM",
        "redis.call('LPOS', backup, uid)",
        "false",
        "tests/test_scripts.py::test_claim_drops_a_second_copy",
    ),
    Mutant(
        "a uid without an item is handed out",
        "CLAIM",
        "uid ~= '' and redis.call('HGET', items, uid)\n",
        "uid ~= '' and (redis.call('HGET', items, uid) or '')\n",
        "tests/test_scripts.py::test_claim_skips_uids_without_an_item",
    ),
    Mutant(
        "a delivery less than max_attempts",
        "CLAIM",
        "attempt > tonumber(most)",
        "attempt >= tonumber(most)",
        "tests/test_primitive.py::test_crashes_count_as_attempts",
    ),
    Mutant(
        "the priority is lost when an item is got",
        "CLAIM",
        "' ' .. token .. ' ' .. score_of(about)",
        "' ' .. token .. ' '",
        "tests/test_primitive.py::test_an_item_that_comes_back_keeps_its_priority",
    ),
    Mutant(
        "who takes an item of a priority does not ring on",
        "CLAIM",
        "{_RING}\n    ring()",
        "",
        "tests/test_primitive.py::test_there_is_at_most_one_bell_and_it_goes",
    ),
    Mutant(
        "the bell is not dropped",
        "CLAIM",
        "elseif redis.call('LINDEX', queue, -1) == '' then",
        "elseif false then",
        "tests/test_primitive.py::test_there_is_at_most_one_bell_and_it_goes",
    ),
    Mutant(
        "a lease is ignored by the verdict",
        "CLAIM",
        "> 0 and {{leases, delayed}} or {{}})",
        "> 0 and {{delayed}} or {{}})",
        "tests/test_scripts.py::test_claim_tells_how_long_to_wait_for_what_is_due_next",
    ),
    Mutant(
        "an empty queue keeps what is left of it",
        "CLAIM",
        "redis.call('UNLINK', ackbuf, backup, meta, leases, delayed, priority, dead, reasons)",
        "",
        "tests/test_scripts.py::test_claim_drops_what_is_left_of_a_queue_without_items",
    ),
    Mutant(
        "a queue that is in flight is taken for an empty one",
        "CLAIM",
        "if redis.call('EXISTS', items) == 0 then",
        "if true then",
        "tests/test_scripts.py::test_claim_keeps_what_is_in_flight_or_dead",
    ),
    Mutant(
        "a claim sent again has a later deadline",
        "CLAIM",
        "reply[3] = tonumber(redis.call('ZSCORE', leases, uid))",
        "reply[3] = reply[3]",
        "tests/test_scripts.py::test_a_claim_sent_again_later_tells_the_same_deadline",
    ),
    Mutant(
        "a second copy within a batch is handed out",
        "CLAIM",
        "taken[uid] = true",
        "",
        "tests/test_scripts.py::test_a_batch_has_as_many_as_asked_for_each_once",
    ),
    Mutant(
        "a batch is filled up with too many",
        "CLAIM",
        "out[1] and #out - wanted or '-' .. count",
        "'-' .. count",
        "tests/test_scripts.py::test_a_batch_has_as_many_as_asked_for_each_once",
    ),
    Mutant(
        "a batch takes away one more than it hands out",
        "CLAIM",
        "i - 1 - #uids",
        "i - 2 - #uids",
        "tests/test_scripts.py::test_a_batch_is_taken_from_the_right_in_order",
    ),
    Mutant(
        "a batch leaves one that it hands out",
        "CLAIM",
        "i - 1 - #uids",
        "i - #uids",
        "tests/test_scripts.py::test_a_batch_is_taken_from_the_right_in_order",
    ),
    Mutant(
        "a batch may be of any size",
        "CLAIM",
        "i == 0 or bytes > 1000000 or",
        "i == 0 or",
        "tests/test_scripts.py::test_a_batch_ends_when_it_is_large",
    ),
    Mutant(
        "rounds of a batch may be of any size",
        "CLAIM",
        "bytes <= 1000000 and scans",
        "scans",
        "tests/test_scripts.py::test_a_batch_ends_when_it_is_large",
    ),
    Mutant(
        "lists are searched for every uid of a batch",
        "CLAIM",
        " or scans == 4",
        "",
        "tests/test_scripts.py::test_a_claim_searches_the_lists_four_times_at_most",
    ),
    Mutant(
        "of a batch only the rounds are counted",
        "CLAIM",
        "looked = looked + #uids - i",
        "looked = looked + 1",
        "tests/test_scripts.py::test_claim_skips_a_thousand_uids_a_call_at_most",
    ),
    Mutant(
        "what was failed is searched for in the lists",
        "CLAIM",
        "not elsewhere and not string.find(about, '^%d+ 0 ')",
        "not elsewhere",
        "tests/test_scripts.py::test_what_was_failed_is_taken_without_a_search",
    ),
    Mutant(
        "an item delivered before is noted as a new one",
        "CLAIM",
        "note or delivered_once",
        "delivered_once",
        "tests/test_scripts.py::test_claim_counts_deliveries_and_writes_a_new_token",
    ),
    Mutant(
        "what is ready is taken away with an item of a priority",
        "CLAIM",
        "redis.call('ZREM', priority, uids[1])",
        "redis.call('ZREM', priority, uids[1])\n    redis.call('RPOP', queue)",
        "tests/test_primitive.py::test_higher_priorities_come_first_and_equal_ones_in_order",
    ),
    Mutant(
        "an item of a priority that lapsed is not seen at once",
        "CLAIM",
        "if score_of(about) ~= '' then rare = true end",
        "",
        "tests/test_primitive.py::test_an_item_that_comes_back_keeps_its_priority",
    ),
    Mutant(
        "a second copy is taken for the item that its holder left",
        "CLAIM",
        "or 0) <= before then",
        "or 0) then",
        "tests/test_scripts.py"
        "::test_claim_drops_a_second_copy_that_comes_back_before_its_holders_time_is_over",
    ),
    Mutant(
        "an item of the empty uid is handed out",
        "CLAIM",
        "uid ~= '' and redis.call('HGET', items, uid)\n",
        "redis.call('HGET', items, uid)\n",
        "tests/test_recovery.py::test_a_foreign_item_of_the_empty_uid_is_not_handed_out",
    ),
    Mutant(
        "what is claimed is removed before it is added",
        "CLAIM",
        NOTED + TAKEN,
        TAKEN + NOTED,
        "tests/test_scripts.py"
        "::test_stopped_at_any_command_a_script_loses_nothing[None-claim many]",
    ),
    Mutant(
        "ack is not numbered",
        "ACK",
        "answer(settled)",
        "",
        "tests/test_scripts.py::test_a_call_sent_again_gets_the_same_answer_and_changes_nothing",
    ),
    Mutant(
        "the opening write is left out",
        "ACK",
        "{_AT_MAXMEMORY}",
        "",
        "tests/test_scripts.py::test_stale_calls_and_purge_are_answered_on_a_full_server",
    ),
    Mutant(
        "touch leaves an item in ackbuf too",
        "TOUCH",
        "if place and place ~= leases then leave(place, uid) end",
        "",
        "tests/test_primitive.py::test_an_item_without_a_lease_can_be_given_one",
    ),
    Mutant(
        "touch removes before it adds",
        "TOUCH",
        "  if place then redis.call",
        "  if place and place ~= leases then leave(place, uid) end\n  if place then redis.call",
        "tests/test_scripts.py::test_stopped_at_any_command_a_script_loses_nothing[None-touch]",
    ),
    Mutant(
        "a delivery more than max_attempts",
        "FAIL",
        "deliveries(about) >= tonumber(most)",
        "deliveries(about) > tonumber(most)",
        "tests/test_primitive.py::test_after_max_attempts_failures_an_item_is_dead",
    ),
    Mutant(
        "fail removes before it adds",
        "FAIL",
        "retire(uid, about, deliveries(about))",
        "leave(place, uid)\n    retire(uid, about, deliveries(about))",
        "tests/test_scripts.py::test_stopped_at_any_command_a_script_loses_nothing[None-fail]",
    ),
    Mutant(
        "an undo of a wait alone reads the answer of another call",
        "UNDO",
        "token ~= '' and before ~= ''",
        "before ~= ''",
        "tests/test_scripts.py"
        "::test_an_undo_of_a_wait_alone_does_not_mind_what_the_call_before_was",
    ),
    Mutant(
        "what a cancelled get took is given back in reverse",
        "UNDO",
        "for i = #uids, 1, -1 do",
        "for i = 1, #uids do",
        "tests/test_asyncio.py::test_a_cancelled_claim_is_undone_at_once",
    ),
    Mutant(
        "a claim that comes after its undo is run",
        "UNDO",
        "answer('')",
        "",
        "tests/test_scripts.py::test_a_claim_that_comes_after_its_undo_is_refused",
    ),
    Mutant(
        "forward is not fenced",
        "FORWARD",
        "(token == '' or is_token_of(token, redis.call('HGET', meta, uid)))",
        "true",
        "tests/test_primitive.py::test_a_stale_holder_cannot_forward",
    ),
    Mutant(
        "forward acks before it puts",
        "FORWARD",
        "redis.call('LPUSH', to_queue, to_uid)",
        "forget(3, 4)\n  redis.call('LPUSH', to_queue, to_uid)",
        "tests/test_scripts.py::test_a_forward_that_is_stopped_loses_nothing",
    ),
    Mutant(
        "revive removes before it adds",
        "REVIVE",
        "local about = redis.call('HGET', meta, uid)",
        "local about = redis.call('HGET', meta, uid)\n    redis.call('ZREM', dead, uid)",
        "tests/test_scripts.py::test_stopped_at_any_command_a_script_loses_nothing[None-revive]",
    ),
    Mutant(
        "revive is unbounded",
        "REVIVE",
        "redis.call('ZRANGE', dead, 0, 99)",
        "redis.call('ZRANGE', dead, 0, -1)",
        "tests/test_scripts.py::test_of_the_dead_a_hundred_a_call_are_moved_at_most",
    ),
    Mutant(
        "low priorities are shown as ready ones",
        "PEEK",
        "redis.call('ZCOUNT', priority, '-inf', '(0')",
        "redis.call('ZCARD', priority)",
        "tests/test_primitive.py::test_peek_shows_what_comes_next_and_takes_nothing",
    ),
    Mutant(
        "a uid without an item counts as one in flight",
        "STATS",
        "redis.call('HEXISTS', items, uid)",
        "1",
        "tests/test_scripts.py::test_an_uid_without_an_item_does_not_hide_one_that_is_ready",
    ),
    Mutant(
        "the bell hides the age of what comes next",
        "STATS",
        "if next_uid == '' then",
        "if false then",
        "tests/test_primitive.py::test_the_age_of_what_comes_next_is_told_although_a_bell_was_rung",
    ),
]

STEPS = [
    Mutant(
        "uids do not tell their time",
        "_new_uids",
        '{time_ms[8:]}-7"',
        '{time_ms[8:]}-4"',
        "tests/test_contract.py::test_a_uid_is_a_uuid_of_version_7_and_str",
    ),
    Mutant(
        "later uids sort before earlier ones",
        "_new_uids",
        "time.time_ns() // 1_000_000",
        "-time.time_ns() // 1_000_000 % (1 << 48)",
        "tests/test_contract.py::test_uids_are_ordered_by_time_and_tell_it",
    ),
    Mutant(
        "a read-only server is no outage",
        "_OUTAGE",
        "(ConnectionError, TimeoutError, ReadOnlyError, MasterDownError)",
        "(ConnectionError, TimeoutError, MasterDownError)",
        "tests/test_connections.py::test_a_read_only_server_is_waited_out_by_get_alone",
    ),
    Mutant(
        "the parts of a command are miscounted",
        "_packed",
        "length += part.length",
        "length += 1",
        "tests/test_scripts.py::test_put_adds_at_the_left",
    ),
    Mutant(
        "a number is sent as the text that its class makes of it",
        "_packed",
        'part = b"%d" % part if isinstance(part, int) else str(part).encode()',
        "part = str(part).encode()",
        "tests/test_primitive.py::test_a_number_may_be_a_member_of_an_enum",
    ),
    Mutant(
        "a password in a URL is quoted in the error",
        "_Steps._checked_client",
        ") from None",
        ")",
        "tests/test_connections.py::test_no_password_is_in_an_error_about_a_malformed_url",
    ),
    Mutant(
        "the hash tag is left out",
        "_Steps._prefix_of",
        "if self._is_cluster and",
        "if False and",
        "tests/test_deployments.py::test_in_a_cluster_a_name_is_its_own_hash_tag_unless_it_has_one",
    ),
    Mutant(
        "after an outage the server is not asked how it keeps its log",
        "_Steps._take_idle",
        "self._confirm = None",
        "",
        "tests/test_durability.py"
        "::test_after_an_outage_the_server_is_asked_anew_how_it_keeps_its_log",
    ),
    Mutant(
        "a fork is not noticed",
        "_Steps._check_owner",
        "if self._pid != os.getpid():",
        "if False:",
        "tests/test_connections.py::test_parent_and_child_use_one_queue_object_at_the_same_time",
    ),
    Mutant(
        "a wait ends with the socket timeout",
        "_Steps._is_bounded",
        "wait + 1 <= own",
        "own",
        "tests/test_connections.py::test_a_get_waits_longer_than_the_socket_timeout",
    ),
    Mutant(
        "a get lasts as long as the socket timeout",
        "_Steps._is_bounded",
        " <= timeout + 0.1",
        "",
        "tests/test_connections.py::test_get_keeps_its_timeout_when_the_server_stops_answering",
    ),
    Mutant(
        "a script that the server forgot is an error",
        "_Steps._eval",
        'return await self._do("EVAL", script.text, *rest, **io)',
        "raise",
        "tests/test_connections.py::test_scripts_the_server_forgot_are_sent_again",
    ),
    Mutant(
        "what is sent again has a new number",
        "_Steps._call",
        "lambda: self._eval(script, slot, args)",
        "lambda: self._eval(script, self._take_slot(), args)",
        "tests/test_connections.py::test_one_put_is_one_item_whatever_is_lost",
    ),
    Mutant(
        "a number whose call may still come is used again",
        "_Steps._call",
        "slot = self._take_slot()",
        "slot = self._take_slot()\n"
        "        again = _Slot(b'')\n"
        "        again.name, again.key, again.number = slot.name, slot.key, slot.number - 1\n"
        "        self._slots.append(again)",
        "tests/test_connections.py::test_a_call_that_was_given_up_does_not_lend_its_number",
    ),
    Mutant(
        "a connection that was idle and is closed ends a call",
        "_Steps._safely",
        "failures >= most",
        "True",
        "tests/test_connections.py::test_idle_connections_that_the_server_closed_are_not_noticed",
    ),
    Mutant(
        "a uid of the caller's is taken for a new one",
        "_Steps._put",
        "is_new=uid is None",
        "is_new=True",
        "tests/test_primitive.py::test_a_uid_is_in_the_queue_once",
    ),
    Mutant(
        "a delayed item is put as one that is ready",
        "_Steps._put_pairs",
        " and delay is None and at is None",
        "",
        "tests/test_primitive.py::test_a_delayed_item_is_not_early",
    ),
    Mutant(
        "a durable put is confirmed on another connection",
        "_Steps._put_durably",
        "count, confirmed = await self._eval(PUT, slot, args, **io)",
        "count = await self._eval(PUT, slot, args)\n"
        "            self._idle = {}\n"
        "            confirmed = await self._do(*confirm)",
        "tests/test_durability.py"
        "::test_a_put_that_no_replica_confirms_in_time_raises_and_the_item_is_there",
    ),
    Mutant(
        "a server that confirms before its disk has it is believed",
        "_Steps._check_fsync",
        "is_redis\n            and version\n            and int(version[1]) >= 8",
        "version",
        "tests/test_durability.py::test_a_server_that_cannot_tell_what_is_on_its_disk_is_refused",
    ),
    Mutant(
        "an interrupted batch is not handed back",
        "_Steps._get_many",
        "await self._finish(self._hand_back([item.uid for item in reversed(items)]))",
        "pass",
        "tests/test_asyncio.py::test_a_batch_that_is_cancelled_half_way_is_handed_back_whole",
    ),
    Mutant(
        "a cancelled get is not undone",
        "_Steps._fetch",
        "await self._finish(self._undo(slot, moved, seen))",
        "pass",
        "tests/test_asyncio.py::test_a_cancelled_claim_is_undone_at_once",
    ),
    Mutant(
        "the claim after a wait is not told what woke it",
        "_Steps._fetch",
        "(1, moved, seen)",
        "_NOT_WOKEN",
        "tests/test_recovery.py::test_what_wakes_a_wait_is_claimed_next",
    ),
    Mutant(
        "the claim after a wait is not told what was seen",
        "_Steps._fetch",
        "(1, moved, seen)",
        "(1, moved, 1 << 52)",
        "tests/test_recovery.py"
        "::test_a_stopped_waiter_that_is_real_shares_nothing_with_the_next_holder",
    ),
    Mutant(
        "a payload that cannot be decoded is raised from get",
        "_Steps._fetch",
        "except Exception as error:  # whatever",
        "except ZeroDivisionError as error:  # whatever",
        "tests/test_recovery.py::test_whatever_a_serializer_raises_the_loop_lives",
    ),
    Mutant(
        "a get goes on as long as there is something that it cannot load",
        "_Steps._fetch",
        "if left is not None and left <= -_GRACE:",
        "if False:",
        "tests/test_recovery.py::test_a_get_that_meets_only_what_it_cannot_load_keeps_its_timeout",
    ),
    Mutant(
        "an item without a lease has a deadline",
        "_Steps._fetch",
        "until / 1000 if until else None",
        "until / 1000",
        "tests/test_contract.py::test_an_item_tells_what_it_is",
    ),
    Mutant(
        "deliveries without a lease are settled at once with many",
        "_Steps._fetch",
        "attempts, until > 0)",
        "attempts, True)",
        "tests/test_primitive.py::test_many_are_settled_in_one_call_if_they_are_leased",
    ),
    Mutant(
        "leased deliveries are settled one by one",
        "_Steps._fetch",
        "attempts, until > 0)",
        "attempts, False)",
        "tests/test_primitive.py::test_many_are_settled_in_one_call_if_they_are_leased",
    ),
    Mutant(
        "a claim sent again has a new number",
        "_Steps._claim",
        "failures += 1",
        "failures += 1\n                slot.number += 1",
        "tests/test_connections.py::test_one_get_is_one_delivery_whatever_is_lost",
    ),
    Mutant(
        "a wait is one long slice",
        "_Steps._wait",
        "seconds = self._wait_slice if left is None else min(left, self._wait_slice)",
        "seconds = 60 if left is None else left",
        "tests/test_recovery.py::test_a_wait_is_a_slice_and_ends_when_something_is_due",
    ),
    Mutant(
        "a wait ignores the next due time",
        "_Steps._wait",
        "seconds = min(seconds, verdict / 1000)",
        "pass",
        "tests/test_recovery.py::test_a_wait_is_a_slice_and_ends_when_something_is_due",
    ),
    Mutant(
        "a wait in a pause moves items",
        "_Steps._wait",
        "verdict == -2 or",
        "",
        "tests/test_recovery.py::test_a_wait_in_a_pause_moves_nothing",
    ),
    Mutant(
        "a wait with autoclean off moves items",
        "_Steps._wait",
        "self.AUTOCLEAN_INTERVAL is None or",
        "",
        "tests/test_recovery.py"
        "::test_a_wait_with_autoclean_off_never_moves_what_nobody_would_bring_back",
    ),
    Mutant(
        "a wait too short for Redis 6.2 is for ever",
        "_Steps._wait",
        "seconds < 0.01",
        "False",
        "tests/test_recovery.py::test_a_very_short_wait_is_not_left_to_the_server",
    ),
    Mutant(
        "what a cancelled wait was moved is not handed back",
        "_Steps._wait",
        'await self._call(UNDO, "", 1, moved, seen)',
        "pass",
        "tests/test_asyncio.py"
        "::test_what_a_cancelled_wait_was_moved_is_back_when_the_queue_is_closed",
    ),
    Mutant(
        "a connection lost in a wait ends get",
        "_Steps._wait",
        "return None  # the next claim meets",
        "raise  #",
        "tests/test_connections.py::test_a_get_that_waits_gets_its_item_whatever_is_lost",
    ),
    Mutant(
        "a fail-over in a wait ends get",
        "_Steps._wait",
        'if not (str(error).startswith("UNBLOCKED") or _serves_nobody(error)):',
        "if True:",
        "tests/test_connections.py::test_a_get_that_waits_outlasts_a_fail_over",
    ),
    Mutant(
        "a full server ends a get that waits",
        "_Steps._wait",
        "except OutOfMemoryError:",
        "except ZeroDivisionError:",
        "tests/test_scripts.py::test_a_full_server_does_not_end_a_get_that_waits",
    ),
    Mutant(
        "a payload that cannot be decoded is tried again and again",
        "_Steps._put_aside",
        "await self._bury(uid, reason)",
        "pass",
        "tests/test_recovery.py::test_an_undecodable_payload_is_put_aside_and_logged",
    ),
    Mutant(
        "a loss while a payload is put aside ends the loop",
        "_Steps._put_aside",
        "except self._outage as outage:",
        "except ZeroDivisionError as outage:",
        "tests/test_connections.py"
        "::test_a_loss_while_an_undecodable_item_is_put_aside_does_not_end_the_loop",
    ),
    Mutant(
        "times are rounded down",
        "_milliseconds",
        "math.ceil",
        "math.floor",
        "tests/test_scripts.py::test_what_is_shorter_than_a_millisecond_is_not_early",
    ),
    Mutant(
        "a uid of another kind ends the loop",
        "_decode_uid",
        'uid.decode("utf-8", "surrogateescape")',
        "uid.decode()",
        "tests/test_recovery.py::test_a_uid_of_another_kind_can_be_acked_and_failed",
    ),
    Mutant(
        "a lease is counted from when it was asked for first",
        "_Steps._claim",
        "        while True:\n            since = time.monotonic()\n",
        "        since = time.monotonic()\n        while True:\n",
        "tests/test_primitive.py::test_a_lease_is_counted_from_when_the_server_gave_it",
    ),
    Mutant(
        "a lease is counted from when it was asked for last",
        "_Steps._fetch",
        "since + (until - seen) / 1000",
        "since + (lease or 0)",
        "tests/test_primitive.py::test_a_lease_is_counted_from_when_the_server_gave_it",
    ),
    Mutant(
        "bytes of a subclass are sent as they are shown",
        "_packed",
        "if not isinstance(part, bytes):",
        "if type(part) is not bytes:",
        "tests/test_bad_input.py::test_every_payload_of_bytes_comes_back_byte_for_byte",
    ),
    Mutant(
        "a confirmation must come within the socket timeout",
        "_Steps._put_durably",
        ', "wait": within',
        "",
        "tests/test_durability.py::test_a_confirmation_may_take_longer_than_the_socket_timeout",
    ),
]

CONSUMERS = [
    Mutant(
        "an ack of what is somebody else's is not told",
        "_DeliverySteps._settle",
        "if not done:",
        "if False:",
        "tests/test_primitive.py::test_who_lost_a_lease_is_told",
    ),
    Mutant(
        "what lapsed in the local buffer is handed out",
        "_ConsumeSteps._take_ahead",
        "if not item.lost and time.monotonic() < item._until:",
        "if True:",
        "tests/test_primitive.py::test_what_lapsed_while_it_waited_here_is_not_handed_out",
    ),
    Mutant(
        "acks that were not sent are forgotten",
        "_ConsumeSteps._next",
        "self._done.extendleft(reversed(done))",
        "pass",
        "tests/test_primitive.py::test_an_ack_that_could_not_be_sent_goes_with_the_next_fetch",
    ),
    Mutant(
        "without a helper acks wait",
        "_ConsumeSteps._next",
        "if self._ahead and not self._renew:",
        "if False:",
        "tests/test_primitive.py::test_without_renewal_an_ack_does_not_wait_for_the_next_fetch",
    ),
    Mutant(
        "the lease of what waits here is not renewed",
        "_ConsumeSteps._keep",
        "mine = (*self._ahead, self._current)",
        "mine = (self._current,)",
        "tests/test_primitive.py::test_each_turn_of_the_helper_renews_what_is_in_hand_and_ahead",
    ),
    Mutant(
        "acks wait for the next fetch however long that takes",
        "_ConsumeSteps._keep",
        "if self._done:",
        "if False:",
        "tests/test_primitive.py::test_each_turn_of_the_helper_renews_what_is_in_hand_and_ahead",
    ),
    Mutant(
        "what was fetched ahead is given back in reverse",
        "_ConsumeSteps._end",
        "reversed(self._ahead)",
        "self._ahead",
        "tests/test_primitive.py::test_leaving_consume_gives_back_what_is_out",
    ),
    Mutant(
        "the item in hand is given back as if never delivered",
        "_ConsumeSteps._end",
        "uncounted=False",
        "uncounted=True",
        "tests/test_primitive.py::test_leaving_consume_gives_back_what_is_out",
    ),
    Mutant(
        "the helper looks twice at the item in hand",
        "_ConsumeSteps._keep",
        "(*self._ahead, self._current)",
        "(*self._ahead, self._current and self._current)",
        "tests/test_primitive.py::test_a_turn_of_the_helper_may_meet_the_end_of_what_is_in_hand",
    ),
    Mutant(
        "an outage replaces what ends a block",
        "_ConsumeSteps._leave",
        "if error is None:",
        "if True:",
        "tests/test_connections.py::test_what_ends_a_block_is_not_replaced_by_an_outage",
    ),
]

FACES = [
    Mutant(
        "the connection of an interrupted call is used again",
        "SafeRedisQueue._do",
        "connection.disconnect()  # a reply may still come: nobody else must read it",
        "self._idle.setdefault(limit, []).append(connection)",
        "tests/test_connections.py::test_an_interrupted_call_of_any_kind_leaves_no_reply_behind",
    ),
    Mutant(
        "an error reply costs the connection",
        "SafeRedisQueue._do",
        "self._idle.setdefault(limit, []).append(connection)\n            raise",
        "connection.disconnect()\n            raise",
        "tests/test_connections.py::test_an_error_reply_keeps_the_connection",
    ),
    Mutant(
        "a payload is decoded by the client",
        "SafeRedisQueue._do",
        "disable_decoding=True",
        "",
        "tests/test_scripts.py::test_an_undecodable_item_is_put_aside_on_a_full_server",
    ),
    Mutant(
        "the caller's client is closed",
        "SafeRedisQueue.close",
        "if self._owns_client:",
        "if True:",
        "tests/test_connections.py::test_the_caller_s_client_is_used_and_left_open",
    ),
    Mutant(
        "connections of an event loop that ended are used",
        "AsyncSafeRedisQueue._check_owner",
        "if self._loop is not None:",
        "if False:",
        "tests/test_asyncio.py::test_one_queue_works_in_one_event_loop_after_another",
    ),
    Mutant(
        "a wait is cancelled together with its get",
        "AsyncSafeRedisQueue._do",
        "if rescue is None:",
        "if True:",
        "tests/test_asyncio.py"
        "::test_what_a_cancelled_wait_was_moved_is_back_when_the_queue_is_closed",
    ),
    Mutant(
        "the connection of a cancelled call is used again",
        "AsyncSafeRedisQueue._exchange",
        "await connection.disconnect(nowait=True)",
        "self._idle.setdefault(limit, []).append(connection)",
        "tests/test_asyncio.py::test_a_cancelled_call_of_any_kind_leaves_no_reply_behind",
    ),
    Mutant(
        "a second cancellation ends the undo",
        "AsyncSafeRedisQueue._finish",
        "await asyncio.shield(self._in_background(step))",
        "await step",
        "tests/test_asyncio.py::test_a_get_that_is_cancelled_twice_is_undone_all_the_same",
    ),
    Mutant(
        "what goes on in the background is cut off by close",
        "AsyncSafeRedisQueue.close",
        "while self._background:",
        "while False:",
        "tests/test_asyncio.py"
        "::test_what_a_cancelled_wait_was_moved_is_back_when_the_queue_is_closed",
    ),
]

MUTANTS = [*IN_ALL_SCRIPTS, *SCRIPTS, *STEPS, *CONSUMERS, *FACES]

if __name__ == "__main__":
    sys.exit(main(MUTANTS))
