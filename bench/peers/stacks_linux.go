package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"time"

	"github.com/seed-7265657e/usher/client"
	"github.com/seed-7265657e/usher/internal/world"
)

// stack is one way from the client to an echo.
type stack struct {
	name string
	note string
	// start starts what stands between; its processes are counted with the backend's.
	start func(s *site) ([]*world.Process, error)
	// first connects, sends a request and reads its answer.
	first func(ctx context.Context, s *site) (net.Conn, error)
	// alone says that no backend stands behind it.
	alone bool
	// mode is the group of stacks that it is compared in, where there is more than one.
	mode string
	// wait says that the other end closes a connection when its client says no more.
	wait bool
	// fresh, where it is not nil, makes ready for a round, whose first connection alone is
	// measured; over ends it.
	fresh func(ctx context.Context, s *site, round int) ([]*world.Process, error)
	over  func(e *entry) error
}

var stacks = []stack{
	{name: "direct", note: "no broker", first: dialled((*site).backendPipe)},
	{name: "usher", note: "handed over", start: (*site).broker, first: viaUsher(false)},
	{name: "usher-reconnect", note: "told where to reconnect", start: (*site).broker, first: viaUsher(true)},
	{name: "socat", note: "a process per connection, copies", start: startSocat, first: dialled(path("socat.sock"))},
	{name: "socket-proxyd", note: "systemd-socket-proxyd, copies", start: startProxyd, first: dialled(path("proxyd.sock"))},
	{name: "haproxy", note: "copies", start: startHAProxy, first: dialled(path("haproxy.sock"))},
	{name: "nginx", note: "stream module, copies", start: startNginx, first: dialled(path("nginx.sock"))},
	{name: "s6-ipcserver", note: "starts a program per connection", start: startS6, first: dialled(path("s6.sock")), alone: true},
	{name: "apache-fdpass", note: "mod_proxy_fdpass, HTTP over TCP first", start: startApache, first: viaApache, alone: true},
	{name: "node-cluster", note: "round robin, echo in JavaScript", start: startNode, first: dialled(path("node.sock")), alone: true},
}

func path(name string) func(*site) string {
	return func(s *site) string { return s.Path(name) }
}

const timeout = 10 * time.Second

// dialled dials a Unix socket.
func dialled(socket func(*site) string) func(context.Context, *site) (net.Conn, error) {
	return func(_ context.Context, s *site) (net.Conn, error) {
		c, err := net.Dial("unix", socket(s))
		if err != nil {
			return nil, err
		}
		return c, exchange(c, s.request, s.answer)
	}
}

// exchange sends a request and reads its answer. A connection that fails is closed.
func exchange(c net.Conn, request, answer []byte) error {
	err := c.SetDeadline(time.Now().Add(timeout))
	if err == nil {
		_, err = c.Write(request)
	}
	if err == nil {
		_, err = io.ReadFull(c, answer)
	}
	if err != nil {
		_ = c.Close()
	}
	return err
}

func viaUsher(reconnect bool) func(context.Context, *site) (net.Conn, error) {
	return func(ctx context.Context, s *site) (net.Conn, error) {
		c, err := client.DialWith(ctx, client.Options{
			Service: serviceName, Version: version, Broker: s.Socket(), NoHandoff: reconnect,
		}, s.request)
		if err != nil {
			return nil, err
		}
		if _, err = io.ReadFull(c, s.answer); err == nil && !reconnect && c.Route() != client.HandedOver {
			err = errors.New("not handed over")
		}
		if err != nil {
			_ = c.Close()
		}
		return c, err
	}
}

func viaApache(_ context.Context, s *site) (net.Conn, error) {
	c, err := net.Dial("tcp", s.apache)
	if err != nil {
		return nil, err
	}
	return c, exchange(c, []byte(httpRequest), make([]byte, len(httpAnswer)))
}

// find is where a program is, also outside a user's PATH.
func find(program string, elsewhere ...string) (string, error) {
	if p, err := exec.LookPath(program); err == nil {
		return p, nil
	}
	for _, p := range append(elsewhere, filepath.Join("/usr/sbin", program)) {
		if info, err := os.Stat(p); err == nil && info.Mode()&0o111 != 0 {
			return p, nil
		}
	}
	return "", fmt.Errorf("not installed: bench/peers/install.sh installs it")
}

func startSocat(s *site) ([]*world.Process, error) {
	program, err := find("socat")
	if err != nil {
		return nil, err
	}
	return s.start(nil, program, "UNIX-LISTEN:"+path("socat.sock")(s)+",fork,backlog=1024", "UNIX-CONNECT:"+s.backendPipe())
}

// startProxyd gives the listener along, as systemd would: descriptor 3, and whose
// it is.
func startProxyd(s *site) ([]*world.Process, error) {
	program, err := find("systemd-socket-proxyd", "/lib/systemd/systemd-socket-proxyd", "/usr/lib/systemd/systemd-socket-proxyd")
	if err != nil {
		return nil, err
	}
	ln, err := net.Listen("unix", path("proxyd.sock")(s))
	if err != nil {
		return nil, err
	}
	defer func() { _ = ln.Close() }()
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	f, err := ln.(*net.UnixListener).File()
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return s.start([]*os.File{f}, "/bin/sh", "-c", `LISTEN_FDS=1 LISTEN_PID=$$ exec "$0" --connections-max=1024 "$1"`, program, s.backendPipe())
}

func startHAProxy(s *site) ([]*world.Process, error) {
	program, err := find("haproxy")
	if err != nil {
		return nil, err
	}
	config, err := s.write("haproxy.cfg", `global
	maxconn 2000
defaults
	mode tcp
	timeout connect 5s
	timeout client 1m
	timeout server 1m
listen peers
	bind unix@%s
	server backend unix@%s
`, path("haproxy.sock")(s), s.backendPipe())
	if err != nil {
		return nil, err
	}
	return s.start(nil, program, "-db", "-q", "-f", config)
}

func startNginx(s *site) ([]*world.Process, error) {
	program, err := find("nginx")
	if err != nil {
		return nil, err
	}
	module := ""
	for _, p := range []string{"/usr/lib/nginx/modules/ngx_stream_module.so", "/usr/lib64/nginx/modules/ngx_stream_module.so"} {
		if _, err := os.Stat(p); err == nil {
			module = "load_module " + p + ";"
		}
	}
	as := ""
	if u, err := user.Current(); err == nil && u.Uid == "0" { // its workers must be who the backend serves
		as = "user " + u.Username + " " + u.Username + ";"
	}
	config, err := s.write("nginx.conf", `%s
%s
daemon off;
worker_processes 1;
pid %s/nginx.pid;
error_log %s/nginx.log;
events { worker_connections 2048; }
stream { server { listen unix:%s; proxy_pass unix:%s; } }
`, module, as, s.Dir, s.Dir, path("nginx.sock")(s), s.backendPipe())
	if err != nil {
		return nil, err
	}
	return s.start(nil, program, "-p", s.Dir, "-e", s.Dir+"/nginx.log", "-c", config)
}

func startS6(s *site) ([]*world.Process, error) {
	program, err := find("s6-ipcserver")
	if err != nil {
		return nil, err
	}
	return s.start(nil, program, "-c", "1000", "-C", "1000", "-b", "128", path("s6.sock")(s), s.self, "role", "stdio")
}

func startApache(s *site) ([]*world.Process, error) {
	program, err := find("apache2")
	if err != nil {
		if program, err = find("httpd"); err != nil {
			return nil, err
		}
	}
	modules := ""
	for _, dir := range []string{"/usr/lib/apache2/modules", "/usr/lib64/httpd/modules"} {
		if _, err := os.Stat(dir + "/mod_proxy_fdpass.so"); err == nil {
			modules = dir
		}
	}
	if modules == "" {
		return nil, errors.New("its module mod_proxy_fdpass is not installed: bench/peers/install.sh installs it")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0") // Apache must be told a number: one that is free now
	if err != nil {
		return nil, err
	}
	s.apache = ln.Addr().String()
	_ = ln.Close()
	as := ""
	if os.Geteuid() == 0 {
		as = "User nobody\nGroup nogroup\n"
	}
	socket := filepath.Join(s.Dir, "open", "fd.sock")
	if err := errors.Join(os.Mkdir(filepath.Dir(socket), 0o711), os.Chmod(filepath.Dir(socket), 0o711), os.Chmod(s.Dir, 0o711)); err != nil {
		return nil, err
	}
	var load strings.Builder
	for _, m := range []string{"mpm_event", "authz_core", "proxy", "proxy_fdpass"} {
		fmt.Fprintf(&load, "LoadModule %s_module %s/mod_%s.so\n", m, modules, m)
	}
	config, err := s.write("apache.conf", `ServerRoot %s
%s%sDefaultRuntimeDir %s
PidFile %s/apache.pid
ErrorLog %s/apache.log
ServerName peers
Listen %s
ProxyPass "/" "fd://open/fd.sock"
`, s.Dir, load.String(), as, s.Dir, s.Dir, s.Dir, s.apache)
	if err != nil {
		return nil, err
	}
	receiver, err := s.start(nil, s.self, "role", "fdpass", socket)
	if err != nil {
		return nil, err
	}
	apache, err := s.start(nil, program, "-D", "FOREGROUND", "-f", config)
	return append(receiver, apache...), err
}

func startNode(s *site) ([]*world.Process, error) {
	program, err := find("node")
	if err != nil {
		return nil, err
	}
	script, err := s.write("cluster.js", `const cluster = require('cluster'), net = require('net');
if (cluster.isPrimary) {
  cluster.schedulingPolicy = cluster.SCHED_RR;
  cluster.fork();
} else {
  net.createServer(c => { c.on('error', () => {}); c.pipe(c); }).listen(%q);
}
`, path("node.sock")(s))
	if err != nil {
		return nil, err
	}
	return s.start(nil, program, script)
}
