# shellcheck shell=ash
# What a package's scripts rely on in OpenWrt's /lib/functions.sh, as far as this package does: opkg's and apk's file
# lists, uci-defaults that are sourced once and deleted, services that are enabled and started.

package_files() {
	cat "/usr/lib/opkg/info/$pkgname.list" "/lib/apk/packages/$pkgname.list" 2>/dev/null
}

name_of() {
	[ -n "$pkgname" ] || pkgname=$(basename "${1%.*}")
}

add_group_and_user() {
	[ ! -f "/lib/apk/packages/$pkgname.rusers" ] || cat "/lib/apk/packages/$pkgname.rusers" >>/users
}

default_postinst() {
	name_of "$1"
	sed -n 's/^Require-User: //p' "/usr/lib/opkg/info/$pkgname.control" >>/users 2>/dev/null
	for file in $(package_files | grep '^/etc/uci-defaults/'); do
		# shellcheck disable=SC1090
		([ -f "$file" ] && . "$file") && rm -f "$file"
	done
	if [ -f "/usr/lib/opkg/info/$pkgname.postinst-pkg" ]; then
		# shellcheck disable=SC1090
		(. "/usr/lib/opkg/info/$pkgname.postinst-pkg")
	fi
	for file in $(package_files | grep '^/etc/init.d/'); do
		[ "$PKG_UPGRADE" = 1 ] || "$file" enable
		"$file" start
	done
}

default_prerm() {
	name_of "$1"
	for file in $(package_files | grep '^/etc/init.d/'); do
		"$file" disable
		"$file" stop
	done
}
