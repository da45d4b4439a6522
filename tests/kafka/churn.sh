# Members that are started, ended, killed and stopped at random while messages come in; and of what came out, what came
# twice, and why. Sourced by `groups`; it does nothing by itself.
#
#     feed ──40 a second──▶ TOPIC ──▶ m1, m2, m3, ... ──▶ TOPIC-m1, TOPIC-m2, TOPIC-m3, ...
#     events, with their times ─────────────────────────▶ judge ◀── who answered what, by the broker's clock
#
# Every member answers in a topic of its own, so that an answer says whose it is.
#
# What may be answered twice, and nothing else may:
#
#   killed    what the killed one had answered since the last commit of that partition, as __consumer_offsets has it
#   stopped   what the stopped one had answered since then, before it was stopped for longer than its session
#   late      what the stopped one had in flight: at most one answer a worker, at once when it goes on
#
# A member that ended by SIGTERM, or that nothing was done to, repeats nothing and nothing of it is repeated.
# shellcheck shell=bash disable=SC2154,SC2034

# An answer that came so long before a commit may not be in it: its acknowledgement was on its way to us, and the commit to
# the coordinator.
on_its_way_ms=1000
# What a second has of new messages. Two members must be able to do them: their tasks take 0.25 s on average.
rate=40

# Notes that KIND has just happened to MEMBER.
event() {
    printf '%s %s %s\n' "${EPOCHREALTIME/./}" "$1" "$2" | sed 's/... / /' >>"$dir/events"
}

# Writes messages to TOPIC until `enough` is there, and then how many they were to `fed`. Their tasks take 10 to 150 ms;
# one in 10 takes 1 s, and one in 50 5 s.
feed() {
    local n=0 end
    while [ ! -e "$dir/enough" ]; do
        end=$((n + rate / 2))
        while ((n < end)); do
            n=$((n + 1))
            if ((n % 50 == 0)); then echo "key-$n:{\"longshore\":{\"sleep_ms\":5000}}"
            elif ((n % 10 == 0)); then echo "key-$n:{\"longshore\":{\"sleep_ms\":1000}}"
            else echo "key-$n:{\"longshore\":{\"sleep_ms\":$((10 + n * 37 % 140))}}"; fi
        done
        sleep 0.5
    done > >(produce "$1")
    wait $!
    echo "$n" >"$dir/fed"
}

# Does EVENTS random events to the members of GROUP, which `begins GROUP NAME ARGS` starts. The same seed gives the same
# events, whoever the members are.
events() {
    local group=$1 count=$2 n name next=4
    shift 2
    RANDOM=$seed
    for ((n = 1; n <= count; n++)); do
        local names=()
        mapfile -t names < <(printf '%s\n' "${!members[@]}" | sort -V)
        name=${names[RANDOM % ${#names[@]}]}
        case $((RANDOM % 4)) in
            0) [ ${#names[@]} -ge 5 ] || { event starts "m$next"; begins "$group" "m$next" "$@"; next=$((next + 1)); } ;;
            1) event leaves "$name"; leaves "$name"; event left "$name" ;;
            2) event killed "$name"; crashes "$name" ;;
            3) event stopped "$name"; stands_still "$name"; event continued "$name" ;;
        esac
        while [ ${#members[@]} -lt 2 ]; do
            event starts "m$next"
            begins "$group" "m$next" "$@"
            next=$((next + 1))
        done
        sleep $((RANDOM % 4))
    done
}

# Starts a member that answers in a topic of its own.
begins() {
    local group=$1 name=$2
    shift 2
    reply_topic=$group-$name member "$group" "$name" "$@"
}

# The churn of one GROUP by members with ARGS. Sets `count`.
churned() {
    local group=$1 events=5 name feeder
    shift
    [ -z "$long" ] || events=50
    unset LONGSHORE_COMMIT_INTERVAL
    : >"$dir/events"
    new_topic "$group" 12
    feed "$group" &
    feeder=$!
    ours+=("$feeder")
    for name in m1 m2 m3; do begins "$group" "$name" "$@"; done
    await_records "$group-m1" 5
    events "$group" "$events" "$@"
    touch "$dir/enough"
    wait "$feeder"
    count=$(cat "$dir/fed")
}

# Who answered what of GROUP, and when: TOPIC/PARTITION/OFFSET MILLISECONDS MEMBER, in order.
answered_by() {
    local name
    for name in $(awk -v g="$1" '$2 == "starts" { print $3 } END { print "m1 m2 m3" }' "$dir/events"); do
        records "$1-$name" '%T\t%h\n' | awk -F '\t' -v name="$name" '
            {
                delete value
                split($2, headers, ",")
                for (i in headers) { at = index(headers[i], "="); value[substr(headers[i], 1, at - 1)] = substr(headers[i], at + 1) }
                print value["longshore.topic"] "/" value["longshore.partition"] "/" value["longshore.offset"], $1, name
            }'
    done | sort -k 1,1 -k 2,2n
}

# Which messages were written to GROUP, in the same way.
asked() {
    records "$1" '%t/%p/%o\n' | sort
}

# Which of the 50 partitions of __consumer_offsets has GROUP: by the hash of Java's strings.
partition_of_group() {
    local n hash=0 code
    for ((n = 0; n < ${#1}; n++)); do
        printf -v code %d "'${1:n:1}"
        hash=$(((hash * 31 + code) & 0xffffffff))
    done
    [ $hash -lt $((1 << 31)) ] || hash=$(((1 << 32) - hash))
    echo $((hash % 50))
}

# When GROUP committed for which partition: PARTITION MILLISECONDS.
commits() {
    kafka tool org.apache.kafka.tools.consumer.ConsoleConsumer --bootstrap-server "$KAFKA_SERVER" --timeout-ms 5000 \
        --topic __consumer_offsets --partition "$(partition_of_group "$1")" --offset earliest --formatter org.apache.kafka.tools.consumer.OffsetsMessageFormatter \
        2>>"$dir/commits.log" |
        grep -oE "\"group\":\"$1\",[^{]*\"partition\":[0-9]+[^{]*\{[^{]*\{[^{}]*\"commitTimestamp\":[0-9]+" |
        sed -E 's/.*"partition":([0-9]+).*"commitTimestamp":([0-9]+)/\1 \2/'
}

# Says of each answer that is not the first of its message why it is there: WHY MEMBER MESSAGE MILLISECONDS, and when and by
# whom both were given. The milliseconds lie between the answer before it and the event.
judge() {
    awk -v slack="$on_its_way_ms" '
        # Since when what was answered at a partition may be unknown to the commits, at a time.
        function unsaid(message, time,    at, n, last) {
            split(message, at, "/")
            for (n = 1; n <= commits[at[2]]; n++) if (commit[at[2], n] <= time && commit[at[2], n] > last) last = commit[at[2], n]
            return last - slack
        }
        FILENAME ~ /commits$/ { commit[$1, ++commits[$1]] = $2; next }
        FILENAME ~ /events$/ {
            if ($2 == "killed") killed[$3] = $1
            if ($2 == "stopped") { n = ++stops[$3]; stopped[$3, n] = $1; continued[$3, n] = 1e15 }
            if ($2 == "continued") continued[$3, stops[$3]] = $1
            next
        }
        $1 != message { message = $1; at = $2; by = $3; next }
        {
            why = "unexplained"; of = by; ms = $2 - at
            if (by in killed && at > unsaid(message, killed[by])) { why = "killed"; ms = killed[by] - at }
            for (n = 1; n <= stops[by]; n++)
                if (at > unsaid(message, stopped[by, n]) && at <= stopped[by, n] + 100) { why = "stopped"; ms = stopped[by, n] - at }
            for (n = 1; n <= stops[by]; n++)
                if (at >= continued[by, n] - 100 && at <= continued[by, n] + 1000) { why = "late"; ms = at - continued[by, n] }
            for (n = 1; n <= stops[$3]; n++)
                if (at >= stopped[$3, n] && at <= continued[$3, n] && $2 >= continued[$3, n] - 100 && $2 <= continued[$3, n] + 1000) {
                    why = "late"; of = $3; ms = $2 - continued[$3, n]
                }
            print why, of, message, ms, at, by, $2, $3
            at = $2; by = $3
        }' "$dir/commits" "$dir/events" "$dir/answered-by"
}

# How many lines of the file of verdicts say WHY.
verdicts() {
    grep -c "^$1 " "$dir/verdicts" || true
}

# How often KIND happened.
happened() {
    grep -c " $1 " "$dir/events" || true
}

# Says how it went.
tell_churn() {
    local longest
    longest=$(awk '$1 == "killed" || $1 == "stopped" { if ($4 > most) most = $4 } END { print most + 0 }' "$dir/verdicts")
    printf ', seed %s, %s messages, %s started, %s ended, %s killed, %s stopped: %s answered twice (killed %s, stopped %s, late %s, else %s), the oldest of %s ms\n' \
        "$seed" "$count" "$(happened starts)" "$(happened left)" "$(happened killed)" "$(happened stopped)" \
        "$(wc -l <"$dir/verdicts")" "$(verdicts killed)" "$(verdicts stopped)" "$(verdicts late)" "$(verdicts unexplained)" \
        "$longest" >"$dir/note"
}

# Members are killed and stand still for longer than a session, at random; what is answered twice has to be their doing.
churn() {
    local group=$1 name count
    shift
    churned "$group" "$@"
    await 120 "all of $group to be committed" is_committed "$group" "$count"
    answered_by "$group" >"$dir/answered-by"
    same "answers" <(asked "$group") <(cut -d ' ' -f 1 "$dir/answered-by" | uniq)
    commits "$group" >"$dir/commits"
    [ -s "$dir/commits" ] || fail "no commits of $group are known"
    judge >"$dir/verdicts"
    tell_churn
    [ "$(verdicts unexplained)" = 0 ] ||
        fail "answered twice without cause: $(grep -m 1 '^unexplained' "$dir/verdicts")$(cat "$dir/note")"
    for name in $(sed -n 's/^late \([^ ]*\) .*/\1/p' "$dir/verdicts" | sort -u); do
        [ "$(verdicts "late $name")" -le $((workers * $(happened "stopped $name"))) ] ||
            fail "$name answered more than it had in flight, after its session was over$(cat "$dir/note")"
    done
    for name in "${!members[@]}"; do leaves "$name"; done
}
