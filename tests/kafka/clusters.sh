# Clusters of a few nodes, for `kafka cluster`. Sourced by it; it does nothing by itself.
# shellcheck shell=bash disable=SC2030,SC2031,SC2154,SC2034

# The folders of the nodes of cluster DIR.
nodes_of() {
    compgen -G "$1/node-*" | sort -V
}

# Writes the properties of N nodes of cluster DIR, and formats their data.
make_cluster() {
    local cluster=$1 count=$2 id n voters='' addresses='' formatting=()
    id=$(random_id)
    pick_ports $((count * 2))
    for ((n = 1; n <= count; n++)); do
        voters+=${voters:+,}$n@127.0.0.1:${ports[n * 2 - 1]}:$(random_id)
        addresses+=${addresses:+,}127.0.0.1:${ports[n * 2 - 2]}
    done
    for ((n = 1; n <= count; n++)); do
        dir=$cluster/node-$n
        mkdir -p "$dir"
        write_properties "$n" "${ports[@]:n * 2 - 2:2}" "127.0.0.1:${ports[1]}" "$count"
        [ ${#options[@]} -eq 0 ] || printf '%s\n' "${options[@]}" >>"$dir/server.properties"
        (format_data "$id" --initial-controllers "$voters") &
        formatting+=("$!")
    done
    for n in "${formatting[@]}"; do
        wait "$n" || die "the cluster in $cluster could not be made."
    done
    printf '%s\n' "$addresses" >"$cluster/address"
}

# Starts what does not run of cluster DIR, which has N nodes when it is made.
start_cluster() {
    local cluster=$1 starting=() each code=0
    need_libs
    mkdir -p "$cluster"
    if [ ! -f "$cluster/address" ]; then
        (make_cluster "$cluster" "$2")
    fi
    # They need each other to begin.
    for each in $(nodes_of "$cluster"); do
        (dir=$each options=() && start_node) &
        starting+=("$!")
    done
    for each in "${starting[@]}"; do
        wait "$each" || code=1
    done
    [ $code -eq 0 ] || die "not all of the cluster in $cluster has started; see its node-*/node.log."
}

# Calls COMMAND for each node of cluster DIR.
each_node() {
    local command=$1 each
    for each in $(nodes_of "$2"); do
        (dir=$each && "$command")
    done
}

# All at once: a node that stops by itself waits for a controller to let it.
stop_cluster() {
    local each
    for each in $(nodes_of "$1"); do
        (dir=$each && stop_node) &
    done
    wait
}

leader_of() {
    tool org.apache.kafka.tools.TopicCommand --bootstrap-server "$(address)" --describe --topic "$1" |
        sed -n "s/.*Partition: $2[[:space:]]*Leader: \([0-9]*\).*/\1/p" | grep . || die "$1-$2 has no leader."
}

cluster() {
    local command=${1:-} count=${3:-3}
    [ $# -ge 2 ] || die "cluster needs a sub-command and a folder. See '$0 help'."
    case $command in
        run)
            count=$2
            shift 2
            [ "${1:-}" != -- ] || shift
            [ $# -gt 0 ] || die "cluster run needs a command. See '$0 help'."
            nodes=$count
            run_command "$@"
            return
            ;;
    esac
    dir=$(realpath -m -- "$2")
    case $command in
        start) start_cluster "$dir" "$count"; address; return ;;
        stop) stop_cluster "$dir"; return ;;
        clean) each_node kill_node "$dir"; rm -rf "$dir"; return ;;
        leader)
            [ $# -eq 4 ] || die "leader needs a topic and a partition. See '$0 help'."
            need_libs
            leader_of "$3" "$4"
            return
            ;;
    esac
    dir=$dir/node-${3:-}
    [ -d "$dir" ] || die "there is no node $dir. See '$0 help'."
    case $command in
        kill) kill_node ;;
        pause) signal STOP ;;
        resume) signal CONT ;;
        restart) stop_node; start_node ;;
        *) die "no such sub-command: cluster $command. See '$0 help'." ;;
    esac
}
