# shellcheck shell=ash
# Notes what procd would be told in /procd. What procd would ignore without a word ends the script here.

instance=closed
jail=

procd() {
	echo "$*" >>/procd
}

wrong() {
	echo "procd: $*" >&2
	exit 9
}

procd_open_instance() {
	[ "$instance" = closed ] || wrong "an instance in an instance"
	instance=open
	procd open_instance "$@"
}

procd_close_instance() {
	[ "$instance" = open ] || wrong "no instance"
	instance=closed
	procd close_instance
}

procd_set_param() {
	[ "$instance" = open ] || wrong "$1 outside of an instance"
	case "$1" in
	command | file | respawn | term_timeout | stdout | stderr) ;;
	capabilities | no_new_privs) [ -n "$jail" ] || wrong "$1 means nothing without a jail" ;;
	*) wrong "parameter $1" ;;
	esac
	procd "$@"
}

procd_add_jail() {
	[ "$instance" = open ] || wrong "a jail outside of an instance"
	jail=$1
	procd jail "$@"
}

procd_add_reload_trigger() {
	procd reload_trigger "$@"
}

procd_running() {
	[ -e "/running/$1" ]
}

procd_send_signal() {
	procd signal "$@"
}
