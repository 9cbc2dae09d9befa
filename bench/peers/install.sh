#!/usr/bin/env bash
# Installs on Debian what usher is measured against, and starts none of it.
set -euo pipefail
[ "$(id -u)" = 0 ] || { printf 'run this as root: it installs packages\n' >&2; exit 1; }

# A container that has service management must not start what is only called here.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod 755 "$policy"
	trap 'rm -f "$policy"' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -yq --no-install-recommends socat systemd haproxy nginx-light libnginx-mod-stream s6 apache2
command -v node >/dev/null || apt-get install -yq --no-install-recommends nodejs
