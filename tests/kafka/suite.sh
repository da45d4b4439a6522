# What the cases of `suite` are made of. Sourced by it; it does nothing by itself.
# shellcheck shell=bash disable=SC2154,SC2034

# What one call of Longshore may take.
run_deadline_s=120
# Cases that run alone, and with --long only.
long_only=()
# How many cases run beside each other.
lanes=3

# Ends the case.
fail() {
    printf '%s' "$*" >"$dir/why"
    exit 1
}

kafka() {
    "$here/kafka" "$@"
}

# Waits until COMMAND succeeds, at most SECONDS.
await() {
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        [ "$SECONDS" -lt "$end" ] || fail "waited in vain for $what"
        sleep 0.1
    done
}

# Fails with the first difference between what is expected, FILE, and what there is, FILE.
same() {
    diff "$2" "$3" >"$dir/diff" || fail "$1: $(grep -c '^<' "$dir/diff") missing, $(grep -c '^>' "$dir/diff") too many:" \
        "$(sed -n '2{p;q}' "$dir/diff")"
}

# Adds up column N.
sum() {
    awk -v n="$1" '{ sum += $n } END { print sum + 0 }'
}

# --- topics ---------------------------------------------------------------------------------------

# Makes TOPIC with PARTITIONS.
new_topic() {
    kafka topics --create --topic "$1" --partitions "$2" >/dev/null
}

topic_exists() {
    kcat -q -L -b "$KAFKA_SERVER" >"$dir/metadata" || fail "kcat cannot list the topics"
    grep -q "topic \"$1\" with" "$dir/metadata"
}

# Writes the lines KEY:VALUE of standard input to TOPIC. An empty key or value is none.
produce() {
    kcat -q -P -b "$KAFKA_SERVER" -t "$1" -K : -Z -X topic.partitioner=murmur2_random
}

# Writes COUNT messages to TOPIC, whose tasks take MILLISECONDS, with keys from FIRST (1) on.
fill() {
    local n first=${4:-1}
    for ((n = first; n < first + $2; n++)); do echo "key-$n:{\"longshore\":{\"sleep_ms\":$3}}"; done | produce "$1"
}

# Prints what is in TOPIC in kcat's FORMAT; nothing where there is no such topic yet.
records() {
    kcat -q -C -b "$KAFKA_SERVER" -t "$1" -o beginning -e -f "$2" 2>>"$dir/kcat" || true
}

# What has to be answered of TOPIC: STATUS TOPIC PARTITION OFFSET KEY.
messages() {
    records "$1" '%t\t%p\t%o\t%k\t%s\n' | awk -F '\t' '
        { status = $5 ~ /oops/ ? "malformed" : $5 ~ /fail|panic/ ? "failed" : "ok"; print status, $1, $2, $3, $4 }' | sort
}

# What was answered in TOPIC, in the same way.
answers() {
    records "$1" '%k\t%h\n' | coordinates longshore. | sort
}

# What was set aside in TOPIC: TOPIC PARTITION OFFSET KEY.
dead_letters() {
    records "$1" '%k\t%h\n' | coordinates __dlq.errors. | sed 's/^ //' | sort
}

# Makes a line of each KEY<tab>HEADERS: what the headers with PREFIX say of status, topic, partition and offset, and the key.
coordinates() {
    awk -F '\t' -v prefix="$1" '
        {
            delete value
            count = split($2, headers, ",")
            for (i = 1; i <= count; i++) {
                at = index(headers[i], "=")
                value[substr(headers[i], 1, at - 1)] = substr(headers[i], at + 1)
            }
            print value[prefix "status"], value[prefix "topic"], value[prefix "partition"], value[prefix "offset"], $1
        }'
}

# Waits until TOPIC has COUNT records, at most 60 s. (To read to the end would not do: it moves.)
await_records() {
    await 60 "$1" topic_exists "$1"
    timeout 60 kcat -q -C -b "$KAFKA_SERVER" -t "$1" -o beginning -c "$2" >/dev/null 2>>"$dir/kcat" ||
        fail "waited in vain for $2 records in $1"
}

# Where the partitions of TOPIC end: PARTITION OFFSET. Every record is read for that.
ends() {
    records "$1" '%p %o\n' | sort -k 1,1n -k 2,2n | awk '{ end[$1] = $2 + 1 } END { for (p in end) print p, end[p] }' | sort
}

# --- groups: each has the name of its topic, or of the first of its topics ------------------------

# What ConsumerGroupCommand says of GROUP [TOPIC]: PARTITION COMMITTED LAG.
described() {
    kafka groups --describe --group "$1" 2>>"$dir/groups" |
        awk -v topic="${2:-$1}" '$2 == topic { print $3, $4, $6 }' | sort
}

# PARTITION COMMITTED.
committed() {
    described "$@" | cut -d ' ' -f 1,2
}

lag() {
    described "$@" | sum 3
}

# Whether what is committed for TOPIC adds up to COUNT.
is_committed() {
    [ "$(committed "$1" | sum 2)" = "$2" ]
}

# The lines STATUS TOPIC PARTITION OFFSET KEY of standard input that lie below what FILE (PARTITION COMMITTED) says.
below() {
    awk 'NR == FNR { committed[$1] = $2; next } $4 < committed[$3]' "$1" -
}

# As a member of GROUP, kcat finds nothing left of the TOPICS, or of the one of that name.
nothing_left() {
    local group=$1
    [ $# -eq 1 ] || shift
    kcat -q -b "$KAFKA_SERVER" -X auto.offset.reset=error -e -G "$group" "$@" >"$dir/left" 2>>"$dir/kcat" ||
        fail "kcat cannot begin where the group stands: $(tail -n 1 "$dir/kcat")"
    [ ! -s "$dir/left" ] || fail "kcat found $(wc -l <"$dir/left") messages left in $*"
}

# --- Longshore ------------------------------------------------------------------------------------

# Starts Longshore on TOPIC, for the group of that name, answering in TOPIC-replies. Sets `pid`.
start() {
    local topic=$1
    shift
    printf -- '--- %s %s\n' "$topic" "$*" >>"$dir/log"
    "$longshore" run --brokers "$KAFKA_SERVER" --group "$topic" --topic "$topic" --reply-topic "$topic-replies" \
        --summary json "$@" >"$dir/summary" 2>>"$dir/log" &
    pid=$!
    ours+=("$pid")
}

# Waits for the end of Longshore, which has to come with exit code CODE.
ends_with() {
    local code=0 end=$((SECONDS + run_deadline_s))
    while kill -0 "$pid" 2>/dev/null; do
        [ "$SECONDS" -lt "$end" ] || fail "still running after $run_deadline_s s"
        sleep 0.05
    done
    wait "$pid" || code=$?
    [ "$code" -eq "$1" ] || fail "exit code $code, not $1: $(tail -n 1 "$dir/log")"
}

# Fails unless the summary has each NAME=VALUE.
summary_has() {
    local field
    for field in "$@"; do
        grep -qE "\"${field%=*}\":${field#*=}[,}]" "$dir/summary" || fail "not $field: $(cat "$dir/summary")"
    done
}

# PARTITION COMMITTED, as the summary says.
summary_committed() {
    grep -oE '"committed":\{[^}]*' "$dir/summary" | grep -oE '"[0-9]+":[0-9]+' | tr -d '"' | tr ':' ' ' | sort
}

log_has() {
    grep -qE -- "$1" "$dir/log" || fail "no '$1' in the log: $(tail -n 1 "$dir/log")"
}

# Whether Longshore has COUNT threads that run tasks.
threads_of_tasks() {
    [ "$(cat "/proc/$pid/task/"*/comm 2>/dev/null | grep -c '^task-')" -ge "$1" ]
}

# --- running the cases ----------------------------------------------------------------------------

# Starts COMMAND in a process group of its own, which ends with the case. Its output goes to background.
in_background() {
    set -m
    "$@" >"$dir/background" 2>>"$dir/background-log" &
    set +m
    ours+=("-$!")
}

end_ours() {
    local process
    for process in "${ours[@]}"; do
        kill -KILL -- "$process" 2>/dev/null || true
    done
}

# Runs one case and says how it went.
check() {
    dir=$work/$1
    mkdir -p "$dir"
    local code=0 begun=$SECONDS
    set +e
    (
        ours=()
        trap end_ours EXIT
        trap 'exit 143' TERM
        trap '[ -s "$dir/why" ] || printf "line %s: %s" "$LINENO" "$BASH_COMMAND" >"$dir/why"' ERR
        set -e
        cd "$dir" # No .env of anybody's is here.
        export LONGSHORE_COMMIT_INTERVAL=200ms
        "$1"
    ) </dev/null >"$dir/out" 2>&1
    code=$?
    set -e
    if [ "$code" -eq 0 ]; then
        echo "ok $1 ($((SECONDS - begun)) s)$(cat "$dir/note" 2>/dev/null || true)"
        touch "$dir/passed"
        return
    fi
    echo "FAILED $1 $(cat "$dir/why" 2>/dev/null || tail -n 1 "$dir/out")"
    sed "s/^/    /" <(tail -n 15 "$dir/log" "$dir/out" 2>/dev/null) >&2
}

# Runs cases in `lanes` lanes, each of which takes the next case when it has ended one.
check_beside_each_other() {
    local name running=()
    for name in "$@"; do
        while mapfile -t running < <(jobs -rp) && [ ${#running[@]} -ge "$lanes" ]; do
            wait -n || true
        done
        check "$name" &
    done
    wait
}

# Those of the CASES that are wanted.
wanted_of() {
    local name
    for name in "$@"; do
        [ ${#wanted[@]} -eq 0 ] || [[ " ${wanted[*]} " == *" $name "* ]] || continue
        echo "$name"
    done
}

main() {
    wanted=()
    while [ $# -gt 0 ]; do
        case $1 in
            --long) long=yes ;;
            -*) echo "suite: no such option: $1" >&2; exit 64 ;;
            *)
                [[ " ${beside_each_other[*]} ${alone[*]} ${long_only[*]} " == *" $1 "* ]] || { echo "suite: no such case: $1" >&2; exit 64; }
                wanted+=("$1")
                ;;
        esac
        shift
    done
    [ -z "${long:-}${wanted[*]}" ] || alone+=("${long_only[@]}")
    command -v kcat >/dev/null || { echo "suite: no kcat found (Debian: apt-get install kcat)" >&2; exit 69; }
    [ -x "$longshore" ] || { echo "suite: no binary at $longshore: cargo build --release" >&2; exit 69; }
    mkdir -p "$work"
    trap 'trap "" TERM; jobs -p | xargs -r kill -TERM 2>/dev/null || true; wait || true' EXIT

    local cases=() name passed=0
    mapfile -t cases < <(wanted_of "${beside_each_other[@]}")
    check_beside_each_other "${cases[@]}"
    local last=()
    mapfile -t last < <(wanted_of "${alone[@]}")
    for name in "${last[@]}"; do
        check "$name"
    done
    cases+=("${last[@]}")
    for name in "${cases[@]}"; do
        [ ! -e "$work/$name/passed" ] || passed=$((passed + 1))
    done
    echo "$passed passed, $((${#cases[@]} - passed)) failed"
    [ "$passed" -eq ${#cases[@]} ]
}
