# Confluent's Parallel Consumer, as a reference in groups and as what a group comes from. Sourced by `groups`; it does
# nothing by itself. The member is benches/peers/parallel-consumer, which Maven builds.
# shellcheck shell=bash disable=SC2154,SC2034

# Starts a Parallel Consumer as member NAME of the group and topic GROUP. It answers in TOPIC, which it makes.
member_of_theirs() {
    local built=$root/target/compare/parallel-consumer
    [ -f "$built/classes/Member.class" ] ||
        (cd "$root/benches/peers/parallel-consumer" && mvn --quiet --batch-mode package) >>"$dir/maven.log" 2>&1
    "${JAVA_HOME:+$JAVA_HOME/bin/}java" -Xmx256m -Dorg.slf4j.simpleLogger.defaultLogLevel=warn \
        -cp "$built/classes:$built/libs/*" Member --brokers "$KAFKA_SERVER" --group "$1" --topic "$1" --reply-topic "$3" \
        --workers "$workers" --session-timeout-ms "${session_s}000" --heartbeat-interval-ms 1000 >>"$dir/$2.log" 2>&1 &
    members[$2]=$!
    ours+=("${members[$2]}")
}

# The reference: the same events as in `churn`. Nothing is asserted but that it ran.
churn_of_parallel_consumer() {
    local group=parallel-consumer count tries unanswered
    begins() {
        member_of_theirs "$1" "$2" "$1-$2"
    }
    # A JVM that is ended by a signal closes in its hook, and then says that it was a signal.
    leaves() {
        local code=0
        kill -TERM "${members[$1]}"
        wait "${members[$1]}" || code=$?
        [ $code -eq 143 ] || fail "member $1 ended with $code"
        unset "members[$1]"
    }
    churned "$group"
    for ((tries = 0; tries < 30; tries++)); do
        ! is_committed "$group" "$count" || break
        sleep 2
    done
    answered_by "$group" >"$dir/answered-by"
    commits "$group" >"$dir/commits"
    [ -s "$dir/commits" ] || fail "no commits of $group are known"
    judge >"$dir/verdicts"
    tell_churn
    unanswered=$(comm -23 <(asked "$group") <(cut -d ' ' -f 1 "$dir/answered-by" | sort -u) | wc -l)
    echo ", $unanswered not answered" >>"$dir/note"
}

# Its progress is shown while it works, and believed by who takes over from it: only what it had not finished runs again.
# (What it finished after its last commit does, too; it is given the time to commit.)
moved_from_parallel_consumer() {
    local group=moved n
    new_topic "$group" 1
    # The first one keeps the commit where it is.
    { echo 'key-0:{"longshore":{"sleep_ms":600000}}'; for ((n = 1; n <= 60; n++)); do echo "key-$n:{}"; done; } |
        produce "$group"
    member_of_theirs "$group" theirs "$group-theirs"
    await_records "$group-theirs" 60
    await 30 "its commit to say so" shows_progress "$group" '"finished_above":60,"progress":"parallel-consumer"'
    shows_progress "$group" '"committed":0,"end":61' || fail "$(cat "$dir/shown")"
    crashes theirs
    await 30 "no members" has_members "$group" 0
    member "$group" ours --task-time 0 --trust-foreign-progress=true
    await 30 "ours to say what it knows" grep -q 'finished_above=60' "$dir/ours.log"
    fill "$group" 20 0 61
    await_records "$group-replies" 20
    # Done with all but the first, which it does again.
    await 30 "ours to commit" shows_progress "$group" '"finished_above":80,"progress":"longshore"'
    [ "$(answers "$group-replies" | wc -l)" = 20 ] || fail "$(answers "$group-replies" | wc -l) answered, and not 20"
    crashes ours
}

# Whether inspect shows TEXT of GROUP.
shows_progress() {
    "$longshore" inspect --brokers "$KAFKA_SERVER" --group "$1" --json >"$dir/shown" 2>>"$dir/inspect.log"
    grep -qF "$2" "$dir/shown"
}
