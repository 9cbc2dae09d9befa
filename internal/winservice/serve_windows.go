package winservice

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc"
)

// Creation is the command line that makes the program, and its arguments, a service of that
// name for the user who runs it, as cmd.exe has it.
func Creation(name string, program []string) string {
	path := strings.ReplaceAll(windows.ComposeCommandLine(program), `"`, `\"`)
	return `sc create ` + name + ` binPath= "` + path + `" start= auto obj= "%USERDOMAIN%\%USERNAME%" password= PASSWORD`
}

// Serve calls serve, which serves from the first moment on, until ctx ends. In a process that
// the service manager has started it tells that the service runs, and has the context of serve
// end when the service is stopped or the machine is shut down; the service has stopped when
// serve returns, with exit code 1 after an error.
func Serve(ctx context.Context, serve func(context.Context) error) error {
	managed, err := byManager()
	if err != nil {
		return fmt.Errorf("who has started this process: %w", err)
	}
	if !managed {
		return serve(ctx)
	}
	s := &service{ctx: ctx, serve: serve}
	err = svc.Run("", s) // the manager knows its name
	if errors.Is(err, windows.ERROR_FAILED_SERVICE_CONTROLLER_CONNECT) {
		return serve(ctx) // started by something else of that name
	}
	if err != nil {
		return errors.Join(fmt.Errorf("service manager: %w", err), s.err)
	}
	return s.err
}

// Managed reports whether it looks as if the service manager has started this process.
func Managed() bool {
	managed, err := byManager()
	return managed && err == nil
}

func byManager() (bool, error) {
	starter, err := parent()
	return strings.EqualFold(starter, "services.exe"), err
}

// parent is the file name of the program that has started this process; "" when that has
// ended. svc.IsWindowsService also wants it in session 0, where Wine has nobody.
func parent() (name string, err error) {
	all, err := windows.CreateToolhelp32Snapshot(windows.TH32CS_SNAPPROCESS, 0)
	if err != nil {
		return "", err
	}
	defer func() { _ = windows.CloseHandle(all) }()
	pid := uint32(os.Getppid())
	p := windows.ProcessEntry32{Size: uint32(unsafe.Sizeof(windows.ProcessEntry32{}))}
	for err = windows.Process32First(all, &p); err == nil; err = windows.Process32Next(all, &p) {
		if p.ProcessID == pid {
			return windows.UTF16ToString(p.ExeFile[:]), nil
		}
	}
	if errors.Is(err, windows.ERROR_NO_MORE_FILES) {
		err = nil
	}
	return "", err
}

type service struct {
	ctx   context.Context
	serve func(context.Context) error
	err   error // of serve, once Execute has returned
}

// stopHint is how long the manager should wait for the end; the server bounds that itself.
const stopHint = time.Minute

// Execute implements svc.Handler.
func (s *service) Execute(_ []string, asked <-chan svc.ChangeRequest, says chan<- svc.Status) (bool, uint32) {
	ctx, stop := context.WithCancel(s.ctx)
	defer stop()
	served := make(chan error, 1)
	go func() { served <- s.serve(ctx) }()
	now := svc.Status{State: svc.Running, Accepts: svc.AcceptStop | svc.AcceptShutdown}
	says <- now
	for {
		select {
		case s.err = <-served:
			if s.err != nil {
				return true, 1
			}
			return false, 0
		case c := <-asked:
			switch c.Cmd {
			case svc.Interrogate:
				says <- now
			case svc.Stop, svc.Shutdown:
				now = svc.Status{State: svc.StopPending, WaitHint: uint32(stopHint.Milliseconds())}
				says <- now
				stop()
			}
		}
	}
}
