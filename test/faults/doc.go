// Package faults freezes and kills real broker and backend processes between
// any two steps of a connection's life, and counts what became of the requests:
// none runs twice, and every client gets a verdict.
//
// Broker and backends are processes of their own (the test binary in roles, see
// roles_test.go); the client is the test process. What ran is what the
// backends wrote down, one line a request, before they answered.
package faults
