package broker

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"

	"golang.org/x/mod/semver"

	"github.com/seed-7265657e/usher/internal/launch"
)

// The broker of a tool is as old as its first client. A client of a newer build has it
// replaced by that build, in place; one of an older build is served by the newer broker.

// image is the file of a program: which one, and when its content was made.
type image struct {
	id   string
	made time.Time
}

// imageOf is that of the file at path, of which the system has said fi.
func imageOf(path string, fi fs.FileInfo) (image, error) {
	id, err := launch.FileID(path, fi)
	return image{string(id), fi.ModTime()}, err
}

// newer keeps builds from being tried again and again.
type newer struct {
	own   image // this broker's
	tried map[string]bool
}

// maxTried bounds the builds that were tried; then all of them may be once more.
const maxTried = 64

// considerUpgrade has the broker give way to the build of a client that is newer than its
// own. The client is served as it would be without.
func (s *server) considerUpgrade(version string, p *program) {
	if s.opts.Version == "" || s.opts.Successor.Path == "" || s.successor != nil || s.draining || s.mayGiveWay() != nil {
		return
	}
	n := &s.newer
	if n.own.id == "" {
		own := launch.OwnImage(s.opts.Successor.Path)
		fi, err := os.Stat(own)
		if err == nil {
			n.own, err = imageOf(own, fi)
		}
		if err != nil {
			return
		}
	}
	later := semver.Compare("v"+version, "v"+s.opts.Version)
	if p.image.id == n.own.id || n.tried[p.image.id] || later < 0 || later == 0 && !p.image.made.After(n.own.made) {
		return
	}
	if n.tried == nil || len(n.tried) >= maxTried {
		n.tried = make(map[string]bool)
	}
	n.tried[p.image.id] = true
	file, err := launch.Duplicate(p.file)
	if err != nil {
		return
	}
	path, id, work := p.path, p.image.id, s.jobs.work
	s.jobs.wg.Go(func() {
		defer file.Close()
		_, err := s.upgradeTo(context.WithoutCancel(work), file, path) // what comes of it is an event
		if errors.Is(err, errHandsOn) || errors.Is(err, errUnderWay) { // which says nothing of this build
			s.jobs.post(func() { delete(n.tried, id) })
		}
	})
}
