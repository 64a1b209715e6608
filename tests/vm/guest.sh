#!/bin/sh
# What every guest kernel must offer before anything of Sluice is tried in it: the native nft queue with bypass and a
# flowtable, veth between namespaces, bpffs, conntrack marks. Prints a line for each; fails when one fails.
#
#   guest.sh            all tests
#   guest.sh test NAME  one, the way the first form starts each: errexit does not work inside a condition
# shellcheck disable=SC2317 # tests are called by their names
set -eu

# client 10.9.1.2 - 10.9.1.1 router 10.9.2.1 - 10.9.2.2 server
topology() {
    for ns in client router server; do
        ip netns add "$ns"
        ip -n "$ns" link set lo up
    done
    ip link add c0 netns client type veth peer name lan netns router
    ip link add s0 netns server type veth peer name wan netns router
    ip -n client addr add 10.9.1.2/24 dev c0
    ip -n router addr add 10.9.1.1/24 dev lan
    ip -n router addr add 10.9.2.1/24 dev wan
    ip -n server addr add 10.9.2.2/24 dev s0
    for link in client:c0 router:lan router:wan server:s0; do
        ip -n "${link%:*}" link set "${link#*:}" up
    done
    ip -n client route add default via 10.9.1.1
    ip -n server route add default via 10.9.2.1
    ip netns exec router sysctl -qw net.ipv4.ip_forward=1
}

ping_server() {
    ip netns exec client ping -c 1 -W 3 10.9.2.2
}

forwards() {
    topology
    ping_server
}

# The expression exists and the bypass flag is kept: without a listener packets pass.
queue_bypass_passes() {
    ip netns exec router nft -f - <<'RULES'
table inet probe {
    chain forward {
        type filter hook forward priority 0; policy accept;
        counter queue num 0 bypass
    }
}
RULES
    ip netns exec router nft list table inet probe | grep -q 'queue flags bypass to 0'
    ping_server
    # The rule was on the way.
    ip netns exec router nft list table inet probe | grep -q 'packets [1-9]'
}

# And without the flag they do not: the rule above was not simply ignored.
queue_without_bypass_drops() {
    ip netns exec router nft flush chain inet probe forward
    ip netns exec router nft add rule inet probe forward queue num 0
    if ping_server; then return 1; fi
    ip netns exec router nft delete table inet probe
    ping_server
}

conntrack_marks() {
    ip netns exec router nft -f - <<'RULES'
table inet probe {
    chain forward {
        type filter hook forward priority 0; policy accept;
        ct mark set ct mark & 0xffffff00 | 0x2a
    }
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        oifname "wan" masquerade
    }
}
RULES
    ping_server
    ip netns exec router conntrack -L 2>/dev/null | grep -q 'mark=42'
    ip netns exec router conntrack -L 2>/dev/null | grep -q 'dst=10.9.2.1 '
    ip netns exec router nft delete table inet probe
}

flowtable_is_accepted() {
    ip netns exec router nft -f - <<'RULES'
table inet probe {
    flowtable ft {
        hook ingress priority 0; devices = { lan, wan };
    }
    chain forward {
        type filter hook forward priority 0; policy accept;
        ip protocol tcp flow add @ft
    }
}
RULES
    ip netns exec router nft delete table inet probe
}

bpffs_is_mounted() {
    grep -q '^bpf /sys/fs/bpf bpf ' /proc/mounts
    mkdir /sys/fs/bpf/probe
    rmdir /sys/fs/bpf/probe
}

clsact_is_accepted() {
    ip netns exec router tc qdisc add dev lan clsact
    ip netns exec router tc qdisc show dev lan | grep -q clsact
    ip netns exec router tc qdisc del dev lan clsact
}

# Debian's kernels have types, a router's has none.
btf_is_as_expected() {
    case $(uname -r) in
    *-cloud-*) [ -s /sys/kernel/btf/vmlinux ] ;;
    *) [ ! -e /sys/kernel/btf ] ;;
    esac
}

if [ "${1-}" = test ]; then
    "$2"
    exit
fi

status=0
for name in \
    forwards queue_bypass_passes queue_without_bypass_drops conntrack_marks flowtable_is_accepted \
    bpffs_is_mounted clsact_is_accepted btf_is_as_expected; do
    if output=$("$0" test "$name" 2>&1); then
        echo "test guest::$name ... ok"
    else
        echo "$output"
        echo "test guest::$name ... FAILED"
        status=1
    fi
done
for ns in client router server; do
    ip netns del "$ns"
done
exit "$status"
