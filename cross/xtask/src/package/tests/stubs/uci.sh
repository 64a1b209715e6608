#!/bin/sh
# uci on lines NAME.SECTION=TYPE and NAME.SECTION.OPTION=VALUE in /uci.

[ "$1" = -q ] && shift
case "$1" in
get)
	line=$(grep "^$2=" /uci) || exit 1
	echo "${line#*=}"
	;;
set)
	grep -v "^${2%%=*}=" /uci >/uci.new
	echo "$2" >>/uci.new
	mv /uci.new /uci
	;;
show)
	# Types bare, values in quotes.
	grep "^$2\." /uci | sed "/^[^.=]*\.[^.=]*\./s/=\(.*\)/='\1'/"
	;;
commit) ;;
*) exit 1 ;;
esac
