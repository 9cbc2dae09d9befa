package endpoint

// What a broker tells an instance that it starts, beside the variables of spec 03 §11
// (docs/protocol.md, section "Started instances").
const (
	// ChannelVariable is the inherited descriptors of the channel and of its page of
	// claims, as "3,4"; "3" without a page.
	ChannelVariable = "USHER_CHANNEL"
	// OwnBuildVariable is the OwnBuild that the instance was started for, in hexadecimal:
	// what it says when it registers with the next broker.
	OwnBuildVariable = "USHER_OWN_BUILD"
	// IdleVariable is how long an instance goes on without a connection, as a duration.
	IdleVariable = "USHER_IDLE"
)

// The variables of spec 03 §11.
const (
	IsDaemonVariable    = "RUNNING_PROCESS_IS_DAEMON"
	ServiceVariable     = "RUNNING_PROCESS_BROKER_V1_SERVICE_NAME"
	VersionVariable     = "RUNNING_PROCESS_BROKER_V1_SERVICE_VERSION"
	InstanceVariable    = "RUNNING_PROCESS_BROKER_V1_INSTANCE"
	TraceparentVariable = "RUNNING_PROCESS_BROKER_V1_TRACEPARENT"
	TracestateVariable  = "RUNNING_PROCESS_BROKER_V1_TRACESTATE"

	// BackendPipeVariable and NamespaceVariable are the endpoint that the instance serves,
	// and answers probes with.
	BackendPipeVariable = "RUNNING_PROCESS_BROKER_V1_BACKEND_PIPE"
	NamespaceVariable   = "RUNNING_PROCESS_BROKER_V1_BACKEND_NAMESPACE"
	// ListenerVariable is the inherited descriptor of a socket that listens at that pipe.
	ListenerVariable = "RUNNING_PROCESS_BROKER_LISTENER_FD"
)
