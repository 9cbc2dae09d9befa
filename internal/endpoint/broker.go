package endpoint

// SocketVariable names the broker's socket for every program of this
// environment (spec 03 §18).
const SocketVariable = "RUNNING_PROCESS_BROKER_V1_SOCKET"

// BrokerSocket returns the path of the broker's socket: explicit if it is not
// empty, else SocketVariable's value when that is not empty, else the shared
// broker of the calling user. Errors: those of SocketPath.
func BrokerSocket(explicit string) (string, error) {
	if explicit != "" {
		return explicit, nil
	}
	if path, err := thisHost().directory(SocketVariable); path != "" || err != nil {
		return path, err
	}
	return Shared().SocketPath()
}
