//go:build unix

package endpoint

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// maxLinks bounds the symbolic links followed on the way to one directory, as
// the kernel does.
const maxLinks = 40

// checkAbove judges every directory on the way to dir, from the root: whoever may
// rename entries of one could swap dir for his own. Symbolic links are followed
// one by one, so that the directories that hold them are judged too. The error
// is fs.ErrNotExist at the first level that is missing, when all above it is good.
func checkAbove(dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	level, links := "/", 0
	for rest := split(filepath.Dir(dir)); ; rest = rest[1:] {
		fi, err := os.Lstat(level)
		if err != nil {
			return err
		}
		if err := judgeLevel(level, fi.Mode(), owner(fi), os.Geteuid()); err != nil {
			return err
		}
		if fi.Mode()&fs.ModeSymlink != 0 {
			if links++; links > maxLinks {
				return &InsecureDirError{Path: dir, Reason: "lies behind too many symbolic links", Fix: "name the directory itself"}
			}
			target, err := os.Readlink(level)
			if err != nil {
				return err
			}
			level = filepath.Dir(level)
			if filepath.IsAbs(target) {
				level = "/"
			}
			rest = append(split(target), rest...)
		}
		if len(rest) == 0 {
			return nil
		}
		level = filepath.Join(level, rest[0]) // level is free of links: ".." is its real parent
	}
}

func split(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
}

// judgeLevel judges one level above a socket's directory, or a symbolic link
// there, whose mode means nothing. Root's own groups are trusted as root is.
func judgeLevel(path string, mode fs.FileMode, uid, self int) error {
	if uid != 0 && uid != self {
		return foreignTo(path, uid, self)
	}
	if !mode.IsDir() || mode&fs.ModeSticky != 0 {
		return nil
	}
	who, class := "", ""
	switch open := mode.Perm() & 0o022; {
	case open&0o002 != 0:
		who, class = "everyone", "go"
	case open != 0 && uid != 0:
		who, class = "its group", "g"
	default:
		return nil
	}
	return &InsecureDirError{
		Path: path, Reason: fmt.Sprintf("lets %s replace its entries (mode %04o)", who, mode.Perm()),
		Fix: fmt.Sprintf("run chmod %s-w %s, or choose another directory", class, path),
	}
}
