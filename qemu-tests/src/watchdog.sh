# Undoes what a wireonce test bed set up, when the test bed's process is gone.
#
# Standard input is a pipe whose only writer is that process; its end is the signal to start.
# One line per thing:   + KIND NAME [MORE]   set up, undo it later
#                       - KIND NAME          undone already, forget it
# Kinds: pid PID START_TIME | netns NAME | dir PATH | setting PATH OLD_VALUE
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
    [ "$(start_time "$1")" = "$2" ] && kill -KILL "$1" 2>/dev/null
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

undo_setting() {
    echo "$2" >"$1" 2>/dev/null
}

for kind in pid netns setting dir; do
    each "$kind"
done
