// Package faults freezes and kills real broker and backend processes between
// any two steps of a connection's life, and counts what became of the requests:
// none runs twice, and every client gets a verdict.
//
// Broker and backends are processes of their own (the test binary in roles, see
// roles_test.go); the client is the test process. What ran is what the
// backends wrote down, one line a request, before they answered.
//
// Faults of a start, a channel and of a broker's end, and what shows that each is met
// (other packages' tests with their names):
//
//	a start that exits, dies or hangs     usher.TestDaemonExits, TestDaemonFails,
//	                                      broker.TestStartFailure, TestHangingStart
//	a full channel                        handoff.TestFullChannel, TestBackendStoppedUnread
//	an instance that is dead already      handoff.TestBackendGoneUnnoticed,
//	                                      broker.TestInstanceKilled
//	a message that is sent, and unread    TestBackendStoppedUnread
//	at its receiver's death
//	the broker killed at each step        TestBrokerKilled, TestConnectionsOutliveTheBroker
//	the same, under load                  TestBrokerReplacedUnderLoad,
//	                                      usher.TestBrokerKilledUnderLoad
//	draining, and an upgrade, under load  TestDrainUnderLoad, TestUpgradeUnderLoad
//	a socket that is removed or replaced  broker.TestSocketReplaced, usher.TestSocketRemoved
//	several starters of one socket        endpoint.TestStartersOnAStaleSocket
//	a second try                          broker.TestAnotherInstance, TestRetryOnce
//	a child of the backend's own          TestChildHoldsNoDescriptor,
//	                                      usher.TestDaemonsChildHoldsNothing
//	an idle end at the moment of a Hello  usher.TestCallsWhileAllEnds,
//	                                      broker.TestHellosWhileIdle
//
// The last two make few rounds unless they are told otherwise; all of them, in two minutes:
//
//	USHER_TEST_HELLOS=10000 go test -run 'WhileAllEnds|HellosWhileIdle' . ./broker
package faults
