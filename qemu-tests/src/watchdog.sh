# Undoes what a wireonce test bed set up, when the test bed's process is gone.
#
# Standard input is a pipe whose only writer is that process; its end is the signal to start.
# One line per thing:   + KIND NAME [MORE]   set up, undo it later
#                       - KIND NAME          undone already, forget it
# Kinds: pid PID START_TIME | netns NAME | dir PATH | pages ID ADDED POOL
trap '' INT TERM HUP QUIT
newline='
'
list=''
while read -r sign kind name more; do
    case $sign in
        +) list="$kind $name $more$newline$list" ;;
        -)
            kept=''
            while read -r k n m; do
                [ -z "$k" ] && continue
                [ "$k $n" = "$kind $name" ] && continue
                kept="$kept$k $n $m$newline"
            done <<END
$list
END
            list=$kept
            ;;
    esac
done

# A process id may have been used again: only the process with the same start time is ours.
start_time() {
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    stat=${stat##*) }
    set -- $stat
    echo "${20}"
}

each() {
    while read -r k n m; do
        [ "$k" = "$1" ] && "undo_$1" "$n" "$m"
    done <<END
$list
END
}

undo_pid() {
    [ "$(start_time "$1")" = "$2" ] || return
    # With its group, if it leads one.
    kill -s KILL -- "-$1" 2>/dev/null || kill -s KILL "$1" 2>/dev/null
}

undo_netns() {
    case $1 in wo-*) ;; *) return ;; esac
    for pid in $(ip netns pids "$1" 2>/dev/null); do
        kill -KILL "$pid" 2>/dev/null
    done
    ip netns del "$1" 2>/dev/null
}

undo_dir() {
    case $1 in */wo-*) rm -rf -- "$1" ;; esac
}

# Whoever changes a pool has its lock; who dies with it gives it back.
undo_pages() {
    added=${2%% *}
    pool=${2#* }
    {
        flock -w 10 9
        left=$(($(cat "$pool/nr_hugepages") - added))
        [ "$left" -lt 0 ] && left=0
        echo "$left" >"$pool/nr_hugepages"
    } 9<"$pool/nr_hugepages" 2>/dev/null
}

for kind in pid netns pages dir; do
    each "$kind"
done
