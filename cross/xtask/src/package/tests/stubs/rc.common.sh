# shellcheck shell=ash disable=SC2317
# What an init script relies on in OpenWrt's /etc/rc.common, as far as this package's does.

initscript=$1
action=$2
shift 2
name=$(basename "$initscript")
commands="start stop restart reload enable disable status"

extra_command() {
	commands="$commands $1"
}

# shellcheck disable=SC1090
. "$initscript"
# shellcheck disable=SC1091
. /lib/functions/procd.sh

# What start_service returns is lost. procd stops the instances that a service is closed without.
start() {
	procd open_service "$name"
	start_service "$@"
	service_triggers
	procd close_service
}

stop() {
	procd kill "$name"
}

# procd lists what it stops as running until it is gone.
restart() {
	stop "$@"
	start "$@"
}

reload() {
	reload_service "$@"
}

status() {
	status_service "$@"
}

enable() {
	ln -sf "../init.d/$name" "/etc/rc.d/S$START$name"
	ln -sf "../init.d/$name" "/etc/rc.d/K$STOP$name"
}

disable() {
	rm -f "/etc/rc.d/S$START$name" "/etc/rc.d/K$STOP$name"
}

# With this alone the functions above are procd's.
[ "$USE_PROCD" = 1 ] || exit 1
for known in $commands; do
	[ "$action" = "$known" ] || continue
	"$action" "$@"
	exit
done
echo "$initscript has no $action" >&2
exit 1
