package broker

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/seed-7265657e/usher/internal/blake3"
	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/frame"
	"github.com/seed-7265657e/usher/internal/launch"
	"github.com/seed-7265657e/usher/internal/peer"
	"github.com/seed-7265657e/usher/internal/registry"
	"github.com/seed-7265657e/usher/internal/service"
	"github.com/seed-7265657e/usher/internal/sock"
	"github.com/seed-7265657e/usher/internal/wire"
)

// A client may ask for an instance of its own build (docs/protocol.md, section "Own
// builds"). Which build that is the kernel says, not the client: the file that the process
// at the other end runs. No definition is needed, and none is looked for.
//
// A build is its file: device, inode, size and time of the last change of its content. An
// instance that runs keeps its file from being written to, and the inode from being used
// again, so that the same four are the same content; nothing has to be hashed.

// errOwnBuild begins every refusal of a client that asks for its own build.
var errOwnBuild = errors.New("own build")

// readOwnBuild is the job: which file the client runs, and which instance of it is wanted.
func readOwnBuild(conn *sock.Conn, name string, ownBuild []byte) reading {
	process, err := peer.OpenProcess(conn)
	if err != nil {
		return reading{err: fmt.Errorf("%w: %w", errOwnBuild, err)}
	}
	defer process.Close()
	return identifiedBuild(process, name, ownBuild)
}

// identifiedBuild is what a definition would say of what the process runs.
func identifiedBuild(process *peer.Process, name string, ownBuild []byte) reading {
	p, own, id, err := identify(process, ownBuild)
	if err != nil {
		return reading{err: fmt.Errorf("%w: %w", errOwnBuild, err)}
	}
	return reading{definition: ownDefinition(name, p, own, id)}
}

// ownInstance is what an instance of an own build is for.
type ownInstance struct {
	message []byte // the OwnBuild as it came
	build   *wire.OwnBuild
	file    [32]byte // names the content of the executable, whatever the instance is for
}

// ownDefinition is what a definition would say of a client's own build. It owns p.
func ownDefinition(name string, p *program, own *ownInstance, id [32]byte) *definition {
	p.env = append(p.env, launch.ToolVariable+"="+name)
	return &definition{
		service:  &service.Definition{ServiceDefinition: &wire.ServiceDefinition{ServiceName: name, BinaryPath: p.path}},
		instance: privateInstance(name),
		handoff:  service.HandoffPolicy{Enabled: service.On},
		build:    id,
		variant:  hex.EncodeToString(id[:8]),
		program:  p,
		own:      own,
	}
}

// privateInstance is the instance id of a service's private broker. Its name has been
// judged.
func privateInstance(name string) string {
	instance, err := endpoint.Private(name)
	if err != nil {
		return ""
	}
	return instance.String()
}

// identify opens what the process runs, and names the instances that two clients share:
// those of one file whose OwnBuild is the same. What would run with other rights than the
// user's is an error.
func identify(process *peer.Process, ownBuild []byte) (p *program, own *ownInstance, id [32]byte, err error) {
	build := new(wire.OwnBuild)
	if err := frame.Unmarshal(ownBuild, build); err != nil {
		return nil, nil, id, err
	}
	if build.Dir != "" && !filepath.IsAbs(build.Dir) {
		return nil, nil, id, fmt.Errorf("directory %q is no absolute path", build.Dir)
	}
	path, link, err := process.Executable()
	if err != nil {
		return nil, nil, id, err
	}
	file, err := os.Open(link)
	if err != nil {
		return nil, nil, id, fmt.Errorf("executable %s: %w", path, err)
	}
	fi, err := file.Stat()
	if err == nil {
		err = launch.CheckRights(file, fi)
	}
	var runs image
	if err == nil {
		runs, err = imageOf(link, fi)
	}
	if err == nil {
		err = process.Confirm(path)
	}
	if err != nil {
		_ = file.Close()
		return nil, nil, id, fmt.Errorf("executable %s: %w", path, err)
	}
	h := blake3.New()
	_, _ = h.Write([]byte(runs.id))
	_, _ = h.Write(binary.LittleEndian.AppendUint64(nil, uint64(fi.Size())))
	_, _ = h.Write(binary.LittleEndian.AppendUint64(nil, uint64(fi.ModTime().UnixNano())))
	own = &ownInstance{message: ownBuild, build: build, file: h.Sum()}
	h = blake3.New()
	_, _ = h.Write(own.file[:])
	_, _ = h.Write(ownBuild)
	return &program{
		path: path, file: file, image: runs, build: h.Sum(), dir: build.Dir, timeout: milliseconds(build.StartMs),
		env: append([]string{
			launch.RoleVariable + "=" + launch.RoleDaemon,
			endpoint.OwnBuildVariable + "=" + hex.EncodeToString(ownBuild),
		}, build.Env...),
	}, own, h.Sum(), nil
}

// verifyOwnBuild is verify for an instance of a tool, whose broker has ended or was
// replaced.
func verifyOwnBuild(r registrant) verification {
	if err := ownSocket(r.req.BackendPipe, r.pid); err != nil {
		return verification{err: fmt.Errorf("%w: backend pipe: %w", errUnverified, err)}
	}
	process, err := peer.OpenProcess(r.conn)
	if err != nil {
		return verification{err: fmt.Errorf("%w: %w", errUnverified, err), shortage: noDescriptor(err)}
	}
	p, own, id, err := identify(process, r.req.OwnBuild)
	if err != nil {
		process.Close()
		return verification{err: fmt.Errorf("%w: %w", errUnverified, err), shortage: noDescriptor(err)}
	}
	defer p.close()
	d := ownDefinition(r.req.ServiceName, p, own, id)
	e := &entry{
		Key: registry.Key{Instance: d.instance, Service: r.req.ServiceName, Version: r.req.ServiceVersion, Variant: d.variant},
		PID: process.PID(), ExePath: p.path, ExeHash: id,
		Pipe: r.req.BackendPipe, Since: time.Now(), Handle: newBackend(process, own),
	}
	e.Handle.renews = renewed(e, r.own)
	return verification{entry: e}
}
