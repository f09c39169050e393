#!/bin/sh
# The guest's first process: mounts, drivers, network, then commands from the host.
/bin/busybox --install -s /bin
export PATH=/bin HOME=/
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /tmp /var/run /dev/pts
mount -t tmpfs tmp /tmp
mount -t devpts pts /dev/pts

for module in $(cat /modules/order); do
    insmod "/modules/$module" || echo "init: cannot load $module"
done

# Settings come on the kernel's command line: wo.KEY=VALUE.
for word in $(cat /proc/cmdline); do
    case $word in
        wo.ip=*) ip=${word#*=} ;;
        wo.ip6=*) ip6=${word#*=} ;;
        wo.gw=*) gw=${word#*=} ;;
        wo.mtu=*) mtu=${word#*=} ;;
    esac
done
ip link set lo up
if [ -e /sys/class/net/eth0 ]; then
    [ -n "$mtu" ] && ip link set eth0 mtu "$mtu"
    # No duplicate address detection: addresses work at once.
    echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_dad
    ip link set eth0 up
    [ -n "$ip" ] && ip addr add "$ip" dev eth0
    [ -n "$ip6" ] && ip addr add "$ip6" dev eth0
    [ -n "$gw" ] && ip route add default via "$gw"
fi

# A shell for people on the second serial port, if there is one.
if [ -e /dev/ttyS1 ] && grep -q wo.console /proc/cmdline; then
    (while :; do setsid -c sh </dev/ttyS1 >/dev/ttyS1 2>&1; sleep 1; done) &
fi

# The agent. One line in: NONCE LIMIT_S COMMAND_IN_BASE64
# One answer out: <<<NONCE STATUS BYTES>>>, a newline, and that many bytes of output.
port=/dev/vport0p1
while [ ! -e $port ]; do
    for entry in /dev/vport*; do [ -e "$entry" ] && port=$entry; done
    sleep 0.02
done
exec 3<>$port
echo '<<<ready 0 0>>>' >&3
while read -r nonce limit command <&3; do
    echo "$command" | base64 -d >/tmp/command
    timeout -s KILL "$limit" sh /tmp/command >/tmp/output 2>&1 </dev/null 3<&-
    status=$?
    echo "<<<$nonce $status $(wc -c </tmp/output)>>>" >&3
    cat /tmp/output >&3
done
echo 'init: the command channel ended'
poweroff -f
