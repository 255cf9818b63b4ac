# Removes a lab: everything in namespaces named "$1-*", the folder "$2", the pins below "$3".
# With "wait" as $4 it first waits for the end of its standard input, which comes when the lab's
# owner closes it or is gone, however it went.
prefix=$1 folder=$2 pins=$3

if [ "${4-}" = wait ]; then
    trap '' INT TERM HUP
    cat >/dev/null
fi

pids() {
    for namespace in /run/netns/"$prefix"-*; do
        [ -e "$namespace" ] && ip netns pids "${namespace##*/}" 2>/dev/null
    done
}

# First by request, so that an agent can detach and nginx can stop its workers.
tries=0
while found=$(pids) && [ -n "$found" ] && [ "$tries" -lt 80 ]; do
    case $tries in
    0) kill -s TERM $found 2>/dev/null ;;
    40) kill -s KILL $found 2>/dev/null ;;
    esac
    tries=$((tries + 1))
    sleep 0.05
done

for namespace in /run/netns/"$prefix"-*; do
    [ -e "$namespace" ] && ip netns del "${namespace##*/}"
done
rm -rf "$pins" "$folder"
[ ! -e "$folder" ]
