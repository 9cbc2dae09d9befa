package usher

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/errno"
	"github.com/seed-7265657e/usher/internal/launch"
	"github.com/seed-7265657e/usher/internal/logfile"
)

// startBroker makes sure that a broker serves at the tool's socket: this process starts
// one, or another has. The lock is held until that one serves or has ended, so that nobody
// finds neither lock nor broker.
func (t *Tool) startBroker(ctx context.Context) error {
	socket, err := t.socket()
	if err != nil {
		return err
	}
	lock, err := endpoint.LockStart(ctx, socket)
	if err != nil || lock == nil {
		return err
	}
	defer func() { _ = lock.Unlock() }()
	switch c, err := endpoint.DialNow(socket); { // another may have been faster
	case err == nil:
		return c.Close()
	case errors.Is(err, errno.EAGAIN): // and has much to do
		return nil
	}
	if err := t.launchBroker(ctx); err != nil {
		return fmt.Errorf("start the broker of %s: %w", t.Name, err)
	}
	return nil
}

// launchBroker starts this very executable as the tool's broker, and waits until it
// serves.
func (t *Tool) launchBroker(ctx context.Context) error {
	state, err := t.ensureState()
	if err != nil {
		return err
	}
	self, path, err := openSelf()
	if err != nil {
		return err
	}
	defer self.Close()
	log, err := logfile.Open(brokerLog(state))
	if err != nil {
		return err
	}
	defer log.Close()
	written, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	ready, told, err := os.Pipe()
	if err != nil {
		return err
	}
	p, err := launch.Start(launch.Spec{
		Program: self, Path: path,
		Env:    t.brokerEnv(t.IdleTimeout),
		Output: log, Inherit: []*os.File{told}, Numbers: launch.StarterVariable,
	})
	_ = told.Close()
	if err != nil {
		return errors.Join(err, ready.Close())
	}
	go func() { _, _ = p.Wait(context.Background()) }() // until the broker ends: it outlives this call, and must not stay a zombie
	word, err := readWord(ctx, ready)
	switch {
	case err != nil:
		return errors.Join(err, errors.New("it has not said that it serves; its log is "+log.Name()))
	case word == readyWord:
		return nil
	case word != "":
		return fmt.Errorf("%s; its log is %s", logfile.OneLine(word), log.Name())
	}
	exit, err := p.Wait(ctx)
	if err != nil {
		return err
	}
	return ended(exit, log.Name(), written)
}

// checkSelf is nil where this process may be broker or daemon.
func checkSelf() error {
	self, _, err := openSelf()
	if err != nil {
		return err
	}
	return self.Close()
}

// openSelf opens the file that this process runs, which must give it no other rights than
// its user's: whoever calls it has chosen its environment, which says where broker and
// daemon write. The caller closes it.
func openSelf() (self *os.File, path string, err error) {
	if path, err = os.Executable(); err != nil {
		return nil, "", err
	}
	if self, err = os.Open(launch.OwnImage(path)); err != nil {
		return nil, "", err
	}
	fi, err := self.Stat()
	if err == nil {
		err = launch.CheckRights(self, fi)
	}
	if err != nil {
		return nil, "", errors.Join(fmt.Errorf("executable %s: %w", path, err), self.Close())
	}
	return self, path, nil
}

// ended says how a process ended before it served, and what it said behind byte from of
// its log.
func ended(exit launch.Exit, log string, from int64) error {
	if last := logfile.Last(log, from); last != "" {
		return fmt.Errorf("it %v: %s; its log is %s", exit, logfile.OneLine(last), log)
	}
	return fmt.Errorf("it %v and said nothing; its log is %s", exit, log)
}

// readWord reads readyWord, or from to its end, until ctx ends, and closes it. Where pipes have
// no deadlines a read that is under way by then goes on until the broker serves, or has ended.
func readWord(ctx context.Context, from *os.File) (string, error) {
	type result struct {
		text []byte
		err  error
	}
	read := make(chan result, 1)
	go func() {
		defer from.Close()
		in := bufio.NewReader(io.LimitReader(from, 4<<10))
		text, err := in.ReadBytes('\n')
		switch {
		case err == io.EOF:
			err = nil
		case err == nil && string(text) != readyWord: // of an error that has several lines
			var rest []byte
			rest, err = io.ReadAll(in)
			text = append(text, rest...)
		}
		read <- result{text, err}
	}()
	select {
	case r := <-read:
		return string(r.text), r.err
	case <-ctx.Done():
		_ = from.SetReadDeadline(time.Unix(1, 0))
		return "", ctx.Err()
	}
}
