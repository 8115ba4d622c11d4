package main

import (
	"fmt"
	"net"
)

// loopbackAddress accepts host:port only when it stays on this machine, and gives back a literal IP address, so that
// a later change of name resolution cannot lead the load elsewhere. A load generator must not become a weapon.
func loopbackAddress(hostPort string) (string, error) {
	host, port, err := net.SplitHostPort(hostPort)
	if err != nil {
		return "", fmt.Errorf("--target: found %q, expected host:port: %w", hostPort, err)
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	ip := net.ParseIP(host)
	if ip == nil || !ip.IsLoopback() {
		return "", fmt.Errorf("--target: %q is not a loopback address; this generator loads only 127.0.0.0/8, ::1 and localhost", host)
	}
	return net.JoinHostPort(ip.String(), port), nil
}
