package sock

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"
)

// Listener accepts from a named pipe without waiting. It is one goroutine's, but for Close.
type Listener struct {
	path     string
	security *windows.SecurityAttributes
	ready    windows.Handle // an event that is set while an instance may have a client

	mu        sync.Mutex
	instances []*instance // that wait for a client
	shut      bool
	closed    bool
}

// instance is one end of the pipe that waits for a client, or has one.
type instance struct {
	call windows.Overlapped // of ConnectNamedPipe
	fd   int
	err  error // why it waits no more; nil for a client
	done bool  // call is over
}

// instances is how many clients can connect before one is accepted; whoever comes then
// finds the pipe busy.
const instances = 16

// Listen makes the pipe at path and has it wait for clients of this machine, and of this
// user alone. With first it fails where the pipe is there already. The caller closes it.
func Listen(path string, first bool) (*Listener, error) {
	l, err := Prepare(path)
	if err != nil {
		return nil, err
	}
	var flags uint32
	if first {
		flags = windows.FILE_FLAG_FIRST_PIPE_INSTANCE
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shut = false
	if err = l.add(flags); err == nil {
		err = l.fill()
	}
	if err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// Prepare is Listen without the pipe, which Open makes; until then it is as after Shutdown.
func Prepare(path string) (_ *Listener, err error) {
	if err := CheckName(path); err != nil {
		return nil, err
	}
	l := &Listener{path: path, shut: true}
	if l.security, err = ownerOnly(); err != nil {
		return nil, err
	}
	if l.ready, err = windows.CreateEvent(nil, 1, 0, nil); err != nil {
		return nil, err
	}
	return l, nil
}

// Open makes the pipe, or joins another process that serves it, and has it wait for clients.
// Where it can't, Accept tries again, and says why.
func (l *Listener) Open() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.shut = false
		_ = l.fill()
	}
}

// createPipe makes an instance of the pipe at path, one of at most so many: of bytes, and
// for this machine. syscall.EAGAIN says that there are as many.
func createPipe(path string, security *windows.SecurityAttributes, flags, most uint32) (int, error) {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return -1, err
	}
	h, err := windows.CreateNamedPipe(name, windows.PIPE_ACCESS_DUPLEX|windows.FILE_FLAG_OVERLAPPED|flags,
		windows.PIPE_TYPE_BYTE|windows.PIPE_READMODE_BYTE|windows.PIPE_WAIT|windows.PIPE_REJECT_REMOTE_CLIENTS,
		most, room, room, 0, security)
	if errors.Is(err, windows.ERROR_PIPE_BUSY) {
		err = syscall.EAGAIN
	}
	if err != nil {
		return -1, fmt.Errorf("make pipe %s: %w", path, err)
	}
	serving.add(int(h))
	return int(h), nil
}

// OwnerName is the name of the pipe by which it is known that the one at path has an owner.
func OwnerName(path string) string { return path + "-owner" }

// HoldName makes this process the owner of path, until what it returns is closed. While
// another one is, the error is fs.ErrPermission or syscall.EAGAIN.
func HoldName(path string) (*FD, error) {
	if err := CheckName(path); err != nil {
		return nil, err
	}
	security, err := ownerOnly()
	if err != nil {
		return nil, err
	}
	fd, err := createPipe(OwnerName(path), security, windows.FILE_FLAG_FIRST_PIPE_INSTANCE, 1)
	if err != nil {
		return nil, err
	}
	return Own(fd), nil
}

// ownerOnly lets this process' user in and nobody else (spec 03 §2).
func ownerOnly() (*windows.SecurityAttributes, error) {
	user, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return nil, fmt.Errorf("user of this process: %w", err)
	}
	list, err := windows.SecurityDescriptorFromString("D:P(A;;GA;;;" + user.User.Sid.String() + ")")
	if err != nil {
		return nil, fmt.Errorf("access list of a pipe: %w", err)
	}
	return &windows.SecurityAttributes{Length: uint32(unsafe.Sizeof(windows.SecurityAttributes{})), SecurityDescriptor: list}, nil
}

// add makes one more instance. The caller holds mu.
func (l *Listener) add(flags uint32) error {
	fd, err := createPipe(l.path, l.security, flags, windows.PIPE_UNLIMITED_INSTANCES)
	if err != nil {
		return err
	}
	i := &instance{fd: fd, call: windows.Overlapped{HEvent: l.ready}}
	switch err := windows.ConnectNamedPipe(windows.Handle(fd), &i.call); {
	case errors.Is(err, windows.ERROR_IO_PENDING):
	case err == nil, errors.Is(err, windows.ERROR_PIPE_CONNECTED):
		i.done = true
	default: // who came has gone already
		i.done, i.err = true, err
	}
	l.instances = append(l.instances, i)
	return nil
}

// fill has as many instances wait as there should be. The caller holds mu.
func (l *Listener) fill() (err error) {
	for len(l.instances) < instances && err == nil && !l.shut {
		err = l.add(0)
	}
	l.note()
	return err
}

// note sets ready as it has to be: each call that begins resets it. The caller holds mu.
func (l *Listener) note() {
	_ = windows.ResetEvent(l.ready)       // first: who comes from now on sets it
	if len(l.instances) == 0 && !l.shut { // none could be made, which Accept tries again
		_ = windows.SetEvent(l.ready)
	}
	for _, i := range l.instances {
		if i.over() {
			_ = windows.SetEvent(l.ready)
			return
		}
	}
}

// over reports whether i waits no more.
func (i *instance) over() bool {
	if !i.done && atomic.LoadUintptr(&i.call.Internal) != uintptr(windows.STATUS_PENDING) {
		var n uint32
		i.done, i.err = true, windows.GetOverlappedResult(windows.Handle(i.fd), &i.call, &n, false)
	}
	return i.done
}

// Accept takes a connection that was made. It never waits: syscall.EAGAIN when there is
// none, and syscall.EINVAL when there is none and Shutdown has been called.
func (l *Listener) Accept() (*Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, opError("accept", syscall.EINVAL)
	}
	err := error(syscall.EAGAIN)
	for n := 0; n < len(l.instances); n++ {
		i := l.instances[n]
		if !i.over() {
			continue
		}
		l.instances = append(l.instances[:n], l.instances[n+1:]...)
		n--
		if i.err == nil {
			_ = l.fill() // else there are fewer, and it is tried again the next time
			return newConn(i.fd), nil
		}
		closeFD(i.fd) // who came has gone
	}
	if fillErr := l.fill(); fillErr != nil && len(l.instances) == 0 {
		err = fillErr
	}
	if l.shut {
		err = syscall.EINVAL
	}
	return nil, opError("accept", err)
}

// Shutdown has nobody connect from now on. Who has connected can still be accepted.
func (l *Listener) Shutdown() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shutdown()
	return nil
}

func (l *Listener) shutdown() {
	if l.shut {
		return
	}
	l.shut = true
	l.useUp()
	kept := l.instances[:0]
	for _, i := range l.instances {
		if !i.over() {
			_ = windows.CancelIoEx(windows.Handle(i.fd), &i.call) // fails where it has just ended
			for !i.over() {                                       // soon: the system has been told
				_, _ = windows.WaitForSingleObject(l.ready, 1)
			}
		}
		if _, gone := available(i.fd); i.err != nil || gone != nil {
			closeFD(i.fd)
			continue
		}
		kept = append(kept, i)
	}
	l.instances = kept
	l.note()
}

// useUp connects to each instance that waits, until none does: an instance that is cancelled
// and then closed could get a client in between, who would find the end of the stream. Clients
// are given the instances in the order in which they were made, so few of these connections
// reach another process, such as a successor that made its own later. The caller holds mu.
func (l *Listener) useUp() {
	left := l.waiting()
	for range 4 * instances {
		if left == 0 {
			return
		}
		fd, err := openPipe(l.path)
		if err != nil { // all have a client, or nothing is known
			return
		}
		pid, err := otherEnd(fd)
		closeFD(fd)
		own := err == nil && pid == windows.GetCurrentProcessId()
		before := left
		for range 100 { // it is told soon
			if left = l.waiting(); left < before || !own {
				break
			}
			windows.SleepEx(1, false)
		}
	}
}

// waiting is how many instances wait for a client. The caller holds mu.
func (l *Listener) waiting() (n int) {
	for _, i := range l.instances {
		if !i.over() {
			n++
		}
	}
	return n
}

// Close ends all, but for what was accepted. It may be called again.
func (l *Listener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.close()
	return nil
}

func (l *Listener) close() {
	if l.closed {
		return
	}
	l.closed = true
	l.shutdown()
	for _, i := range l.instances {
		closeFD(i.fd)
	}
	l.instances = nil
	_ = windows.CloseHandle(l.ready)
}

func (l *Listener) borrow() (int, bool) { return int(l.ready), true }

func (l *Listener) giveBack() {}

func (l *Listener) number() int { return int(l.ready) }
