// Package ssh has its tests start the real ssh and sshd: with usher as ssh's proxy command,
// and with ssh on the way to a broker of another host. Nothing listens on a port: sshd is
// started by ssh, or by a backend, on a connection that is there.
package ssh
