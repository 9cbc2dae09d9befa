package handoff

import (
	"fmt"
	"sync"
	"time"
)

// QueueConfig bounds a Queue (spec 02 §4). NewQueue takes the numbers as given
// and raises those below their minimum; start from DefaultQueueConfig.
type QueueConfig struct {
	Max int           // items, at least 1
	TTL time.Duration // time an item may wait; 0 and less → 1 ms
}

// DefaultQueueConfig gives 64 items and 100 ms.
func DefaultQueueConfig() QueueConfig {
	return QueueConfig{Max: 64, TTL: 100 * time.Millisecond}
}

// OverflowError reports a full queue: nothing was enqueued, the caller keeps the
// item and lets the client reconnect.
type OverflowError struct {
	Max int // items
}

func (e *OverflowError) Error() string {
	return fmt.Sprintf("handoff queue is full (%d); let the client reconnect to the backend pipe", e.Max)
}

// Reason is the fallback reason of an overflow.
func (*OverflowError) Reason() Reason { return FdPressureDisabled }

// Queue parks items that wait for a backend, first in, first out, for a bounded
// time. The queue owns what is in it: an item leaves by Dequeue, which gives it
// to the caller, or by expiry, which gives it to the expired function. It is
// safe for concurrent use; every operation costs O(1) on average.
type Queue[T any] struct {
	config  QueueConfig
	expired func(T)

	mu    sync.Mutex
	ring  []parked[T] // grows to config.Max
	first int         // index of the oldest item
	used  int
}

type parked[T any] struct {
	item  T
	since time.Time
}

// NewQueue returns an empty queue. It calls expired, without a lock held, for
// each item that waited too long; that function must not be nil and releases
// what the item holds.
func NewQueue[T any](config QueueConfig, expired func(T)) *Queue[T] {
	return &Queue[T]{
		config:  QueueConfig{Max: max(config.Max, 1), TTL: atLeastOneMilli(config.TTL)},
		expired: expired,
	}
}

// Enqueue drops the expired items and parks item until now + TTL. It fails with
// *OverflowError; the item stays the caller's then.
func (q *Queue[T]) Enqueue(item T, now time.Time) error {
	dropped, err := q.enqueue(item, now)
	q.release(dropped)
	return err
}

// Dequeue drops the expired items and returns the oldest other one, if any.
func (q *Queue[T]) Dequeue(now time.Time) (T, bool) {
	item, ok, dropped := q.dequeue(now)
	q.release(dropped)
	return item, ok
}

// Prune drops the expired items and returns how many they were.
func (q *Queue[T]) Prune(now time.Time) int {
	q.mu.Lock()
	dropped := q.takeExpired(now)
	q.mu.Unlock()
	q.release(dropped)
	return len(dropped)
}

// Len counts the items parked, with the expired ones not dropped yet.
func (q *Queue[T]) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.used
}

func (q *Queue[T]) enqueue(item T, now time.Time) (dropped []T, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	dropped = q.takeExpired(now)
	if q.used == q.config.Max {
		return dropped, &OverflowError{Max: q.config.Max}
	}
	if q.used == len(q.ring) {
		q.grow()
	}
	// Callers may get the lock in another order than they read the clock. An
	// item is never older than the one before it, so the first expires first.
	if q.used > 0 {
		if newest := q.at(q.used - 1).since; now.Before(newest) {
			now = newest
		}
	}
	q.used++
	*q.at(q.used - 1) = parked[T]{item: item, since: now}
	return dropped, nil
}

func (q *Queue[T]) dequeue(now time.Time) (item T, ok bool, dropped []T) {
	q.mu.Lock()
	defer q.mu.Unlock()
	dropped = q.takeExpired(now)
	if q.used == 0 {
		return item, false, dropped
	}
	return q.pop(), true, dropped
}

func (q *Queue[T]) takeExpired(now time.Time) (dropped []T) {
	for q.used > 0 && now.Sub(q.at(0).since) >= q.config.TTL {
		dropped = append(dropped, q.pop())
	}
	return dropped
}

func (q *Queue[T]) pop() T {
	slot := q.at(0)
	item := slot.item
	*slot = parked[T]{}
	q.first = (q.first + 1) % len(q.ring)
	q.used--
	return item
}

// at returns the place of the n-th oldest item.
func (q *Queue[T]) at(n int) *parked[T] {
	return &q.ring[(q.first+n)%len(q.ring)]
}

func (q *Queue[T]) grow() {
	const start = 8
	larger := make([]parked[T], min(max(start, 2*len(q.ring)), q.config.Max))
	n := copy(larger, q.ring[q.first:])
	copy(larger[n:], q.ring[:q.first])
	q.ring, q.first = larger, 0
}

func (q *Queue[T]) release(dropped []T) {
	for _, item := range dropped {
		q.expired(item)
	}
}
