package wire

// Service definitions and the identity of a process.

// ServiceDefinition says which program serves a service and which versions of
// it clients may ask for.
type ServiceDefinition struct {
	ServiceName         string
	BinaryPath          string
	Isolation           BrokerIsolation
	ExplicitInstance    string // for EXPLICIT_INSTANCE
	PerVersionBinaryDir string
	MinVersion          string   // empty = no floor
	VersionAllowList    []string // empty = every version
	Labels              map[string]string
}

// Name implements Message.
func (*ServiceDefinition) Name() string { return "ServiceDefinition" }

func (m *ServiceDefinition) fields(c *coder) {
	c.text(1, &m.ServiceName)
	c.text(2, &m.BinaryPath)
	scalar(c, 3, &m.Isolation)
	c.text(4, &m.ExplicitInstance)
	c.text(5, &m.PerVersionBinaryDir)
	c.text(6, &m.MinVersion)
	c.texts(7, &m.VersionAllowList)
	c.textMap(8, &m.Labels)
}

// BrokerIsolation says which broker instance serves the service.
type BrokerIsolation int32

// The values of BrokerIsolation.
const (
	BrokerIsolation_PRIVATE_BROKER    BrokerIsolation = 0
	BrokerIsolation_SHARED_BROKER     BrokerIsolation = 1
	BrokerIsolation_EXPLICIT_INSTANCE BrokerIsolation = 2
)

var brokerIsolationNames = [...]string{
	BrokerIsolation_PRIVATE_BROKER:    "PRIVATE_BROKER",
	BrokerIsolation_SHARED_BROKER:     "SHARED_BROKER",
	BrokerIsolation_EXPLICIT_INSTANCE: "EXPLICIT_INSTANCE",
}

func (v BrokerIsolation) String() string { return enumName(brokerIsolationNames[:], int32(v)) }

// DaemonProcess identifies one running backend. Field 3 held a SHA-256 of the
// executable; probe responses still append it for old readers.
type DaemonProcess struct {
	Pid              uint32
	ExePath          string
	IpcEndpoint      *Endpoint
	StartedAtUnixMs  uint64
	BootId           string
	IdleTimeoutSecs  *uint32
	ExeHashAlgorithm string // "blake3"
	ExeHash          []byte // of the executable file
}

// Name implements Message.
func (*DaemonProcess) Name() string { return "DaemonProcess" }

func (m *DaemonProcess) fields(c *coder) {
	scalar(c, 1, &m.Pid)
	c.text(2, &m.ExePath)
	message(c, 4, &m.IpcEndpoint)
	scalar(c, 5, &m.StartedAtUnixMs)
	c.text(6, &m.BootId)
	c.optional(7, &m.IdleTimeoutSecs)
	c.text(8, &m.ExeHashAlgorithm)
	c.bytes(9, &m.ExeHash)
}

// Endpoint is where a process listens: a Unix socket path or a Windows pipe.
type Endpoint struct {
	NamespaceId string
	Path        string
}

// Name implements Message.
func (*Endpoint) Name() string { return "Endpoint" }

func (m *Endpoint) fields(c *coder) {
	c.text(1, &m.NamespaceId)
	c.text(2, &m.Path)
}
