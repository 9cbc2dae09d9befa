//go:build linux && !usher_portable

package endpoint

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// sendDescriptor sends one byte and a descriptor over c.
func sendDescriptor(c *net.UnixConn) error {
	_, _, err := c.WriteMsgUnix([]byte{1}, unix.UnixRights(int(os.Stdin.Fd())), nil)
	return err
}

// TestNobodySendsDescriptorsToABinding: closing what arrives unasked would be this
// process' work. The v1 handoff endpoint takes them, as it must.
func TestNobodySendsDescriptorsToABinding(t *testing.T) {
	if _, err := unix.GetsockoptInt(socket(t), unix.SOL_SOCKET, unix.SO_PASSRIGHTS); errors.Is(err, unix.ENOPROTOOPT) {
		t.Skip("this kernel can't refuse descriptors")
	}
	dir := shortDir(t)
	for name, c := range map[string]struct {
		bind  func(string) (*Binding, error)
		taken bool
	}{
		"broker":   {Bind, false},
		"adopted":  {func(path string) (*Binding, error) { return adopted(t, path) }, false},
		"backend":  {BindBackend, false},
		"handoffs": {BindHandoff, true},
	} {
		b, err := c.bind(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		dialled, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: b.Path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		defer dialled.Close()
		beforeAccept := sendDescriptor(dialled)
		accepted, err := b.Listener.AcceptUnix()
		if err != nil {
			t.Fatal(err)
		}
		defer accepted.Close()
		for when, err := range map[string]error{"before accept": beforeAccept, "after accept": sendDescriptor(dialled)} {
			if taken := err == nil; taken != c.taken || !taken && !errors.Is(err, unix.EPERM) {
				t.Errorf("%s, %s: sending says %v", name, when, err)
			}
		}
		// The other way nothing changes: a registration is answered with them.
		if err := sendDescriptor(accepted); err != nil {
			t.Errorf("%s: the owner can't send: %v", name, err)
		}
	}
}

// adopted is a Binding of a socket that was passed, with nobody in its queue: Adopt
// itself has connected once.
func adopted(t *testing.T, path string) (*Binding, error) {
	t.Helper()
	b, err := Adopt(path, passed(t, path), false)
	if err != nil {
		return nil, err
	}
	first, err := b.Listener.AcceptUnix()
	if err != nil {
		return nil, err
	}
	return b, first.Close()
}
