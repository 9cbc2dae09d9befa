package event

// Adopted is the verdict of a Handoff whose connection the backend owns.
const Adopted = "adopted"

// InTime reports whether the backend has adopted, and acknowledged before its deadline.
func (e Handoff) InTime() bool { return e.Verdict == Adopted && !e.Late }

// Name implements Event.
func (e Handoff) Name() string {
	if e.InTime() {
		return "handoff.adopted"
	}
	return "handoff.fell_back"
}
func (Handoff) fact() {}

// Name implements Event.
func (Serving) Name() string { return "broker.serving" }
func (Serving) fact()        {}

// Name implements Event.
func (Draining) Name() string { return "broker.draining" }
func (Draining) fact()        {}

// Name implements Event.
func (DrainTimeout) Name() string { return "broker.drain_timeout" }
func (DrainTimeout) fact()        {}

// Name implements Event.
func (Stopped) Name() string { return "broker.stopped" }
func (Stopped) fact()        {}

// Name implements Event.
func (LoopFailed) Name() string { return "broker.loop_failed" }
func (LoopFailed) fact()        {}

// Name implements Event.
func (FilesHang) Name() string { return "broker.files_hang" }
func (FilesHang) fact()        {}

// Name implements Event.
func (Unwatched) Name() string { return "broker.unwatched" }
func (Unwatched) fact()        {}

// Name implements Event.
func (SocketReplaced) Name() string { return "socket.replaced" }
func (SocketReplaced) fact()        {}

// Name implements Event.
func (SocketUnknown) Name() string { return "socket.unknown" }
func (SocketUnknown) fact()        {}

// Name implements Event.
func (SocketKnown) Name() string { return "socket.known" }
func (SocketKnown) fact()        {}

// Name implements Event.
func (SocketKept) Name() string { return "socket.kept" }
func (SocketKept) fact()        {}

// Name implements Event.
func (Listening) Name() string { return "listen.begun" }
func (Listening) fact()        {}

// Name implements Event.
func (ListenFailed) Name() string { return "listen.failed" }
func (ListenFailed) fact()        {}

// Name implements Event.
func (ListenEnded) Name() string { return "listen.ended" }
func (ListenEnded) fact()        {}

// Name implements Event.
func (PipesRemoved) Name() string { return "pipes.removed" }
func (PipesRemoved) fact()        {}

// Name implements Event.
func (AcceptFailed) Name() string { return "accept.failed" }
func (AcceptFailed) fact()        {}

// Name implements Event.
func (PeerDropped) Name() string { return "peer.dropped" }
func (PeerDropped) fact()        {}

// Name implements Event.
func (Refused) Name() string { return "hello.refused" }
func (Refused) fact()        {}

// Name implements Event.
func (ClientGone) Name() string { return "client.gone" }
func (ClientGone) fact()        {}

// Name implements Event.
func (AnswerLost) Name() string { return "client.answer_lost" }
func (AnswerLost) fact()        {}

// Name implements Event.
func (AdminMalformed) Name() string { return "admin.malformed" }
func (AdminMalformed) fact()        {}

// Name implements Event.
func (Waited) Name() string { return "client.waited" }
func (Waited) fact()        {}

// Name implements Event.
func (NotOffered) Name() string { return "handoff.not_offered" }
func (NotOffered) fact()        {}

// Name implements Event.
func (Reconnected) Name() string { return "client.reconnected" }
func (Reconnected) fact()        {}

// Name implements Event.
func (Done) Name() string { return "connection.done" }
func (Done) fact()        {}

// Name implements Event.
func (Bug) Name() string { return "bug" }
func (Bug) fact()        {}

// Name implements Event.
func (Retried) Name() string { return "handoff.retried" }
func (Retried) fact()        {}

// Name implements Event.
func (ProvenUnread) Name() string { return "handoff.proven_unread" }
func (ProvenUnread) fact()        {}

// Name implements Event.
func (NoToken) Name() string { return "handoff.no_token" }
func (NoToken) fact()        {}

// Name implements Event.
func (ReadyLost) Name() string { return "handoff.ready_lost" }
func (ReadyLost) fact()        {}

// Name implements Event.
func (BackendTaken) Name() string { return "backend.taken_over" }
func (BackendTaken) fact()        {}

// Name implements Event.
func (Registered) Name() string { return "backend.registered" }
func (Registered) fact()        {}

// Name implements Event.
func (RegistrationRefused) Name() string { return "backend.refused" }
func (RegistrationRefused) fact()        {}

// Name implements Event.
func (RegistrationFailed) Name() string { return "backend.registration_failed" }
func (RegistrationFailed) fact()        {}

// Name implements Event.
func (RegistrationMalformed) Name() string { return "backend.malformed" }
func (RegistrationMalformed) fact()        {}

// Name implements Event.
func (PageMissing) Name() string { return "backend.no_page" }
func (PageMissing) fact()        {}

// Name implements Event.
func (ChannelEnded) Name() string { return "backend.channel_ended" }
func (ChannelEnded) fact()        {}

// Name implements Event.
func (Exited) Name() string { return "backend.exited" }
func (Exited) fact()        {}

// Name implements Event.
func (Left) Name() string { return "backend.left" }
func (Left) fact()        {}

// Name implements Event.
func (StaticFound) Name() string { return "backend.static_found" }
func (StaticFound) fact()        {}

// Name implements Event.
func (StaticMissing) Name() string { return "backend.static_missing" }
func (StaticMissing) fact()        {}

// Name implements Event.
func (Started) Name() string { return "instance.started" }
func (Started) fact()        {}

// Name implements Event.
func (Ready) Name() string { return "instance.ready" }
func (Ready) fact()        {}

// Name implements Event.
func (StartFailed) Name() string { return "instance.start_failed" }
func (StartFailed) fact()        {}

// Name implements Event.
func (Relayed) Name() string { return "connection.relayed" }
func (Relayed) fact()        {}

// Name implements Event.
func (e ProcessStarted) Name() string {
	if e.Problem != "" {
		return "process.start_failed"
	}
	return "process.started"
}
func (ProcessStarted) fact() {}

// Name implements Event.
func (ProcessEnded) Name() string { return "process.ended" }
func (ProcessEnded) fact()        {}

// Name implements Event.
func (LetGo) Name() string { return "instance.let_go" }
func (LetGo) fact()        {}

// Name implements Event.
func (Busy) Name() string { return "instance.busy" }
func (Busy) fact()        {}

// Name implements Event.
func (SocketUnwatched) Name() string { return "socket.unwatched" }
func (SocketUnwatched) fact()        {}

// Name implements Event.
func (Upgraded) Name() string { return "broker.upgraded" }
func (Upgraded) fact()        {}

// Name implements Event.
func (Stays) Name() string { return "broker.stays" }
func (Stays) fact()        {}

// Name implements Event.
func (UpgradeFailed) Name() string { return "broker.upgrade_failed" }
func (UpgradeFailed) fact()        {}

// Name implements Event.
func (TakenOver) Name() string { return "connection.taken_over" }
func (TakenOver) fact()        {}

// Name implements Event.
func (Paused) Name() string { return "service.paused" }
func (Paused) fact()        {}

// Name implements Event.
func (Resumed) Name() string { return "service.resumed" }
func (Resumed) fact()        {}

// Name implements Event.
func (LogUnbounded) Name() string { return "instance.log_unbounded" }
func (LogUnbounded) fact()        {}
